"""Every CUDA kernel compiled for every architecture without a GPU: its registers, its memory, and no spills.

    python -m tools.cuda_compile [--arch sm_90] [--all | MODULE ...]

Exit status 1 where a hot kernel spills, needs local memory or calls a function. Results are kept in
build/cuda_compile under a digest of all they were made of, so only what changed is compiled again.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from kernels.cuda import nvrtc, sources
from kernels.cuda.compile import MODULES, SOURCE_FOLDER, KernelModule

#: Ampere, Ada, Hopper, Blackwell for consumers: what the CUDA backend serves on.
ARCHS = ("sm_80", "sm_89", "sm_90", "sm_120")
#: Stacks of other types in file rows are compiled with --all: they are the same templates, and many builds.
STACKED_TYPES = ("Q8_0", "Q6_K", "Q4_K", "IQ6_K", "IQ5_KS", "IQ4_KS", "IQ2_KL", "IQ3_XXS")
CACHE = Path("build/cuda_compile")  # of the checkout that it is run in


class Resources(NamedTuple):
    """What ptxas says one kernel takes, per thread, shared memory per block."""

    registers: int
    shared_bytes: int
    stack_bytes: int  # local memory: arrays whose index is not known at compile time, and spilled registers
    spill_bytes: int  # stores and loads
    called: tuple[str, ...]  # functions that were not inlined, by mangled name

    def faults(self) -> list[str]:
        """What a hot kernel should not need, in words."""
        found = []
        if self.stack_bytes or self.spill_bytes:
            found.append(
                f"{self.stack_bytes} bytes of local memory, {self.spill_bytes} bytes moved by spills"
            )
        if self.called:
            found.append(f"calls of {', '.join(self.called)}")
        return found


Report = dict[str, Resources]  # one module for one architecture, by kernel


def faults(module: KernelModule, report: Report) -> list[str]:
    """What is wrong with one module's build, in words."""
    missing = [f"{kernel} is not in it" for kernel in module.kernels if kernel not in report]
    hot = [kernel for kernel in hot_kernels(module) if kernel in report]
    return missing + [f"{kernel} needs {fault}" for kernel in hot for fault in report[kernel].faults()]


def hot_kernels(module: KernelModule) -> list[str]:
    return [k for k in module.kernels if k in module.hot or k in module.weights_per_iteration]


_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_PROPERTIES = re.compile(
    r"Function properties for (\w+)\n\D*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
)
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


def parse_report(log: str) -> Report:
    """From the log of a compilation with --ptxas-options=-v: a paragraph per kernel, the functions it calls in it."""
    report = {}
    _, *paragraphs = re.split(r"(?=ptxas info\s*: Compiling entry function)", log)
    for paragraph in paragraphs:
        used = _found(_USED, paragraph)
        functions = {name: [int(n) for n in numbers] for name, *numbers in _PROPERTIES.findall(paragraph)}
        kernel = _found(_ENTRY, paragraph)[1]
        stack, stores, loads = functions.pop(kernel)
        report[kernel] = Resources(int(used[1]), int(used[2] or 0), stack, stores + loads, tuple(functions))
    return report


def _found(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.search(text)
    if match is None:
        raise ValueError(f"the compiler's report has no {pattern.pattern!r}:\n{text}")
    return match


def compiled(module: KernelModule, arch: str, cache: Path = CACHE) -> tuple[bytes, Report]:
    """Machine code and report, from the cache or compiled now. Raises NvrtcError."""
    source = SOURCE_FOLDER / module.source
    files = sources.included_files(source, [nvrtc.INCLUDE_ROOT])
    key = sources.digest(files, arch, str(nvrtc.version()), *nvrtc.OPTIONS, *module.defines)
    path = cache / f"{module.name}-{arch}-{key}"
    cubin, log = path.with_suffix(".cubin"), path.with_suffix(".json")
    if not log.exists():
        result = nvrtc.compile_cubin(source, module.defines, arch)
        cache.mkdir(parents=True, exist_ok=True)
        _replace(cubin, result.cubin)
        _replace(log, json.dumps(result.log).encode())
    return cubin.read_bytes(), parse_report(json.loads(log.read_text()))


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def compile_all(
    modules: Iterable[KernelModule], archs: Sequence[str], cache: Path = CACHE
) -> dict[tuple[str, str], Report]:
    """(module name, arch) -> report, compiled in as many processes as there are CPUs. Raises NvrtcError."""
    jobs = [(module, arch) for module in modules for arch in archs]
    n_processes = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        reports = pool.map(_report, *zip(*jobs, strict=True), [cache] * len(jobs))
        return {(module.name, arch): report for (module, arch), report in zip(jobs, reports, strict=True)}


def _report(module: KernelModule, arch: str, cache: Path) -> Report:
    return compiled(module, arch, cache)[1]


def table(reports: dict[tuple[str, str], Report], archs: Sequence[str]) -> Table:
    """A line per kernel; per architecture its registers and, where there is any, its local memory."""
    result = Table("module", "kernel", "shared", *archs, title="registers per thread")
    for name in dict.fromkeys(module for module, _ in reports):
        for kernel in reports[name, archs[0]]:
            found = [reports[name, arch][kernel] for arch in archs]
            mark = "*" if kernel in hot_kernels(MODULES[name]) else ""
            cells = [f"{r.registers}" + (f" +{r.stack_bytes} B" if r.stack_bytes else "") for r in found]
            result.add_row(name, kernel + mark, f"{max(r.shared_bytes for r in found)}", *cells)
    return result


def usual_modules() -> list[str]:
    """All but stacks in file rows of types that are not among STACKED_TYPES."""
    rows = "stack_rows_"
    return [n for n in MODULES if not n.startswith(rows) or n.removeprefix(rows) in STACKED_TYPES]


def main(
    modules: Annotated[list[str] | None, typer.Argument(help="module names; nearly all by default")] = None,
    arch: Annotated[list[str], typer.Option(help="architectures")] = list(ARCHS),  # noqa: B006 - typer reads it
    every: Annotated[bool, typer.Option("--all", help="also stacks of types that few files have")] = False,
) -> None:
    """Compile the CUDA kernels and print what they take."""
    unknown = [name for name in modules or () if name not in MODULES]
    if unknown:
        raise typer.BadParameter(f"no module {', '.join(unknown)}; there are {', '.join(MODULES)}")
    chosen = [MODULES[name] for name in modules or (MODULES if every else usual_modules())]
    try:
        reports = compile_all(chosen, arch)
    except nvrtc.NvrtcError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    Console(width=140).print(table(reports, arch))
    found = [
        f"{name}, {arch_name}: {fault}"
        for (name, arch_name), report in reports.items()
        for fault in faults(MODULES[name], report)
    ]
    for fault in found:
        typer.echo(fault, err=True)
    typer.echo(f"{len(reports)} builds; * is hot and may not spill; {len(found)} faults")
    raise typer.Exit(1 if found else 0)


if __name__ == "__main__":
    typer.run(main)
