"""A small random model as a file holds it: hyperparameters, and tensors by name and shape, drawn from a seed.

Other than support/random_models.py, which draws a checkpoint and writes a file from it, the file comes first here:
support/checkpoints reads it as the checkpoint that a converter would have made it from. So matrices may be of any
type, and files made elsewhere can be judged too.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kernels.random_weights import random_weight
from kernels.reference.formats import dequantize
from kernels.reference.linear import linear_weights
from support.gguf_writer import Tensor, write_gguf
from support.random_models import N_CTX, N_VOCAB, SHARPNESS
from support.vocabularies import pieces_with, spm_metadata


@dataclass(frozen=True)
class Sizes:
    """What most architectures have, small."""

    n_layer: int = 3  # that run
    n_embd: int = 96
    n_ff: int = 160  # of dense networks
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 32
    n_expert: int = 9
    n_used: int = 3
    n_ff_expert: int = 40
    n_shared: int = 1
    n_dense: int = 1  # leading layers without experts
    n_nextn: int = 0  # layers that predict a token further and do not run
    freq_base: float = 1e6
    scale: float = 2.5  # of the weights of experts


SMALL = Sizes()
WIDE = Sizes(
    n_layer=2, n_expert=5, n_embd=256, n_ff=512, head_dim=64, n_ff_expert=256
)  # what blocks of 256 weights need
Shapes = dict[str, tuple[int, ...]]  # tensor name -> shape, rows before their length


@dataclass(frozen=True)
class RandomFile:
    """types: the part of a name between `blk.N.` and `.weight` -> type of that matrix, F32 otherwise."""

    architecture: str
    keys: Mapping[str, Any]  # without the architecture's name
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        own = {f"{self.architecture}.{name}": value for name, value in self.keys.items()}
        names = {"general.architecture": self.architecture, "general.name": "random"}
        return names | own | spm_metadata(pieces_with())


def outer_keys(sizes: Sizes) -> dict[str, Any]:
    """What a file of every architecture says."""
    return {
        "block_count": sizes.n_layer + sizes.n_nextn,
        "context_length": N_CTX,
        "embedding_length": sizes.n_embd,
        "vocab_size": N_VOCAB,
        "feed_forward_length": sizes.n_ff,
        "attention.head_count": sizes.n_head,
        "attention.head_count_kv": sizes.n_head_kv,
        "attention.key_length": sizes.head_dim,
        "attention.value_length": sizes.head_dim,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": sizes.freq_base,
    } | ({"nextn_predict_layers": sizes.n_nextn} if sizes.n_nextn else {})


def all_shapes(sizes: Sizes, layer: Callable[[int], Shapes]) -> Shapes:
    """The tensors of a whole file; layer(i) gives those of a block, `.weight` left out."""
    n_embd = sizes.n_embd
    outer = {
        "token_embd.weight": (N_VOCAB, n_embd),
        "output_norm.weight": (n_embd,),
        "output.weight": (N_VOCAB, n_embd),
    }
    blocks = {
        f"blk.{i}.{name}" if name.endswith((".bias", "ssm_a")) else f"blk.{i}.{name}.weight": shape
        for i in range(sizes.n_layer + sizes.n_nextn)
        for name, shape in (layer(i) | (_nextn_shapes(n_embd) if i >= sizes.n_layer else {})).items()
    }
    return outer | blocks


def _nextn_shapes(n_embd: int) -> Shapes:
    norms = {f"nextn.{name}": (n_embd,) for name in ("enorm", "hnorm", "shared_head_norm")}
    return {"nextn.eh_proj": (n_embd, 2 * n_embd)} | norms


def draw_tensors(model: RandomFile, seed: int = 0) -> list[Tensor]:
    """Everything follows from model and seed."""
    rng = np.random.default_rng(seed)
    return [
        Tensor(name, *_drawn(model, name, shape, rng))  # type: ignore[misc]  # type, shape, bytes
        for name, shape in model.shapes.items()
    ]


def write_file(path: Path, model: RandomFile, tensors: Sequence[Tensor], **changed: Any) -> Path:
    """changed: keys of the architecture with another value, dots as double underscores; None drops one."""
    other = {f"{model.architecture}.{name.replace('__', '.')}": value for name, value in changed.items()}
    metadata = {name: value for name, value in (model.metadata | other).items() if value is not None}
    return write_gguf(path, metadata, tensors)


def tensors_digest(tensors: Sequence[Tensor]) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.name.encode() + bytes(tensor.data))
    return whole.hexdigest()[:16]


def plain_values(tensor: Tensor) -> np.ndarray:
    """float64, rows before their length: matrices with the gain of their type, as a linear applies it; embedding
    rows without.
    """
    shape, data = tensor.shape[::-1], np.frombuffer(tensor.data, np.uint8)
    n_out, n_in = int(np.prod(shape[:-1])), shape[-1]
    values = dequantize if tensor.name == "token_embd.weight" else linear_weights
    return values(tensor.type_name, data, n_out, n_in).astype(np.float64).reshape(shape)


def as_float_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The numbers that quantized matrices stand for, as F32."""
    return [
        Tensor(tensor.name, "F32", tensor.shape, plain_values(tensor).astype("<f4").tobytes())
        for tensor in tensors
    ]


def _drawn(
    model: RandomFile, name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> tuple[str, tuple[int, ...], bytes]:
    part = name.removesuffix(".weight").split(".", 2)[-1]
    if part == "ssm_conv1d" or len(shape) == 1:
        return "F32", shape[::-1], _values(part, shape, rng).astype("<f4").tobytes()
    type_name = model.types.get(part, "F32")
    n_out, n_in = int(np.prod(shape[:-1])), shape[-1]
    data = random_weight(type_name, n_out, n_in, rng, n_in**-0.5 * _SHARPER.get(part, 1.0))
    return type_name, shape[::-1], data.tobytes()


#: Matrices whose products are compared with each other: attention that is spread evenly would hide where it looks,
#: and experts whose scores are near each other would change places by a rounding.
_SHARPER = {
    "attn_q": SHARPNESS,
    "attn_k": SHARPNESS,
    "attn_q_b": SHARPNESS,
    "ffn_gate_inp": 3.0,
    "indexer.attn_q_b": SHARPNESS,
}


def _values(part: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Vectors, and the taps of a convolution."""
    match part:
        case "ssm_a":  # memories of one to some fifty tokens
            return -rng.uniform(0.02, 2.0, shape)
        case "ssm_conv1d":
            return rng.normal(0, shape[-1] ** -0.5, shape)
        case "ffn_gate_inp_shexp":
            return rng.normal(0, shape[0] ** -0.5, shape)
    return rng.normal(0, 0.3, shape) if part.endswith("bias") else rng.uniform(0.5, 1.5, shape)
