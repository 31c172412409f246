"""Reference pages written from the tables in the code: `make docs` writes them, a test keeps them true.

A page is a function that returns Markdown, and one entry in PAGES. Nothing on a page is written twice: what a table
in the code does not say, the page does not say either.
"""

from collections.abc import Callable
from pathlib import Path

from engine.models import ARCHITECTURES
from engine.models.config import ROPE_SCALINGS
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from engine.text.tokenizer import TOKENIZER_MODELS
from kernels.quant_tensor import FILE_TYPES, QuantType
from tools.operator_pages import command_line_page, configuration_page
from tools.reference_tables import markdown_table, page
from tools.request_page import requests_page

ROOT = Path(__file__).parent.parent
N_IN = 4096  # of the row whose bits per weight are listed: with the row's header, which short rows share less


def formats_page() -> str:
    """What a model file may hold."""
    return page(
        "Formats",
        "What Espalier reads: GGUF versions 2 and 3, little-endian, whole or split. Anything else is refused in one "
        "line that says what was found and what would work.",
        "## Tensor types",
        f"{len(FILE_TYPES)} types, in any mix. Bits per weight are of a row of {N_IN} weights, header included. "
        "The trellis types are drawn bit by bit in [kt_format.md](kt_format.md).",
        markdown_table(
            (
                "type",
                "GGUF id",
                "bits per weight",
                "weights in a block",
                "bytes of a block",
                "bytes before a row",
            ),
            map(_type_row, FILE_TYPES.values()),
        ),
        "A name that ends in `_V1` is the 3INST trellis of May 2025: files call it by the name without it, and "
        "`--kt-trellis auto` tells the two apart. One that ends in `_R4` has four rows interleaved, and is loaded as "
        "the type without it, weight for weight; IQ1_S_R4 and IQ1_M_R4, whose blocks are not IQ1_S's and IQ1_M's, "
        f"as rows of a form of their own. A row of {_tailed_types()} may be any multiple of 32 weights: a tail of "
        "32-blocks follows its whole blocks. All other rows are whole blocks.",
        "## Architectures",
        markdown_table(("`general.architecture`", "what it is"), map(_architecture_row, ARCHITECTURES)),
        f"Rope scaling (`rope.scaling.type`): {', '.join(ROPE_SCALINGS)}, and a factor for each pair "
        "(`rope_freqs.weight`, Llama 3.1).",
        "## Tokenizers",
        markdown_table(("`tokenizer.ggml.model`", "what it is"), map(_tokenizer_row, TOKENIZER_MODELS)),
        "### Pre-tokenizers",
        "How a `gpt2` vocabulary's texts are cut before merging. A file that names another is refused.",
        markdown_table(("`tokenizer.ggml.pre`", "how texts are cut"), _pre_tokenizer_rows()),
    )


#: Where a page lies in the checkout -> what writes it.
PAGES: dict[str, Callable[[], str]] = {
    "docs/formats.md": formats_page,
    "docs/configuration.md": configuration_page,
    "docs/command-line.md": command_line_page,
    "docs/requests.md": requests_page,
}


def _tailed_types() -> str:
    return " and ".join(t.name for t in FILE_TYPES.values() if t.tail_nibbles)


def _type_row(quant_type: QuantType) -> tuple[str, ...]:
    bits = 8 * quant_type.row_bytes(N_IN) / N_IN
    numbers = (quant_type.block_size, quant_type.block_bytes, quant_type.row_header_bytes)
    return (quant_type.name, str(quant_type.ggml_id), f"{bits:.5g}", *map(str, numbers))


def _architecture_row(name: str) -> tuple[str, ...]:
    """What its file says first."""
    return f"`{name}`", ARCHITECTURES[name].about


def _tokenizer_row(name: str) -> tuple[str, ...]:
    return f"`{name}`", TOKENIZER_MODELS[name].description


def _pre_tokenizer_rows() -> list[tuple[str, ...]]:
    """One row for each family, with all of its names."""
    names: dict[str, list[str]] = {}
    for name, family in PRE_TOKENIZERS.items():
        names.setdefault(family.description, []).append(f"`{name}`")
    return [(", ".join(of_family), description) for description, of_family in names.items()]


def write_pages(root: Path = ROOT) -> None:
    for name, write in PAGES.items():
        (root / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
