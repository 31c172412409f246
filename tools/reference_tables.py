"""What the reference pages are written with: a Markdown table, and a page that says who wrote it."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def page(title: str, *paragraphs: str) -> str:
    written_by = "<!-- Written by `make docs` from the tables in the code; edit those. -->"
    return "\n\n".join((f"# {title}", written_by, *paragraphs)) + "\n"
