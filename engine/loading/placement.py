"""Which backend holds a tensor: the model's own, or for the experts of some layers the host's memory and CPUs.

A token meets a few experts of many, so they are most of a model's bytes and little of its work: models of 100 GB and
more are run with their experts beside the CPU and everything else on the GPU.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from engine.errors import EspalierError, ResourceError
from engine.loading.gguf_file import GGUFFile
from engine.memory import advice, format_bytes, memory_for, room_text
from kernels.ops import Ops

EXPERTS_CHOICES = "auto, cpu, cuda, or cpu:FIRST-LAST for the experts of some layers"
_EXPERT_TENSOR = re.compile(r"blk\.(\d+)\.(ffn_gate_inp\.weight|exp_probs_b\.bias|ffn_\w+_exps\.weight)")
_LAYERS = re.compile(r"cpu:(\d{1,4})-(\d{1,4})")
#: `auto` leaves one part in this many of the device's free memory to caches.
_CACHE_SHARE = 8


@dataclass(frozen=True)
class Placement:
    """The backend of each tensor."""

    main: Ops
    host: Ops | None = None  # of the experts of host_layers
    host_layers: frozenset[int] = frozenset()

    def ops_of(self, name: str) -> Ops:
        match = _EXPERT_TENSOR.fullmatch(name)
        beside = self.host is not None and match is not None and int(match[1]) in self.host_layers
        return self.host if beside and self.host is not None else self.main


def check_experts(text: str) -> None:
    """Raises EspalierError for what --experts cannot be."""
    if text not in ("auto", "cpu", "cuda") and _LAYERS.fullmatch(text) is None:
        raise EspalierError(f"--experts is {text!r}; it is {EXPERTS_CHOICES}")


def place(
    gguf: GGUFFile, ops: Ops, experts: str, left_out: Collection[str], new_host: Callable[[], Ops]
) -> Placement:
    """left_out: names of tensors that are not loaded. new_host: the CPU backend, made where experts go to it.

    Raises EspalierError for experts that cannot be placed so, ResourceError where memory cannot hold the weights.
    """
    check_experts(experts)
    sizes = {name: tensor.nbytes for name, tensor in gguf.tensors.items() if name not in left_out}
    by_layer = _expert_bytes(sizes)
    layers = _host_layers(ops, experts, sizes, by_layer)
    placement = Placement(ops, new_host() if layers else None, layers)
    for backend, is_host in ((placement.host, True), (ops, False)):
        if backend is not None:
            needed = sum(n for name, n in sizes.items() if placement.ops_of(name) is backend)
            _check_memory(gguf, backend, needed, "experts that lie there" if is_host else "weights")
    return placement


def placement_note(placement: Placement, gguf: GGUFFile) -> str | None:
    """What lies where, if not all in one place."""
    if placement.host is None:
        return None
    layers = sorted(placement.host_layers)
    on_host = sum(t.nbytes for name, t in gguf.tensors.items() if placement.ops_of(name) is placement.host)
    return (
        f"the experts of {len(layers)} layers, {layers[0]} to {layers[-1]}, lie in the host's memory "
        f"({format_bytes(on_host)}) and run on its CPUs"
    )


def _expert_bytes(sizes: dict[str, int]) -> dict[int, int]:
    """Layer -> bytes of its experts and router."""
    by_layer: dict[int, int] = {}
    for name, n_bytes in sizes.items():
        match = _EXPERT_TENSOR.fullmatch(name)
        if match:
            by_layer[int(match[1])] = by_layer.get(int(match[1]), 0) + n_bytes
    return by_layer


def _host_layers(ops: Ops, experts: str, sizes: dict[str, int], by_layer: dict[int, int]) -> frozenset[int]:
    room = ops.free_bytes()
    if room is None:
        if experts == "cuda":
            raise EspalierError("--experts cuda needs --device cuda; here everything runs on the CPU")
        return frozenset()
    if experts in ("auto", "cuda"):
        return _that_do_not_fit(room, sizes, by_layer) if experts == "auto" else frozenset()
    match = _LAYERS.fullmatch(experts)
    layers = frozenset(by_layer) & (
        frozenset(range(int(match[1]), int(match[2]) + 1)) if match else frozenset(by_layer)
    )
    if not layers:
        raise EspalierError(f"--experts {experts}: the model has no experts in those layers")
    return layers


def _that_do_not_fit(room: int, sizes: dict[str, int], by_layer: dict[int, int]) -> frozenset[int]:
    """The last layers with experts, as many as it takes for the rest to fit the device beside caches."""
    needed, most = sum(sizes.values()), room - room // _CACHE_SHARE
    layers: set[int] = set()
    for layer in sorted(by_layer, reverse=True):
        if needed <= most:
            break
        needed -= by_layer[layer]
        layers.add(layer)
    return frozenset(layers)


def _check_memory(gguf: GGUFFile, ops: Ops, needed: int, what: str) -> None:
    """Raises ResourceError before the first tensor is read. What a backend holds is about what the file does."""
    room = memory_for(ops)
    if needed > room.n_bytes:
        other = " or --device cpu" if ops.free_bytes() is not None else ""
        raise ResourceError(
            f"{gguf.path}: its {what} take {format_bytes(needed)}, {room_text(room)}: "
            f"{advice(room, f'take a smaller quantization{other}')}"
        )
