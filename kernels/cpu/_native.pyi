"""What bindings.cpp offers. Only kernels/cpu/ops.py, the tokenizer, tests and benchmarks look in here."""

from typing import Any

import numpy as np

class PackedMatrix:
    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...  # of the tiles, which end at a page nobody may touch (guarded_memory.h)
    @property
    def n_out(self) -> int: ...
    @property
    def n_in(self) -> int: ...

class Backend:
    def __init__(self, n_threads: int, isa: str, planes: int = 1) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def n_threads(self) -> int: ...
    def pack(self, type: str, n_out: int, n_in: int, data: np.ndarray) -> PackedMatrix: ...
    def first_nonfinite_row(self, type: str, n_out: int, n_in: int, data: np.ndarray) -> int: ...
    def __getattr__(self, name: str) -> Any: ...  # the ops, called with arrays only

class Ceilings:
    """What this machine can do at most (kernels/cpu/ceilings.h). loop: trellis, dots or fmas."""

    def __init__(self, n_threads: int, isa: str) -> None: ...
    def run(self, loop: str, n: int) -> None: ...
    def loops(self, n_loops: int, n_chunks: int) -> int: ...  # empty parallel loops; how many chunks ran
    def read(self, bytes: np.ndarray) -> None: ...

def record_layout(name: str) -> dict[str, tuple[int, int]]: ...  # of a C++ struct: field -> offset, bytes
def record_size(name: str) -> int: ...
def choice_steps() -> dict[str, int]: ...
def logprob_columns() -> int: ...

class SpmMerger:
    """SentencePiece's BPE (kernels/cpu/text/spm_merge.h), without the interpreter's lock.

    texts: what merging may give, each once, none empty; ids, scores and unused of the same length. byte_ids: 256
    entries, -1 where a byte has no token; unk_id -1 for none. before_space: the characters that may stand before a
    space mark inside a token.
    """

    def __init__(
        self,
        texts: list[str],
        ids: list[int],
        scores: list[float],
        unused: list[bool],
        byte_ids: list[int],
        unk_id: int,
        before_space: list[str],
    ) -> None: ...
    def encode(self, text: str) -> list[int]: ...

class TokenFinder:
    """Token texts in a text, the longest at each place (kernels/cpu/text/token_finder.h), without the lock."""

    def __init__(self, texts: list[str], ids: list[int]) -> None: ...
    def find(self, text: str, start: int, end: int, overlapping: bool) -> list[tuple[int, int, int]]: ...

def isa_tiers() -> list[str]: ...
def kv_bytes(kv_type: str, block_size: int, head_dim: int) -> tuple[int, int]: ...
