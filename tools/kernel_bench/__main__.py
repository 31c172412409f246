"""The command; the package's docstring says what it does."""

import os
from pathlib import Path
from typing import Annotated

import typer

from kernels.cpu import _native
from kernels.quant_tensor import TYPES
from tools.backends import machine_line
from tools.kernel_bench.cases import (
    BATCHES,
    CACHE_STATES,
    KT_TYPES,
    MODELS,
    SMALL,
    Case,
    Selection,
    projections,
    quick,
    whole,
)
from tools.kernel_bench.report import print_summary
from tools.kernel_bench.rows import Row, write_csv
from tools.kernel_bench.runner import WorkerError, measure
from tools.progress import progress_bar

OUT = Path("build/kernel_bench")


def main(
    quick_run: Annotated[
        bool, typer.Option("--quick", help="A selection that takes well under a minute.")
    ] = False,
    types: Annotated[str, typer.Option(help="Tensor types, with commas between; all: every one.")] = "",
    shapes: Annotated[str, typer.Option(help="Such as llama-0.85b.ffn_up or 5632x2048, with commas.")] = "",
    tiers: Annotated[str, typer.Option(help="scalar, avx2, avx512vnni, with commas.")] = "",
    batches: Annotated[str, typer.Option(help="Tokens in a call, with commas.")] = "",
    threads: Annotated[str, typer.Option(help="Thread counts, with commas.")] = "",
    caches: Annotated[str, typer.Option(help="cold, hot, with commas.")] = "",
    contexts: Annotated[str, typer.Option(help="Cached tokens of attention cases, with commas.")] = "",
    models: Annotated[str, typer.Option(help="Whose heads attention has, with commas.")] = "",
    seconds: Annotated[float, typer.Option(min=0.0, help="Time for each case.")] = 0.05,
    out: Annotated[Path, typer.Option(help="Folder of kernels.csv and kernels.png.")] = OUT,
) -> None:
    """Speed of the CPU kernels, and its share of what this machine can do.

    With any of the choices, only these are measured: every combination of them.
    """
    available, n_cpus = tuple(_native.isa_tiers()), len(os.sched_getaffinity(0))
    if types or shapes or tiers or batches or threads or caches or contexts or models:
        chosen = Selection(
            tiers=_names(tiers, available) or available[-1:],
            types=tuple(TYPES) if types == "all" else _names(types, TYPES) or (() if contexts else KT_TYPES),
            shapes=tuple(map(_shape, _split(shapes))) or (SMALL,),
            batches=_numbers(batches) or BATCHES,
            threads=_numbers(threads) or (1,),
            caches=_names(caches, CACHE_STATES) or ("cold",),
            models=_names(models, MODELS) or MODELS,
            contexts=_numbers(contexts),
        )
        selections = [chosen]
    else:
        selections = quick(available, n_cpus) if quick_run else whole(available, n_cpus)
    cases = sorted(
        dict.fromkeys(case for selection in selections for case in selection.cases()),
        key=lambda pair: available.index(pair[0]),
    )
    raise typer.Exit(_run(cases, seconds, out))


def _run(cases: list[tuple[str, Case]], seconds: float, out: Path) -> int:
    """Exit status. What was measured is written whatever ends the run."""
    rows: list[Row] = []
    status = 0
    try:
        typer.echo(f"{machine_line()}; {len(cases)} cases")
        with progress_bar("measuring") as report:
            for row in measure(cases, seconds):
                rows.append(row)
                report(len(rows), len(cases))
    except KeyboardInterrupt:
        typer.echo(f"stopped after {len(rows)} of {len(cases)} cases", err=True)
        status = 130
    except WorkerError as error:
        typer.echo(f"kernel_bench: {error}", err=True)
        status = 1
    print_summary(rows)
    try:
        _write(rows, out)
    except OSError as error:
        typer.echo(f"kernel_bench: {out} cannot be written: {error.strerror or error}", err=True)
        return status or 2
    return status


def _write(rows: list[Row], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "kernels.csv", rows)
    typer.echo(f"{out / 'kernels.csv'}: {len(rows)} lines")
    try:
        from tools.kernel_bench.plot import write_plot
    except ImportError:
        typer.echo("no picture: matplotlib is not installed")
        return
    if write_plot(out / "kernels.png", rows):
        typer.echo(out / "kernels.png")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _names(text: str, known: object) -> tuple[str, ...]:
    names = tuple(_split(text))
    for name in names:
        if name not in known:  # type: ignore[operator]
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(known)}")  # type: ignore[arg-type]
    return names


def _numbers(text: str) -> tuple[int, ...]:
    parts = _split(text)
    if any(not part.isdigit() or int(part) < 1 for part in parts):
        raise typer.BadParameter(f"{text!r} is not a list of numbers above zero")
    return tuple(map(int, parts))


def _shape(text: str) -> tuple[int, int]:
    """A projection's name, or ROWSxCOLUMNS with columns a multiple of 256, which every type's rows can be."""
    known = projections()
    rows, _, columns = text.partition("x")
    if text in known:
        return known[text]
    if not (rows.isdigit() and columns.isdigit() and int(rows) and int(columns) and int(columns) % 256 == 0):
        raise typer.BadParameter(
            f"{text!r} is neither ROWSxCOLUMNS (columns a multiple of 256) nor one of {', '.join(known)}"
        )
    return int(rows), int(columns)


if __name__ == "__main__":
    typer.run(main)
