"""`make bench-cuda`: every form of every linear kernel on a card, by type, shape and tokens: a CSV file and a plot.

    python -m tools.cuda_bench [--types IQ2_KT,Q6_K] [--matrices 4096x4096] [--tokens 1,8] [--out build/bench_cuda]
    python -m tools.cuda_bench --plot build/bench_cuda/kernels.csv

cold: the weights come from memory, from copies that together are larger than the second-level cache. hot: the same
ones again and again. What is fastest by type, shape and tokens is printed, with what linear_forms.py chooses.
"""

import argparse
import csv
import importlib.util
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.loading.synthetic import SHAPES, random_matrix
from kernels.cuda.arena import Int8Form
from kernels.cuda.compile import TILED_TYPES
from kernels.cuda.device import Device, DeviceBuffer, Launch
from kernels.cuda.errors import CudaError
from kernels.cuda.linear_forms import ALL_FORMS, NO_EPILOGUE, LinearForm, form_for, linear_launch
from kernels.cuda.ops import CudaOps
from kernels.cuda.traffic import traffic_of
from kernels.quant_tensor import TYPES
from tools.cuda_timing import Timer, figure

LINEAR = frozenset({"linear"})
MODEL = "llama-3.1-8b"  # whose shapes are the default
FEW_TOKENS = (1, 2, 3, 4, 5, 6, 7, 8)
MATMUL_TOKENS = (16, 64, 512)
COLD_CACHES = 3  # copies of the weights fill this many second-level caches
HOT_LAUNCHES = 8
ALIGNMENT = 256


@dataclass(frozen=True)
class Result:
    """One form on one matrix. us is NaN on an emulated device."""

    type_name: str
    kernel: str
    n_out: int
    n_in: int
    n_tokens: int
    cache: str
    us: float
    n_bytes: int
    read_bandwidth: float
    chosen: bool  # what linear_forms.py takes

    @property
    def key(self) -> tuple[str, int, int, int]:
        return self.type_name, self.n_out, self.n_in, self.n_tokens

    def row(self) -> dict[str, object]:
        per_second = 1e6 / self.us
        return {
            "type": self.type_name,
            "kernel": self.kernel,
            "n_out": self.n_out,
            "n_in": self.n_in,
            "n_tokens": self.n_tokens,
            "cache": self.cache,
            "us": figure(self.us, ".2f"),
            "gb_per_second": figure(self.n_bytes * per_second / 1e9, ".1f"),
            "of_memory_bound": figure(self.n_bytes * per_second / self.read_bandwidth, ".4f"),
            "gweights_per_second": figure(self.n_out * self.n_in * per_second / 1e9, ".1f"),
            "chosen": int(self.chosen),
        }


