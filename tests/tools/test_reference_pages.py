"""The reference pages say what the code's tables say."""

from pathlib import Path

import pytest

from engine.models import ARCHITECTURES
from engine.text.pre_tokenizers import PRE_TOKENIZERS
from engine.text.tokenizer import TOKENIZER_MODELS
from kernels.quant_tensor import FILE_TYPES
from tools.reference_pages import PAGES, ROOT, formats_page
from tools.reference_tables import markdown_table


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](), f"{name} is stale: run `make docs`"


def test_every_type_architecture_and_tokenizer_has_a_row() -> None:
    cells = [line.split(" | ")[0] for line in formats_page().splitlines() if "|" in line]
    first_cells = [name.strip("| `") for cell in cells for name in cell.split(", ")]
    listed = [*FILE_TYPES, *ARCHITECTURES, *TOKENIZER_MODELS, *PRE_TOKENIZERS]  # llama is in two tables
    for name in listed:
        assert first_cells.count(name) == listed.count(name), name


def test_a_stranger_in_the_table_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = formats_page()
    monkeypatch.setitem(FILE_TYPES, "NEW", FILE_TYPES["Q8_0"])
    assert formats_page() != before


def test_a_bar_in_a_cell_stays_in_its_cell() -> None:
    assert markdown_table(("a", "b"), [("x|y", "z")]).splitlines()[-1] == "| x\\|y | z |"


def test_pages_are_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"({Path(name).as_posix()})" in readme for name in PAGES)
