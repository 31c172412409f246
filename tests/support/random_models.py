"""Random models of every architecture, drawn as a checkpoint holds them and written as converters write GGUF files.

A checkpoint is what an independent implementation can load (support/transformers_oracle.py): its names and row
orders are Hugging Face's. The file gets other names, q and k rows permuted for `llama`, and rope_freqs for Llama 3.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels.random_weights import random_weight
from kernels.reference.formats import dequantize
from kernels.reference.linear import linear_exact
from support.gguf_writer import Tensor, write_gguf
from support.vocabularies import pieces_with, spm_metadata

N_VOCAB = len(pieces_with())
N_CTX = 512
GOLDEN = Path(__file__).parents[1] / "data" / "model_logits.npz"
GOLDEN_POSITIONS = (0, 40, 180, 299)
TOKEN_IDS = np.random.default_rng(42).integers(3, N_VOCAB, 300)  # more than one split of attention
#: Limits of `difference` to the oracle. Float: its cache rounds to f16 as ours does, so what is left is float32 sums
#: and keys on the edge between two f16 numbers (2.0e-4 at most over six seeds). Int8: 0.5 % a linear, seven a layer,
#: and scores of deviation 4 or so that make more of it (5.9e-2 at most).
FLOAT_LIMIT, INT8_LIMIT = 6e-4, 0.1
PLANES_LIMIT = 2e-3  # two planes of activations: 2e-5 a linear (6.6e-4 at most over the models in KT types)
SHARPNESS = 2.0  # of q and k: attention that is spread evenly would hide where it looks
#: Checkpoint name of a layer's tensor -> name in the file.
FILE_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OUTER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@dataclass(frozen=True)
class Shape:
    """A small model. rope holds Hugging Face's rope parameters; types: file name of a matrix -> type, else F32."""

    architecture: str
    n_layer: int = 2
    n_embd: int = 128
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 32
    n_ff: int = 192
    freq_base: float = 10000.0
    rope: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
    biases: bool = False  # on every linear; qwen2 has those on q, k and v in any case
    sliding_window: int | None = None
    types: Mapping[str, str] = field(default_factory=dict)


LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LINEAR = {"rope_type": "linear", "factor": 4.0}
KT_MIX = {"attn_q": "IQ2_KT", "attn_k": "IQ3_KT", "attn_v": "Q8_0", "attn_output": "IQ4_KT", "ffn_gate": "IQ1_KT",
          "ffn_up": "IQ2_KT", "ffn_down": "IQ3_KT", "token_embd": "Q8_0", "output": "Q6_K"}  # fmt: skip
WIDE = {"n_embd": 256, "n_ff": 512, "head_dim": 64, "types": KT_MIX}  # what blocks of 256 weights need

SHAPES = {
    "llama": Shape("llama"),
    "llama, one KV head, tied": Shape("llama", n_head_kv=1, tied=True),
    "llama, no grouping, biases": Shape("llama", n_head_kv=4, biases=True),
    "llama, heads narrower than n_embd (Mistral Nemo)": Shape(
        "llama", n_embd=192, head_dim=32, freq_base=1e6
    ),
    "llama, window as long as the text (Mistral 0.1)": Shape("llama", sliding_window=300),
    "llama, rope_freqs (Llama 3.1)": Shape("llama", freq_base=500000.0, rope=LLAMA_3_ROPE),
    "llama, linear": Shape("llama", rope=LINEAR),
    "llama, yarn": Shape("llama", rope=YARN),
    "qwen2": Shape("qwen2", freq_base=1e6),
    "qwen2, tied, yarn": Shape("qwen2", n_head_kv=1, tied=True, rope=YARN),
    "qwen3": Shape("qwen3", head_dim=64, freq_base=1e6),
    "qwen3, tied, yarn": Shape("qwen3", head_dim=64, n_head_kv=1, tied=True, rope=YARN),
    "qwen3, linear": Shape("qwen3", n_head_kv=4, head_dim=16, rope=LINEAR),
    "llama in KT types": Shape("llama", **WIDE),
    "qwen2 in KT types": Shape("qwen2", **WIDE),
    "qwen3 in KT types": Shape("qwen3", **(WIDE | {"head_dim": 128})),
}


