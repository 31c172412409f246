"""Where a decode step's time goes on a GPU, kernel by kernel, and how far from the memory bound it is.

Each kernel's launches of one step are timed as a graph of their own: over all layers, so the weights come from memory
as they do in a step, and with the gaps between launches that a recorded step has. The whole step is one graph too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from engine import LoadedModel
from kernels.cuda.device import Device, Launch
from kernels.cuda.traffic import traffic_of
from tools.cuda_timing import Timer, figure, json_figure
from tools.model_runs import SequenceRuns

PROMPT_CHUNK = 512  # tokens in one pass while the context is filled


@dataclass(frozen=True)
class KernelTime:
    """One kernel on one shape, its launches of a step together. n_bytes: 0 where it reads no weights."""

    name: str
    n_launches: int
    us: float
    n_bytes: int

    @property
    def bytes_per_second(self) -> float:
        return 1e6 * self.n_bytes / self.us


@dataclass(frozen=True)
class StepProfile:
    """One decode step of one sequence after `depth` tokens. read_bandwidth: bytes per second, measured beside it."""

    depth: int
    kernels: list[KernelTime]
    step_us: float  # as one graph
    read_bandwidth: float

    @property
    def n_bytes(self) -> int:
        return sum(kernel.n_bytes for kernel in self.kernels)

    @property
    def floor_us(self) -> float:
        """What the step would take if memory were all that bounds it."""
        return 1e6 * self.n_bytes / self.read_bandwidth

    def as_json(self) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "step_us": json_figure(self.step_us, 2),
            "memory_floor_us": json_figure(self.floor_us, 2),
            "read_gb_per_second": json_figure(self.read_bandwidth / 1e9, 1),
            "kernels": [
                {
                    "kernel": kernel.name,
                    "launches": kernel.n_launches,
                    "us": json_figure(kernel.us, 2),
                    "bytes": kernel.n_bytes,
                }
                for kernel in self.kernels
            ],
        }


def profile_step(loaded: LoadedModel, device: Device, depth: int, kv_type: str) -> StepProfile:
    """device: that of the model's backend."""
    groups: dict[str, list[Launch]] = {}
    runs = SequenceRuns(loaded, 1, depth + 1, kv_type)  # its cache is used until the last replay
    launches = _launches_of_step(loaded, device, runs, depth)
    for launch in launches:
        groups.setdefault(_name(launch), []).append(launch)
    timer = Timer(device)
    kernels = [
        KernelTime(name, len(group), timer.us(group), sum(_bytes(launch) for launch in group))
        for name, group in groups.items()
    ]
    profile = StepProfile(depth, kernels, timer.us(launches), timer.read_bandwidth())
    del runs
    return profile


def print_profile(profile: StepProfile, out: Console) -> None:
    table = Table(
        Column("kernel", no_wrap=True),
        "launches",
        "us each",
        "us a step",
        "GB/s",
        "of the memory bound",
        title=_title(profile),
    )
    for kernel in sorted(profile.kernels, key=lambda kernel: -kernel.us):
        speeds = ("", "")
        if kernel.n_bytes:
            share = kernel.bytes_per_second / profile.read_bandwidth
            speeds = (figure(kernel.bytes_per_second / 1e9, ".0f"), figure(share, ".0%"))
        each = figure(kernel.us / kernel.n_launches, ".2f")
        table.add_row(kernel.name, f"{kernel.n_launches}", each, figure(kernel.us, ".1f"), *speeds)
    out.print(table)
    total = sum(kernel.us for kernel in profile.kernels)
    out.print(
        f"one graph: {figure(profile.step_us, '.1f')} us a step (its kernels apart: {figure(total, '.1f')}); "
        f"memory bound: {figure(profile.floor_us, '.1f')} us for {profile.n_bytes / 2**20:.1f} MiB at "
        f"{figure(profile.read_bandwidth / 1e9, '.0f')} GB/s, read here; "
        f"share {figure(profile.floor_us / profile.step_us, '.0%')}"
    )


def _title(profile: StepProfile) -> str:
    return f"a decode step after {profile.depth} tokens"


def _launches_of_step(loaded: LoadedModel, device: Device, runs: SequenceRuns, depth: int) -> list[Launch]:
    rng = np.random.default_rng(0)
    token_ids = rng.integers(0, loaded.config.n_vocab, depth + 1).tolist()
    for first in range(0, depth, PROMPT_CHUNK):
        runs.run([token_ids[first : min(first + PROMPT_CHUNK, depth)]], first, 1)
    with device.logged() as launches:
        # The first pass of its shape runs and is not replayed, so its launches are logged.
        runs.run([token_ids[-1:]], depth, 1)
    return launches


def _name(launch: Launch) -> str:
    """A row of the table: a kernel, and of what multiplies the type and shape."""
    traffic = traffic_of(launch)
    if traffic is None:
        return launch.kernel
    return f"{launch.kernel} {traffic.type_name} {traffic.n_out}x{traffic.n_in}"


def _bytes(launch: Launch) -> int:
    traffic = traffic_of(launch)
    return traffic.n_bytes if traffic else 0
