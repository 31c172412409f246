"""The summary on the terminal: what a type does for one token and for many, cold, and its share of the ceiling."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tools.kernel_bench.rows import Row

WIDTH = 112  # characters that the tables need


def print_summary(rows: Sequence[Row]) -> None:
    console = Console(highlight=False, width=max(Console().width, WIDTH))
    for op, table in (("linear", linear_table), ("attention", attention_table)):
        if any(row.op == op for row in rows):
            console.print(table([row for row in rows if row.op == op]))


def linear_table(rows: Sequence[Row]) -> Table:
    """A line for each type, tier, matrix and thread count; its smallest and its largest batch."""
    table = Table("type", "tier", "matrix", "thr", *("batch", "G/s", "share", "of") * 2, box=None)
    table.title = "weights x tokens, 1e9 a second and core, cold"
    lines: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        if row.cache == "cold":
            key = (row.type, row.tier, f"{row.rows}x{row.columns}", str(row.threads))
            lines.setdefault(key, []).append(row)
    for key, of_line in lines.items():
        few, many = (pick(of_line, key=lambda row: row.batch) for pick in (min, max))
        table.add_row(*key, *_figures(few), *(_figures(many) if many is not few else ()))
    return table


def _figures(row: Row) -> tuple[str, ...]:
    return str(row.batch), f"{row.gmacs_per_core:.1f}", f"{row.share:.0%}", row.bound


def attention_table(rows: Sequence[Row]) -> Table:
    table = Table(
        "keys", "tier", "heads", "context", "tokens", "thr", "us/token", "GB/s", "share", "of", box=None
    )
    table.title = "attention of one layer"
    for row in rows:
        heads, figures = f"{row.rows}x{row.columns}", (f"{row.us_per_token:.1f}", f"{row.gbytes_per_s:.1f}")
        numbers = (str(row.context), str(row.batch), str(row.threads))
        table.add_row(row.type, row.tier, heads, *numbers, *figures, f"{row.share:.0%}", row.bound)
    return table