def random_shape(architecture: str, rng: np.random.Generator) -> Shape:
    """Any grouping and width of heads that the architecture allows, any scaling, F32."""
    n_head_kv, head_dim = int(rng.integers(1, 5)), int(rng.choice([16, 32, 48, 64, 80, 96, 128]))
    n_head = n_head_kv * int(rng.integers(1, 5))
    ropes = ({}, LINEAR, YARN, YARN | {"factor": 8.0}, *([LLAMA_3_ROPE] if architecture == "llama" else []))
    return Shape(
        architecture,
        n_layer=int(rng.integers(1, 4)),
        n_embd=n_head * int(rng.choice([16, 32, 48, head_dim])),
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_ff=int(rng.choice([96, 192, 352])),
        freq_base=float(rng.choice([1e4, 5e5, 1e6, 1e7])),
        rope=ropes[rng.integers(len(ropes))],
        tied=bool(rng.integers(2)),
        biases=architecture == "llama" and bool(rng.integers(2)),
    )


class Weight(NamedTuple):
    """File bytes in checkpoint order. shape is (n,) or (n_out, n_in)."""

    type_name: str
    shape: tuple[int, ...]
    data: np.ndarray  # uint8


def draw(shape: Shape, seed: int = 0) -> dict[str, Weight]:
    """Checkpoint name (with .weight or .bias) -> weight. Everything follows from shape and seed."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Weight] = {}
    for name, (n_out, n_in) in _matrices(shape).items():
        type_name = shape.types.get(file_name(name).split(".")[-1], "F32")
        deviation = n_in**-0.5 * (SHARPNESS if name.endswith(("q_proj", "k_proj")) else 1.0)
        data = random_weight(type_name, n_out, n_in, rng, deviation)
        weights[f"{name}.weight"] = Weight(type_name, (n_out, n_in), data)
        if (shape.biases and "layers" in name) or _qwen2_bias(shape, name):
            weights[f"{name}.bias"] = _vector(rng.normal(0, 0.3, n_out))
    for name, n in _norms(shape).items():
        weights[f"{name}.weight"] = _vector(rng.uniform(0.5, 1.5, n))
    return weights


def write(path: Path, shape: Shape, weights: Mapping[str, Weight], drop_keys: tuple[str, ...] = ()) -> Path:
    """The GGUF file of a checkpoint. drop_keys: metadata keys to leave out, without the architecture."""
    keys = {
        f"{shape.architecture}.{name}": value for name, value in _keys(shape).items() if name not in drop_keys
    }
    metadata = {"general.architecture": shape.architecture, "general.name": "random"} | keys
    tensors = [_file_tensor(shape, name, weight) for name, weight in weights.items()]
    if shape.rope.get("rope_type") == "llama3":
        divisors = llama_3_divisors(shape).astype("<f4")
        tensors.append(Tensor("rope_freqs.weight", "F32", divisors.shape, divisors.tobytes()))
    return write_gguf(path, metadata | spm_metadata(pieces_with()), tensors)


def file_name(name: str) -> str:
    """model.layers.3.mlp.up_proj -> blk.3.ffn_up"""
    if name in OUTER_NAMES:
        return OUTER_NAMES[name]
    _, _, i, part = name.split(".", 3)
    return f"blk.{i}.{FILE_NAMES[part]}"


def llama_3_divisors(shape: Shape) -> np.ndarray:
    """By how much each pair is slowed: not at all if it turns often within the trained length, by `factor` if it
    hardly turns, and between the two by a line over the number of turns."""
    rope = shape.rope
    pairs = np.arange(0, shape.head_dim, 2) / shape.head_dim
    wavelengths = 2 * math.pi * shape.freq_base**pairs
    turns = rope["original_max_position_embeddings"] / wavelengths
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / (kept + (1 - kept) / rope["factor"])


def plain(name: str, weight: Weight) -> np.ndarray:
    """float64, in checkpoint order: for linears the inference gain of the type included, for embedding rows not."""
    if len(weight.shape) == 1:
        return weight.data.view("<f4").astype(np.float64)
    n_out, n_in = weight.shape
    if name.startswith("model.embed_tokens"):
        return dequantize(weight.type_name, weight.data, n_out, n_in).astype(np.float64)
    return np.ascontiguousarray(
        linear_exact(np.eye(n_in, dtype=np.float32), weight.type_name, weight.data, n_out).T
    )


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square of the difference over that of what is expected."""
    return float(np.sqrt(np.square(got - expected).mean() / np.square(expected).mean()))