class LinearBench:
    """The linear kernels of one device."""

    def __init__(self, ops: CudaOps) -> None:
        self._ops = ops
        self._device: Device = ops.device
        self._timer = Timer(ops.device)
        self._rng = np.random.default_rng(0)
        self.read_bandwidth = self._timer.read_bandwidth()

    def matrix(self, type_name: str, n_out: int, n_in: int, tokens: Sequence[int]) -> Iterator[Result]:
        """Every form that takes the type, at every number of tokens that it takes."""
        data = random_matrix(type_name, n_out, n_in, self._rng)
        weight = self._ops.load_quant(type_name, (n_out, n_in), data, LINEAR)
        copies = self._copies(weight.data.buffer)
        result = self._device.allocate(4 * max(tokens) * n_out)
        for n_tokens in tokens:
            x, held = self._activations(n_tokens, n_in)
            chosen = form_for([weight.data], n_tokens, self._device.n_multiprocessors)
            for form in ALL_FORMS[weight.data.layout]:
                if not _takes(form, n_tokens):
                    continue
                launch = linear_launch(form, [weight.data], x, n_tokens, [result.pointer], NO_EPILOGUE)
                self._device.launch(*launch)
                traffic = traffic_of(launch)
                assert traffic is not None
                for cache, launches in (
                    ("cold", _rotating(launch, copies)),
                    ("hot", [launch] * HOT_LAUNCHES),
                ):
                    us = self._timer.us(launches) / len(launches)
                    yield Result(
                        *(type_name, form.kernel, n_out, n_in, n_tokens, cache, us),
                        *(traffic.n_bytes, self.read_bandwidth, form is chosen),
                    )
            del held

    def _activations(self, n_tokens: int, n_in: int) -> tuple[Int8Form, object]:
        """Random ones as int8, and what to hold while they are used."""
        n_blocks = n_tokens * n_in // 32
        parts: tuple[np.ndarray, ...] = (
            self._rng.integers(-127, 128, n_tokens * n_in).astype(np.int8),
            np.full(n_blocks, 0.01, np.float32),
            np.zeros(n_blocks, np.int32),
        )
        buffers = [self._device.allocate(part.nbytes) for part in parts]
        for part, buffer in zip(parts, buffers, strict=True):
            self._device.upload(buffer.pointer, part)
        self._device.synchronize()
        return Int8Form(*(buffer.pointer for buffer in buffers)), buffers

    def _copies(self, weights: DeviceBuffer) -> "Copies":
        stride = -(-weights.n_bytes // ALIGNMENT) * ALIGNMENT
        n = 2 if self._device.emulated else math.ceil(COLD_CACHES * self._device.l2_bytes / stride) + 1
        memory = self._device.allocate(n * stride)
        for i in range(n):
            self._device.copy(memory.pointer + i * stride, weights.pointer, weights.n_bytes)
        return Copies(memory, n, stride)


@dataclass(frozen=True)
class Copies:
    """n copies of a matrix, `stride` bytes apart."""

    memory: DeviceBuffer
    n: int
    stride: int


def _rotating(launch: Launch, copies: Copies) -> list[Launch]:
    """The launch over each copy in turn; weights are the first argument."""
    return [
        launch._replace(
            arguments=(np.uint64(copies.memory.pointer + i * copies.stride), *launch.arguments[1:])
        )
        for i in range(copies.n)
    ]


def _takes(form: LinearForm, n_tokens: int) -> bool:
    return form.max_tokens is None or n_tokens <= form.max_tokens


def fastest(results: Sequence[Result]) -> Iterator[str]:
    """A line for each type, shape and number of tokens, of cold weights: what won and what the table says."""
    groups: dict[tuple[str, int, int, int], list[Result]] = {}
    for result in results:
        if result.cache == "cold":
            groups.setdefault(result.key, []).append(result)
    for (type_name, n_out, n_in, n_tokens), group in groups.items():
        best = min(group, key=lambda result: result.us)
        chosen = next(result for result in group if result.chosen)
        share = best.n_bytes * 1e6 / best.us / best.read_bandwidth
        yield (
            f"{type_name} {n_out}x{n_in}, {n_tokens} tokens: {best.kernel} {figure(best.us, '.2f')} us, "
            f"{figure(share, '.0%')} of the memory bound; the table's {chosen.kernel} {figure(chosen.us, '.2f')} us"
        )


def write_csv(path: Path, results: Sequence[Result]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(results[0].row()))
        writer.writeheader()
        writer.writerows(result.row() for result in results)


def plot(path: Path) -> Path | None:
    """Beside the CSV file: a panel a type and shape, cold weights, up to eight tokens. None without matplotlib."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cache"] == "cold" and int(row["n_tokens"]) <= 8]
    if importlib.util.find_spec("matplotlib") is None:
        return None
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    panels = list(dict.fromkeys((row["type"], row["n_out"], row["n_in"]) for row in rows))
    n_columns = min(4, len(panels))
    n_lines = -(-len(panels) // n_columns)
    figure_, axes = pyplot.subplots(
        n_lines, n_columns, figsize=(4 * n_columns, 3 * n_lines), squeeze=False, sharey=True
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        own = [row for row in rows if (row["type"], row["n_out"], row["n_in"]) == panel]
        for kernel in dict.fromkeys(row["kernel"] for row in own):
            points = [row for row in own if row["kernel"] == kernel and row["us"] != "emulated"]
            x = [int(row["n_tokens"]) for row in points]
            axis.plot(x, [float(row["of_memory_bound"]) for row in points], marker="o", label=kernel)
        axis.set_title("{} {}x{}".format(*panel))
        axis.set_xlabel("tokens")
        axis.set_ylabel("of the memory bound")
        axis.legend(fontsize=7)
    figure_.tight_layout()
    target = path.with_suffix(".svg")
    figure_.savefig(target)
    pyplot.close(figure_)
    return target


def default_matrices() -> list[tuple[int, int]]:
    """[n_out, n_in] of a layer of MODEL."""
    config = SHAPES[MODEL].config
    n_q, n_kv = config.n_head * config.head_dim, config.n_head_kv * config.head_dim
    return [
        (n_kv, config.n_embd),
        (n_q, config.n_embd),
        (config.n_ff, config.n_embd),
        (config.n_embd, config.n_ff),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench-cuda", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--types", default=",".join((*TILED_TYPES, "Q6_K")))
    parser.add_argument("--matrices", help=f"ROWSxCOLUMNS,...; default: those of {MODEL}")
    parser.add_argument("--tokens", default=",".join(map(str, (*FEW_TOKENS, *MATMUL_TOKENS))))
    parser.add_argument("--out", type=Path, default=Path("build/bench_cuda"), help="folder of kernels.csv")
    parser.add_argument("--plot", type=Path, help="draw this CSV file and time nothing")
    options = parser.parse_args(arguments)
    try:
        path = options.plot or _measure(options)
        drawn = plot(path)
    except (CudaError, ValueError, OSError) as error:
        print(f"bench-cuda: {error}", file=sys.stderr)
        return 2
    print(drawn or f"no matplotlib here; where there is, make bench-cuda ARGS='--plot {path}' draws it")
    return 0


def _measure(options: argparse.Namespace) -> Path:
    types = options.types.split(",")
    if unknown := [name for name in types if name not in TYPES]:
        raise ValueError(f"no type {', '.join(unknown)}; there are {', '.join(TYPES)}")
    sizes = [tuple(map(int, size.split("x"))) for size in (options.matrices or "").split(",") if size]
    matrices = [(n_out, n_in) for n_out, n_in in sizes] or default_matrices()
    tokens = [int(n) for n in options.tokens.split(",")]
    bench = LinearBench(CudaOps())
    print(f"read bandwidth: {figure(bench.read_bandwidth / 1e9, '.0f')} GB/s", flush=True)
    results = []
    for type_name in types:
        for n_out, n_in in matrices:
            found = list(bench.matrix(type_name, n_out, n_in, tokens))
            print("\n".join(fastest(found)), flush=True)
            results += found
    options.out.mkdir(parents=True, exist_ok=True)
    path: Path = options.out / "kernels.csv"
    write_csv(path, results)
    print(path)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
