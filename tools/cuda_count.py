"""Machine instructions per weight of the hot kernels, counted in their main loops.

    python -m tools.cuda_count [--arch sm_90] [MODULE ...]

On server GPUs instructions, not bytes, bound the decoding of KT weights (docs of the kernels say which). The main
loop is the largest one; both sides of a branch inside it count, and a loop inside it counts once, which is said.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from kernels.cuda.compile import MODULES, KernelModule
from kernels.cuda.nvrtc import NvrtcError
from tools import sass
from tools.cuda_compile import CACHE, compiled

#: ik_llama.cpp's mat-vec kernels, counted in the same way on sm_90 by this project's measurements.
PEER_PER_WEIGHT = {"IQ1_KT": 6.3, "IQ2_KT": 5.4, "IQ3_KT": 10.4, "IQ4_KT": 7.3}


class Count(NamedTuple):
    """One hot kernel."""

    module: str
    kernel: str
    n_weights: int  # per thread and trip
    loop: sass.Loop

    @property
    def per_weight(self) -> float:
        return len(self.loop.instructions) / self.n_weights

    def of_kind(self, kind: str) -> float:
        return self.loop.kinds()[kind] / self.n_weights


def counts(module: KernelModule, arch: str, cache: Path = CACHE) -> Iterator[Count]:
    """Of the kernels that declare how many weights a trip takes in. Raises NvrtcError, FileNotFoundError."""
    if not module.weights_per_iteration:
        return
    cubin, _ = compiled(module, arch, cache)
    kernels = sass.kernels_in(sass.disassemble(cubin))
    for kernel, n_weights in module.weights_per_iteration.items():
        yield Count(module.name, kernel, n_weights, kernels[kernel].main_loop())


def table(found: list[Count], arch: str) -> Table:
    """A line per kernel, the peer's figure beside it, and per weight how many of which kind."""
    kinds = [kind for kind in (*sass.KINDS, "other") if any(count.of_kind(kind) for count in found)]
    result = Table("module", "kernel", "weights", "per weight", "peer", *kinds, title=f"instructions, {arch}")
    for count in found:
        inner = f" + {count.loop.contains} loops" if count.loop.contains else ""
        peer = next((f"{n}" for name, n in PEER_PER_WEIGHT.items() if count.module.endswith(name)), "")
        per_kind = [f"{count.of_kind(kind):.2f}" for kind in kinds]
        result.add_row(
            count.module,
            count.kernel,
            f"{count.n_weights}",
            f"{count.per_weight:.2f}{inner}",
            peer,
            *per_kind,
        )
    return result


def main(
    modules: Annotated[list[str] | None, typer.Argument(help="module names; all of them by default")] = None,
    arch: Annotated[str, typer.Option(help="architecture")] = "sm_90",
) -> None:
    """Count the machine instructions per weight of the hot CUDA kernels."""
    unknown = [name for name in modules or () if name not in MODULES]
    if unknown:
        raise typer.BadParameter(f"no module {', '.join(unknown)}; there are {', '.join(MODULES)}")
    try:
        found = [count for name in modules or MODULES for count in counts(MODULES[name], arch)]
    except (NvrtcError, FileNotFoundError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    Console(width=180).print(table(found, arch))


if __name__ == "__main__":
    typer.run(main)