def digest(weights: Mapping[str, Weight]) -> str:
    whole = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        whole.update(name.encode() + weight.data.tobytes())
    return whole.hexdigest()[:16]


def as_floats(weights: Mapping[str, Weight]) -> dict[str, Weight]:
    """The numbers that quantized weights stand for, as F32 matrices."""
    return {
        name: Weight("F32", weight.shape, plain(name, weight).astype("<f4").view(np.uint8).ravel())
        for name, weight in weights.items()
    }


def _matrices(shape: Shape) -> dict[str, tuple[int, int]]:
    n_q, n_kv, n_embd, n_ff = (
        shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim, shape.n_embd, shape.n_ff
    )  # fmt: skip
    layer = {
        "self_attn.q_proj": (n_q, n_embd),
        "self_attn.k_proj": (n_kv, n_embd),
        "self_attn.v_proj": (n_kv, n_embd),
        "self_attn.o_proj": (n_embd, n_q),
        "mlp.gate_proj": (n_ff, n_embd),
        "mlp.up_proj": (n_ff, n_embd),
        "mlp.down_proj": (n_embd, n_ff),
    }
    outer = ["model.embed_tokens"] if shape.tied else ["model.embed_tokens", "lm_head"]
    return dict.fromkeys(outer, (N_VOCAB, n_embd)) | {
        f"model.layers.{i}.{name}": size for i in range(shape.n_layer) for name, size in layer.items()
    }


def _norms(shape: Shape) -> dict[str, int]:
    layer = {"input_layernorm": shape.n_embd, "post_attention_layernorm": shape.n_embd}
    if shape.architecture == "qwen3":
        layer |= {"self_attn.q_norm": shape.head_dim, "self_attn.k_norm": shape.head_dim}
    names = {f"model.layers.{i}.{name}": n for i in range(shape.n_layer) for name, n in layer.items()}
    return {"model.norm": shape.n_embd} | names


def _qwen2_bias(shape: Shape, name: str) -> bool:
    return shape.architecture == "qwen2" and name.endswith(("q_proj", "k_proj", "v_proj"))


def _vector(values: np.ndarray) -> Weight:
    return Weight("F32", values.shape, values.astype("<f4").view(np.uint8))


def _file_tensor(shape: Shape, name: str, weight: Weight) -> Tensor:
    base, _, kind = name.rpartition(".")
    data = weight.data
    heads = {"q_proj": shape.n_head, "k_proj": shape.n_head_kv}.get(base.rpartition(".")[2])
    if shape.architecture == "llama" and heads:
        rows = data.reshape(weight.shape[0], -1)
        data = rows[pairs_side_by_side(heads, shape.head_dim)]
    return Tensor(f"{file_name(base)}.{kind}", weight.type_name, weight.shape[::-1], data.tobytes())


def pairs_side_by_side(n_head: int, head_dim: int) -> np.ndarray:
    """For each row of a `llama` file's q or k the checkpoint's row: (i, i + head_dim / 2) become neighbours."""
    head = np.arange(head_dim).reshape(2, -1).T.ravel()
    return (np.arange(n_head)[:, None] * head_dim + head).ravel()


def _keys(shape: Shape) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "context_length": N_CTX,
        "embedding_length": shape.n_embd,
        "block_count": shape.n_layer,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": shape.freq_base,
        "vocab_size": N_VOCAB,
    }
    if shape.head_dim * shape.n_head != shape.n_embd or shape.architecture == "qwen3":
        keys |= {"attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim}
    if shape.architecture == "llama":
        keys["rope.dimension_count"] = shape.head_dim
    if shape.sliding_window is not None:
        keys["attention.sliding_window"] = shape.sliding_window
    if shape.rope.get("rope_type") in ("linear", "yarn"):
        keys |= {"rope.scaling.type": shape.rope["rope_type"], "rope.scaling.factor": shape.rope["factor"]}
    if "original_max_position_embeddings" in shape.rope and shape.rope["rope_type"] == "yarn":
        keys["rope.scaling.original_context_length"] = shape.rope["original_max_position_embeddings"]
    return keys
