"""Which kernels there are, and their machine code: compiled by NVRTC when first needed, kept on disk.

A cubin's name carries a digest of every file it is made of, its defines, the architecture and the compiler, so an
old one is never taken for a new one and several versions share the folder.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from kernels.cuda import nvrtc, sources
from kernels.cuda.errors import CudaError
from kernels.kv_type import KV_TYPES
from kernels.quant_tensor import TYPES

SOURCE_FOLDER = Path(__file__).parent
QUIET_SECONDS = 2.0

DENSE_TYPES = frozenset({"F32", "F16", "BF16"})
#: Types with a tile layout and kernels of their own (kt_tiles.cuh); the others lie as file rows.
TILED_TYPES = ("IQ1_KT", "IQ2_KT", "IQ3_KT", "IQ4_KT")
#: Tiled types whose rows may have a tail: such a matrix lies as file rows, which the plain kernels multiply with.
TAILED_TYPES = tuple(name for name in TILED_TYPES if TYPES[name].tail_nibbles)
#: The largest heads of attention_tensor.cu's builds.
TENSOR_HEAD_DIMS = (64, 128, 256)
#: The key sizes of delta nets that delta_net.cu has builds of its own for.
DELTA_KEY_DIMS = (128,)


@dataclass(frozen=True)
class KernelModule:
    """One compilation of one .cu file."""

    name: str
    source: str  # in this folder
    kernels: tuple[str, ...]
    defines: tuple[str, ...] = ()
    #: Hot kernel -> the weights that a thread takes in per trip of its main loop: what instructions are counted by.
    weights_per_iteration: Mapping[str, int] = field(default_factory=dict)
    hot: frozenset[str] = frozenset()  # further kernels that must not spill


def _rows_module(type_name: str) -> KernelModule:
    return KernelModule(
        name=f"rows_{type_name}",
        source="linear.cu",
        defines=(f"ESP_TYPE={type_name}",),
        kernels=("linear_plain", "linear_matmul", "embed"),
        weights_per_iteration={"linear_plain": 32},
        hot=frozenset({"linear_matmul"}),
    )


def _table_module(type_name: str) -> KernelModule:
    """Of a tiled type: where only embeddings read a matrix, it lies as the file's rows."""
    return KernelModule(f"rows_{type_name}", "embed.cu", ("embed",), (f"ESP_TYPE={type_name}",))


def _tiles_module(type_name: str) -> KernelModule:
    return KernelModule(
        name=f"tiles_{type_name}",
        source="kt_linear.cu",
        defines=(f"ESP_TYPE={type_name}",),
        kernels=(
            *("kt_pack", "kt_dmmv_1", "kt_dmmv_1_narrow", "kt_dmmv_8", "kt_dmmv_8_narrow", "kt_dmmv_dp4a"),
            *("linear_plain", "linear_matmul", "embed"),
        ),
        weights_per_iteration={
            **{"kt_dmmv_1": 256, "kt_dmmv_1_narrow": 128, "kt_dmmv_8": 64, "kt_dmmv_8_narrow": 32},
            **{"kt_dmmv_dp4a": 128, "linear_plain": 32},
        },
        hot=frozenset({"linear_matmul"}),
    )


def _dense_module(type_name: str) -> KernelModule:
    return KernelModule(
        f"dense_{type_name}",
        "dense_linear.cu",
        ("dense_linear", "dense_stack", "embed"),
        (f"ESP_TYPE={type_name}",),
    )


def _stack_module(layout: str, type_name: str) -> KernelModule:
    """Linear through stacks of matrices: experts, heads."""
    return KernelModule(
        f"stack_{layout}_{type_name}",
        f"stack_{layout}.cu",
        ("stack_few", "stack_many"),
        (f"ESP_TYPE={type_name}",),
        hot=frozenset({"stack_few", "stack_many"}),
    )


_EXPERTS = KernelModule(
    "experts",
    "experts.cu",
    (
        *("route", "sort_rows", "gather_int8", "gather_floats"),
        *("gated_rows", "weighted_rows", "products_of_pairs"),
    ),
)


_ACTIVATIONS = KernelModule(
    "activations",
    "activations.cu",
    (
        *(
            "quantize_activations",
            "quantize_planes",
            "add_planes",
            "rms_norm",
            "silu_mul",
            "gelu_mul",
            "sigmoid_mul",
        ),
        *("add_gated", "add", "add_bias", "concat", "take_rows", "scale_by_position", "rope_angles", "rope"),
    ),
    hot=frozenset({"quantize_activations", "quantize_planes", "rms_norm", "silu_mul", "sigmoid_mul"}),
)


_KV_DEFINES: Mapping[str, tuple[str, ...]] = {"f16": (), "q8_0": ("ESP_KV_Q8=1",)}


def _attention_module(kv_type: str) -> KernelModule:
    return KernelModule(
        f"attention_{kv_type}",
        "attention.cu",
        ("attention", "attention_split", "attention_merge", "store_kv", "rope_and_store"),
        _KV_DEFINES[kv_type],
        hot=frozenset({"attention", "attention_split"}),
    )


