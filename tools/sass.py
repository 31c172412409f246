"""Machine code as text: the instructions of a kernel, its loops, and what kinds of work they do."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

#: Opcode, up to its first dot -> the kind of work (CUDA binary utilities, instruction set reference). IMAD is counted
#: apart from other integer work because it shares the half-rate pipe with IDP, the byte dot product.
KINDS = {
    "multiply": ("IMAD", "IMUL", "UIMAD"),
    "dp4a": ("IDP", "IDP4A"),
    "logic": ("LOP3", "ULOP3", "PLOP3", "SHF", "USHF", "PRMT", "UPRMT", "SGXT", "BMSK", "VABSDIFF4", "LOP"),
    "add": ("IADD3", "UIADD3", "LEA", "ULEA", "IADD", "VIADD", "IABS", "VIADDMNMX", "VIMNMX", "IMNMX"),
    "tensor": ("IMMA", "HMMA", "MMA"),
    "float": ("FFMA", "FMUL", "FADD", "HADD2", "HFMA2", "HMUL2", "FMNMX", "MUFU", "FSEL", "FSETP"),
    "convert": ("I2F", "F2I", "I2FP", "F2F", "F2FP", "I2I", "FRND"),
    "global": ("LDG", "STG", "LD", "ST", "LDGSTS", "LDGDEPBAR", "ATOMG", "RED", "CCTL"),
    "shared": ("LDS", "STS", "LDSM", "ATOMS", "LDC", "ULDC", "LDCU"),
    "warp": ("SHFL", "VOTE", "REDUX", "MATCH", "BAR", "WARPSYNC", "DEPBAR", "NOP", "BSYNC", "BSSY", "BREAK"),
    "move": ("MOV", "UMOV", "SEL", "USEL", "CS2R", "S2R", "S2UR", "R2UR", "P2R", "R2P", "HFMA2.MMA"),
    "branch": ("BRA", "ISETP", "UISETP", "EXIT", "CALL", "RET", "BRX", "JMP"),
}
_KIND_OF = {opcode: kind for kind, opcodes in KINDS.items() for opcode in opcodes}

_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\w+),")
_LABEL = re.compile(r"^(\.L_\w+):")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);")
_TARGET = re.compile(r"\(?(\.L_\w+)\)?")


class Instruction(NamedTuple):
    opcode: str  # with its modifiers: IMAD.MOV.U32
    operands: str

    @property
    def kind(self) -> str:
        """A register move that the assembler writes as a multiply is a move: IMAD.MOV, IMAD.U32 of one operand."""
        if self.opcode.startswith(("IMAD.MOV", "HFMA2.MMA")):
            return "move"
        if self.opcode.startswith(("IMAD.SHL", "IMAD.IADD")):
            return "multiply"  # a shift or an add, but on the multiplier's pipe
        return _KIND_OF.get(self.opcode.partition(".")[0], "other")


class Loop(NamedTuple):
    """From a label to a branch back to it. `contains` counts the loops inside."""

    instructions: tuple[Instruction, ...]
    contains: int

    def kinds(self) -> Counter[str]:
        return Counter(instruction.kind for instruction in self.instructions)

    @property
    def multiplies_bytes(self) -> bool:
        return not {"tensor", "dp4a"}.isdisjoint(self.kinds())


class Kernel:
    """The instructions of one kernel in order, and where its labels are."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}  # label -> index of the instruction after it

    def loops(self) -> list[Loop]:
        """Every branch back, except the endless one after a kernel's end, in order of their ends."""
        spans = []
        for end, instruction in enumerate(self.instructions):
            target = _TARGET.search(instruction.operands) if instruction.opcode.startswith("BRA") else None
            start = self.labels.get(target[1], end + 1) if target else end + 1
            if start < end:
                spans.append((start, end + 1))
        return [
            Loop(
                tuple(self.instructions[start:end]),
                sum(start <= s and e <= end for s, e in spans) - 1,
            )
            for start, end in spans
        ]

    def main_loop(self) -> Loop:
        """The largest loop of those with products of bytes, else the largest. Raises ValueError without a loop."""
        loops = self.loops()
        if not loops:
            raise ValueError("the kernel has no loop")
        return max(loops, key=lambda loop: (loop.multiplies_bytes, len(loop.instructions)))


def kernels_in(text: str) -> dict[str, Kernel]:
    """The kernels of a disassembly by nvdisasm."""
    kernels: dict[str, Kernel] = {}
    current = None
    for line in text.splitlines():
        if section := _SECTION.match(line):
            current = kernels.setdefault(section[1], Kernel())
        elif current is None:
            continue
        elif label := _LABEL.match(line):
            current.labels[label[1]] = len(current.instructions)
        elif instruction := _INSTRUCTION.match(line):
            current.instructions.append(Instruction(instruction[1], instruction[2].strip()))
    return kernels


def disassemble(cubin: bytes) -> str:
    """Raises FileNotFoundError where there is no nvdisasm, RuntimeError with its words for a file it cannot read."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        result = subprocess.run([nvdisasm(), "-c", file.name], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"nvdisasm: {result.stderr.strip()}")
    return result.stdout


def nvdisasm() -> str:
    """Its path: of the wheel in this environment, else on the PATH, else of an installed toolkit."""
    spec = find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    wheel = sorted(path for folder in folders for path in folder.glob("*/bin/nvdisasm"))
    toolkit = [path for path in (Path("/usr/local/cuda/bin/nvdisasm"),) if path.exists()]
    found = [*map(str, wheel), shutil.which("nvdisasm"), *map(str, toolkit)]
    for path in filter(None, found):
        return path
    raise FileNotFoundError(
        f"no nvdisasm, neither in {sys.prefix} nor on the PATH; pip install nvidia-cuda-nvdisasm brings it"
    )
