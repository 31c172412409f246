"""Small random llama models, written as GGUF files: mixed types, ragged widths, an SPM vocabulary or another."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kernels.quant_tensor import FILE_TYPES
from kernels.random_weights import random_weight
from support.gguf_writer import Tensor, write_gguf
from support.vocabularies import pieces_with, spm_metadata

#: Types whose blocks take rows of any multiple of 256; ffn_down keeps to 32, so that n_ff may be ragged.
MIXED_TYPES = {
    "token_embd.weight": "Q8_0",
    "output.weight": "Q6_K",
    "*.attn_q.weight": "IQ2_KT",
    "*.attn_k.weight": "IQ3_KT",
    "*.attn_v.weight": "IQ4_K",
    "*.attn_output.weight": "IQ4_KT",
    "*.ffn_gate.weight": "IQ1_KT",
    "*.ffn_up.weight": "IQ2_KT",
    "*.ffn_down.weight": "Q6_0",
}
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_metadata(
    *,
    n_layer: int,
    n_embd: int,
    n_head: int,
    n_head_kv: int,
    n_ff: int,
    n_ctx: int,
    vocabulary: Mapping[str, Any],
    chat_template: bool,
) -> dict[str, Any]:
    metadata = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": n_ctx,
        "llama.embedding_length": n_embd,
        "llama.block_count": n_layer,
        "llama.feed_forward_length": n_ff,
        "llama.attention.head_count": n_head,
        "llama.attention.head_count_kv": n_head_kv,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        **vocabulary,
    }
    if chat_template:
        metadata["tokenizer.chat_template"] = CHAT_TEMPLATE
    return metadata


def tiny_shapes(
    *, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ff: int, n_vocab: int, tied: bool
) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape in the file's order (row length first)."""
    n_kv = n_embd // n_head * n_head_kv
    layer = {
        "attn_norm": (n_embd,),
        "attn_q": (n_embd, n_embd),
        "attn_k": (n_embd, n_kv),
        "attn_v": (n_embd, n_kv),
        "attn_output": (n_embd, n_embd),
        "ffn_norm": (n_embd,),
        "ffn_gate": (n_embd, n_ff),
        "ffn_up": (n_embd, n_ff),
        "ffn_down": (n_ff, n_embd),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (n_embd, n_vocab),
        "output_norm.weight": (n_embd,),
    }
    if not tied:
        shapes["output.weight"] = (n_embd, n_vocab)
    return shapes | {f"blk.{i}.{name}.weight": shape for i in range(n_layer) for name, shape in layer.items()}


def random_tensor(name: str, shape: tuple[int, ...], type_name: str, rng: np.random.Generator) -> Tensor:
    """Norm weights (vectors) are F32 about one; a matrix has the type asked for, or its plain form where
    its rows are no whole units (the peer interleaves none of those): Q8_0 if files have no such form.
    """
    if len(shape) == 1:
        return Tensor(name, "F32", shape, rng.uniform(0.5, 1.5, shape).astype("<f4").tobytes())
    quant_type = FILE_TYPES[type_name]
    if quant_type.plain is not None and shape[1] % quant_type.rows_in_unit:
        quant_type = FILE_TYPES.get(quant_type.plain.name, FILE_TYPES["Q8_0"])
    data = random_weight(quant_type.name, shape[1], shape[0], rng, shape[0] ** -0.5)
    return Tensor(name, quant_type.name, shape, data.tobytes())


def write_tiny_llama(
    path: Path,
    *,
    seed: int = 0,
    n_layer: int = 2,
    n_embd: int = 256,
    n_head: int = 8,
    n_head_kv: int = 2,
    n_ff: int = 800,
    n_ctx: int = 512,
    tied: bool = False,
    biases: bool = False,
    types: Mapping[str, str] = MIXED_TYPES,
    default_type: str = "F32",
    chat_template: bool = True,
    vocabulary: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    extra_tensors: tuple[Tensor, ...] = (),
) -> Path:
    """A model whose every weight follows from the seed. types: name pattern -> type, the first match holds.

    n_ff 800 is no multiple of 256: ffn_down then needs a type of 32-wide blocks, or F32. vocabulary: tokenizer
    keys, of vocabularies.spm_metadata or bpe_metadata; a small SPM one by default. metadata overrides
    keys; a value of None removes one.
    """
    size = {"n_layer": n_layer, "n_embd": n_embd, "n_head": n_head, "n_head_kv": n_head_kv, "n_ff": n_ff}
    vocabulary = vocabulary or spm_metadata(pieces_with())
    keys = tiny_metadata(**size, n_ctx=n_ctx, vocabulary=vocabulary, chat_template=chat_template)
    keys |= dict(metadata or {})
    keys = {name: item for name, item in keys.items() if item is not None}
    n_vocab = len(vocabulary["tokenizer.ggml.tokens"])
    rng = np.random.default_rng(seed)
    tensors = []
    for name, shape in tiny_shapes(**size, n_vocab=n_vocab, tied=tied).items():
        matching = (type_name for pattern, type_name in types.items() if fnmatch.fnmatchcase(name, pattern))
        tensors.append(random_tensor(name, shape, next(matching, default_type), rng))
        if biases and name.split(".")[2:3] in (["attn_q"], ["attn_k"], ["attn_v"]):
            tensors.append(random_tensor(name.replace("weight", "bias"), shape[1:], "F32", rng))
    return write_gguf(path, keys, [*tensors, *extra_tensors])