def _attention_tensor_module(kv_type: str, head_dim: int) -> KernelModule:
    return KernelModule(
        f"attention_tensor_{kv_type}_{head_dim}",
        "attention_tensor.cu",
        ("attention_many", "attention_few"),
        (f"ESP_HEAD_DIM={head_dim}", *_KV_DEFINES[kv_type]),
        hot=frozenset({"attention_many", "attention_few"}),
    )


def _latent_module(kv_type: str) -> KernelModule:
    return KernelModule(
        f"latent_{kv_type}",
        "latent_attention.cu",
        ("latent_attention", "latent_split", "attention_merge", "store_latent"),
        _KV_DEFINES[kv_type],
        hot=frozenset({"latent_attention", "latent_split"}),
    )


def delta_net_module(key_dim: int | None) -> str:
    return "delta_net" if key_dim is None else f"delta_net_{key_dim}"


_CAUSAL_CONV = KernelModule("causal_conv", "causal_conv.cu", ("causal_conv",), hot=frozenset({"causal_conv"}))


def _delta_net_module(key_dim: int | None) -> KernelModule:
    """None: of any key_dim, with the state where it lies."""
    return KernelModule(
        delta_net_module(key_dim),
        "delta_net.cu",
        ("delta_net",),
        () if key_dim is None else (f"ESP_KEY_DIM={key_dim}",),
        hot=frozenset({"delta_net"}),
    )


_SAMPLING = KernelModule(
    "sampling",
    "sampling.cu",
    (
        "copy_allowed",
        "change_logits",
        "part_peaks",
        "peaks",
        "draw_bounds",
        "part_draws",
        "draws",
        "part_masses",
        "logprobs",
        "pass_on",
    ),
    hot=frozenset({"part_peaks", "draw_bounds", "part_draws"}),
)

_BANDWIDTH = KernelModule("bandwidth", "bandwidth.cu", ("read_stream",))

#: Every module by name. What a device runs, what is compiled in tests and what the emulation builds is this table.
MODULES: dict[str, KernelModule] = {
    module.name: module
    for module in (
        _ACTIVATIONS,
        *map(_attention_module, KV_TYPES),
        *map(_latent_module, KV_TYPES),
        *(_attention_tensor_module(*which) for which in product(KV_TYPES, TENSOR_HEAD_DIMS)),
        _CAUSAL_CONV,
        *map(_delta_net_module, (None, *DELTA_KEY_DIMS)),
        _SAMPLING,
        _BANDWIDTH,
        _EXPERTS,
        *(_dense_module(name) for name in TYPES if name in DENSE_TYPES),
        *(
            _rows_module(name)
            for name in TYPES
            if name not in (*DENSE_TYPES, *TILED_TYPES) or name in TAILED_TYPES
        ),
        *(_table_module(name) for name in TILED_TYPES if name not in TAILED_TYPES),
        *(_tiles_module(name) for name in TILED_TYPES),
        *(_stack_module("tiles", name) for name in TILED_TYPES),
        *(
            _stack_module("rows", name)
            for name in TYPES
            if name not in (*DENSE_TYPES, *TILED_TYPES) or name in TAILED_TYPES
        ),
    )
}


def cache_folder() -> Path:
    """ESPALIER_CACHE, else `espalier` in the user's cache folder (XDG base directories)."""
    chosen = os.environ.get("ESPALIER_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "espalier"


class CubinCache:
    """Machine code for one architecture ("sm_90"). Says once that it compiles, if that takes long."""

    def __init__(self, arch: str) -> None:
        self._arch = arch
        self._has_spoken = False

    def path(self, module: KernelModule) -> Path:
        """The module's cubin, compiled now if the folder has none. Raises CudaError."""
        source = SOURCE_FOLDER / module.source
        try:
            files = sources.included_files(source, [nvrtc.INCLUDE_ROOT])
            key = sources.digest(files, self._arch, str(nvrtc.version()), *nvrtc.OPTIONS, *module.defines)
            path = cache_folder() / f"{module.name}-{self._arch}-{key}.cubin"
            if not path.is_file():
                with self._spoken():
                    write_in_one_step(path, nvrtc.compile_cubin(source, module.defines, self._arch).cubin)
            return path
        except nvrtc.NvrtcError as error:
            raise CudaError(str(error).partition("\n")[0]) from error
        except OSError as error:
            raise CudaError(
                f"compiled kernels cannot be kept in {cache_folder()} ({error.strerror}); "
                "set ESPALIER_CACHE to another folder"
            ) from error

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        timer = threading.Timer(QUIET_SECONDS, self._speak)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _speak(self) -> None:
        if not self._has_spoken:
            self._has_spoken = True
            line = f"compiling CUDA kernels for {self._arch}; this happens once, they are kept in {cache_folder()}"
            print(line, file=sys.stderr)


def write_in_one_step(path: Path, content: bytes) -> None:
    """So that another process never reads half of it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)
