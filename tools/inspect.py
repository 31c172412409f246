"""`espalier inspect`: what a GGUF file holds, and the memory that serving it takes."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import EspalierError, ModelFileError
from engine.loading.gguf_file import GGUFFile
from engine.loading.model_config import ModelConfig
from engine.text.tokenizer import load_tokenizer

SHOWN = 60  # characters of a value


def run(model: Path, ctx_size: int | None) -> None:
    out = Console(highlight=False)
    with GGUFFile.open(model) as gguf:
        out.print(_metadata_table(gguf))
        out.print(_tensor_table(gguf))
        out.print(_type_table(gguf))
        out.print(f"files: {len(gguf.files)} of {gguf.size / 2**20:.1f} MiB together")
        for line in (*_text_lines(gguf), *_model_lines(gguf, ctx_size)):
            out.print(line, markup=False, soft_wrap=True)


def _metadata_table(gguf: GGUFFile) -> Table:
    table = Table("key", "value", title=f"{gguf.path.name}: metadata", title_justify="left")
    for key, value in gguf.metadata.items():
        table.add_row(ascii(key)[1:-1], _brief(value))
    return table


def _tensor_table(gguf: GGUFFile) -> Table:
    table = Table("tensor", "type", "shape", "MiB", title="tensors", title_justify="left")
    for tensor in gguf.tensors.values():
        shape = " x ".join(map(str, tensor.shape))
        table.add_row(ascii(tensor.name)[1:-1], tensor.type.name, shape, f"{tensor.nbytes / 2**20:.2f}")
    return table


def _type_table(gguf: GGUFFile) -> Table:
    totals: dict[str, tuple[int, int]] = {}
    for tensor in gguf.tensors.values():
        weights, nbytes = totals.get(tensor.type.name, (0, 0))
        totals[tensor.type.name] = weights + tensor.shape[0] * tensor.n_rows, nbytes + tensor.nbytes
    all_weights, all_bytes = (
        (sum(column) for column in zip(*totals.values(), strict=True)) if totals else (0, 0)
    )
    table = Table("type", "weights", "share", "bits/weight", title="types", title_justify="left")
    for name, (weights, nbytes) in sorted(totals.items(), key=lambda item: -item[1][0]):
        table.add_row(name, f"{weights:,}", f"{weights / all_weights:.1%}", f"{8 * nbytes / weights:.3f}")
    if all_weights:
        table.add_row("all", f"{all_weights:,}", "", f"{8 * all_bytes / all_weights:.3f}")
    return table


def _text_lines(gguf: GGUFFile) -> list[str]:
    try:
        tokenizer = load_tokenizer(gguf.metadata)
    except ModelFileError as error:
        return [f"vocabulary: not usable by this build: {error}"]
    ends = ", ".join(f"{i} {tokenizer.piece(i)!a}" for i in sorted(tokenizer.eos_ids))
    template = gguf.metadata.get("tokenizer.chat_template")
    return [
        f"vocabulary: {tokenizer.n_vocab} tokens; BOS {tokenizer.bos_id}{'' if tokenizer.add_bos else ', not added'}",
        f"end of generation: {ends or 'none'}",
        f"chat template: {_brief(template) if template else 'none; a plain default is used'}",
    ]


def _model_lines(gguf: GGUFFile, ctx_size: int | None) -> list[str]:
    try:
        config = ModelConfig.from_metadata(gguf)
    except ModelFileError as error:
        return [f"model: not run by this build: {error}"]
    n_ctx = config.n_ctx_train if ctx_size is None else ctx_size
    if not 1 <= n_ctx <= config.n_ctx_train:
        raise EspalierError(f"--ctx-size {n_ctx}: 1 to {config.n_ctx_train} tokens, the trained length")
    kv_bytes = 2 * config.n_layer * config.n_head_kv * config.head_dim * 2 * n_ctx  # keys and values, f16
    weights = sum(tensor.nbytes for tensor in gguf.tensors.values())
    return [
        f"model: {config.architecture}, {config.n_layer} layers, n_embd {config.n_embd}, n_ff {config.n_ff}, "
        f"heads {config.n_head}/{config.n_head_kv} of {config.head_dim}, trained on {config.n_ctx_train} tokens",
        f"memory: {weights / 2**20:.1f} MiB of weights (at most a tenth more once packed) "
        f"+ {kv_bytes / 2**20:.1f} MiB of KV cache for each request of {n_ctx} tokens",
    ]


def _brief(value: Any) -> str:
    if isinstance(value, list | np.ndarray):
        head = ", ".join(ascii(item) for item in list(value[:3]))
        return f"[{len(value)}] {head[:SHOWN]}{', ...' if len(value) > 3 else ''}".replace("[", r"\[", 1)
    text = ascii(value)
    return (text if len(text) <= SHOWN else text[:SHOWN] + "...").replace("[", r"\[")
