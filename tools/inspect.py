"""`espalier inspect`: what a GGUF file holds, and the memory that serving it takes.

Everything shown comes from a stranger's file: texts are printed with what a terminal could obey escaped.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine import ModelFileError
from engine.loading.gguf_file import GGUFFile
from engine.text.chat_template import MAX_SOURCE
from engine.text.keys import PREFIX, TEMPLATE_KEY
from engine.text.token_kind import TokenKind
from engine.text.tokenizer import Tokenizer, load_tokenizer
from tools.backends import checked_kv_type
from tools.model_lines import model_lines, size_text
from tools.terminal import printable

SHOWN = 60  # characters of a value; a template is shown whole
FIRST = 3  # values of a list


def run(model: Path, ctx_size: int | None, kv_type: str) -> None:
    """Raises ModelFileError for what is no GGUF file; one that this build cannot run is shown all the same."""
    checked_kv_type(kv_type)
    out = Console(highlight=False)
    with GGUFFile.open(model) as gguf:
        out.print(_metadata_table(gguf))
        out.print(_tensor_table(gguf))
        out.print(_type_table(gguf))
        for line in (
            *_vocabulary_lines(gguf),
            *_template_lines(gguf),
            *model_lines(gguf, ctx_size, kv_type),
        ):
            out.print(Text(line))


def _table(title: str, *columns: str, numbers: Iterable[str] = ()) -> Table:
    """Cells are folded, never cut: a name that is cut off is no use."""
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in numbers else "left")
    return table


def _metadata_table(gguf: GGUFFile) -> Table:
    table = _table(f"{printable(gguf.path.name)}: metadata", "key", "value")
    for key, value in gguf.metadata.items():
        table.add_row(Text(printable(key)), Text(_brief(value)))
    return table


def _tensor_table(gguf: GGUFFile) -> Table:
    numbers = ("bits/weight", "size")
    table = _table("tensors", "tensor", "type", "shape", *numbers, numbers=numbers)
    for tensor in gguf.tensors.values():
        shape = " x ".join(map(str, tensor.shape))
        bits = _bits(tensor.shape[0] * tensor.n_rows, tensor.nbytes)
        table.add_row(Text(printable(tensor.name)), tensor.type.name, shape, bits, size_text(tensor.nbytes))
    return table


def _type_table(gguf: GGUFFile) -> Table:
    totals: dict[str, tuple[int, int]] = {}
    for tensor in gguf.tensors.values():
        weights, nbytes = totals.get(tensor.type.name, (0, 0))
        totals[tensor.type.name] = weights + tensor.shape[0] * tensor.n_rows, nbytes + tensor.nbytes
    whole = sum(weights for weights, _ in totals.values()), sum(nbytes for _, nbytes in totals.values())
    numbers = ("weights", "share", "bits/weight", "size")
    table = _table("types", "type", *numbers, numbers=numbers)
    rows = sorted(totals.items(), key=lambda item: -item[1][0])
    for name, (weights, nbytes) in [*rows, ("all", whole)] if rows else []:
        share = f"{weights / whole[0]:.1%}"
        table.add_row(name, f"{weights:,}", share, _bits(weights, nbytes), size_text(nbytes))
    return table


def _vocabulary_lines(gguf: GGUFFile) -> Iterator[str]:
    try:
        tokenizer = load_tokenizer(gguf.metadata)
    except ModelFileError as error:
        yield f"vocabulary: not usable by this build: {printable(str(error))}"
        return
    kinds = [tokenizer.vocabulary.kinds.count(kind) for kind in (TokenKind.CONTROL, TokenKind.USER_DEFINED)]
    family = " ".join(printable(str(gguf.metadata[PREFIX + key])) for key in ("model", "pre")
                      if PREFIX + key in gguf.metadata)  # fmt: skip
    yield f"vocabulary: {family}, {tokenizer.n_vocab} tokens, {kinds[0]} control, {kinds[1]} user-defined"
    yield from _special_tokens(tokenizer)


def _special_tokens(tokenizer: Tokenizer) -> Iterator[str]:
    vocabulary = tokenizer.vocabulary
    added = "in front of every text" if tokenizer.add_bos else "not added to texts"
    named = {"begin": vocabulary.bos_id, "unknown": vocabulary.unk_id, "padding": vocabulary.pad_id}
    for name, token_id in named.items():
        if token_id is not None:
            note = f", {added}" if name == "begin" else ""
            yield f"  {name}: {_token(tokenizer, token_id)}{note}"
    ends = ", ".join(_token(tokenizer, token_id) for token_id in sorted(tokenizer.eos_ids))
    yield f"  end of generation: {ends or 'none'}"


def _template_lines(gguf: GGUFFile) -> list[str]:
    source = gguf.metadata.get(TEMPLATE_KEY)
    if source is None:
        return ["chat template: none; a plain default is used"]
    text = str(source)
    if len(text) > MAX_SOURCE:
        return [f"chat template: {len(text)} characters; at most {MAX_SOURCE} are read"]
    return [
        f"chat template, {len(text)} characters:",
        *(f"  {printable(line)}" for line in text.split("\n")),
    ]


def _token(tokenizer: Tokenizer, token_id: int) -> str:
    return f"{token_id} {_brief(tokenizer.piece(token_id))}"


def _brief(value: Any) -> str:
    """One value on one line; of a list its length and first values."""
    if isinstance(value, list | np.ndarray):
        first = ", ".join(
            map(_brief, value[:FIRST].tolist() if isinstance(value, np.ndarray) else value[:FIRST])
        )
        return f"{len(value)}: {first}{', ...' if len(value) > FIRST else ''}"
    if isinstance(value, float):
        return f"{value:.7g}"  # what a float32 holds
    if not isinstance(value, str):
        return str(value)
    return printable(value[:SHOWN]) + ("..." if len(value) > SHOWN else "")


def _bits(weights: int, nbytes: int) -> str:
    return f"{8 * nbytes / weights:.3f}"
