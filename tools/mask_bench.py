"""`python -m tools.mask_bench`: what a form costs for each token of an answer, with a vocabulary of 128 000 tokens.

A mask is computed while the backend works on the logits that it is for, so what counts is that it takes less than a
step. Without a file the vocabulary is made of random syllables, with one it is the file's; no weights are read.
"""

import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from engine.constraints import Compiler, ConstraintKind, ConstraintSpec
from engine.loading.gguf_file import GGUFFile
from engine.text.tokenizer import Tokenizer, load_tokenizer
from tools.backends import machine_line

N_TOKENS = 128_000
ROUNDS = 20  # answers to each form

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "email": {"type": "string", "pattern": "^[a-z.]+@[a-z]+[.]com$"},
        "kind": {"enum": ["person", "company", "robot"]},
        "places": {"type": "array", "items": {"$ref": "#/$defs/place"}},
    },
    "required": ["name", "age", "email", "kind", "places"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}, "at": {"type": "number"}},
            "required": ["city", "at"],
            "additionalProperties": False,
        }
    },
}
RECORD_TEXT = (
    '{"name": "Ada Lovelace of London", "age": 36, "email": "ada.l@engines.com", "kind": "person", "places": '
    '[{"city": "a long street beside the river", "at": 51.5}, {"city": "Marylebone", "at": -0.15}]}'
)
ARITHMETIC = 'root ::= sum\nsum ::= term (" + " term)*\nterm ::= [0-9]+ | "(" sum ")"\n'


class Form(NamedTuple):
    """One kind of form, and an answer to it."""

    name: str
    kind: ConstraintKind
    value: Any
    text: str


FORMS = (
    Form("JSON schema", "json_schema", RECORD, RECORD_TEXT),
    Form("JSON object", "json_object", None, RECORD_TEXT),
    Form(
        "pattern",
        "regex",
        r"[A-Z][a-z ]{0,200}\. [0-9]{4}-[0-9]{2}",
        "Once upon a time there was a king. 1815-12",
    ),
    Form("choice of 1000", "choice", [f"the answer {i}" for i in range(1000)], "the answer 777"),
    Form("grammar", "gbnf", ARITHMETIC, "12 + (345 + 6) + ((7)) + 89"),
)


def main(
    model: Annotated[Path | None, typer.Argument(help="A GGUF file whose vocabulary is taken.")] = None,
) -> None:
    """Microseconds for a mask and for taking a token in, median and 99th percentile."""
    tokenizer = _made() if model is None else _read(model)
    print(machine_line())
    started = time.perf_counter()
    compiler = Compiler(tokenizer, tokenizer.eos_ids)
    print(f"{tokenizer.n_vocab} tokens, read by llguidance in {time.perf_counter() - started:.2f} s")
    for form in FORMS:
        print(_line(form, compiler, tokenizer))


def _line(form: Form, compiler: Compiler, tokenizer: Tokenizer) -> str:
    started = time.perf_counter()
    constraint = compiler.compile(ConstraintSpec(form.kind, form.value, form.name))
    compile_ms = (time.perf_counter() - started) * 1e3
    steps = [step for _ in range(ROUNDS) for step in _steps(constraint.guide(), tokenizer, form.text)]
    masks, accepts = ([step[i] for step in steps] for i in (0, 1))
    return (
        f"{form.name:15} compile {compile_ms:6.1f} ms   mask {statistics.median(masks):6.1f} us, "
        f"p99 {np.percentile(masks, 99):6.1f}   accept {statistics.median(accepts):5.1f} us   {len(steps)} tokens"
    )


def _steps(guide: Any, tokenizer: Tokenizer, text: str) -> Iterator[tuple[float, float]]:
    """Microseconds of the mask and of the token, along the text."""
    words = np.empty(-(-tokenizer.n_vocab // 32), np.int32)
    ids = tokenizer.encode(text, add_special=False, parse_special=False)
    if tokenizer.add_space_prefix:  # the answer to a prompt begins without it
        ids = tokenizer.encode(f"\n{text}", add_special=False, parse_special=False)[2:]
    for token_id in ids:
        started = time.perf_counter()
        guide.fill_mask(words)
        filled = time.perf_counter()
        guide.accept(token_id)
        yield (filled - started) * 1e6, (time.perf_counter() - filled) * 1e6


def _read(path: Path) -> Tokenizer:
    with GGUFFile.open(path) as file:
        return load_tokenizer(file.metadata)


def _made() -> Tokenizer:
    """Syllables, alone and together, with and without a space in front; the bytes beside them."""
    draw = random.Random(0)
    syllables = [a + b + c for a in "bcdfghklmnprst" for b in "aeiou" for c in ("", "n", "r", "s", "st")]
    words = {"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(N_TOKENS)}
    digits = [str(i) for i in range(1000)]
    signs = [a + b for a in '{}[]":,.-+()' for b in ("", *'{}[]":, \n')]
    pieces = list(
        dict.fromkeys([" ", *digits, *signs, *(f" {word}" for word in sorted(words)), *sorted(words)])
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    ordinary = [piece.replace(" ", "▁") for piece in pieces[: N_TOKENS - len(special)]]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(ordinary)]
    tokens = [*special, *ordinary]
    return load_tokenizer(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.add_space_prefix": False,
        }
    )


if __name__ == "__main__":
    typer.run(main)
