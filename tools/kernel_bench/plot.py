"""kernels.png: each type beside its ceiling, speed over the batch, and attention over the context."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, ScalarFormatter

from tools.kernel_bench.rows import Row

COLOURS = {"scalar": "#999999", "avx2": "#4c78a8", "avx512vnni": "#f58518"}
STYLES = {"scalar": ":", "avx2": "--", "avx512vnni": "-"}
MAX_LINES = 6  # types with a line over batches; more cannot be told apart
SPEED = "weights x tokens, 1e9 a second and core"


def write_plot(path: Path, rows: Sequence[Row]) -> bool:
    """False where nothing was measured that has a picture. Raises OSError."""
    linear = [row for row in rows if row.op == "linear" and row.threads == 1 and row.cache == "cold"]
    if not linear:
        return False
    height = max(6.5, 0.22 * len({row.type for row in linear}) + 1.5)
    figure, axes = plt.subplot_mosaic("abc;abd", figsize=(17, height), layout="constrained")
    few, many = (pick(row.batch for row in linear) for pick in (min, max))
    _bars(axes["a"], [row for row in linear if row.batch == few], _tokens(few))
    _bars(axes["b"], [row for row in linear if row.batch == many], _tokens(many))
    _over_batches(axes["c"], linear)
    _attention(axes["d"], [row for row in rows if row.op == "attention"])
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return True


def _tokens(n: int) -> str:
    return "one token" if n == 1 else f"{n} tokens"


def _bars(axes: Axes, rows: Sequence[Row], what: str) -> None:
    """A bar for each type and tier, a tick where its ceiling is; the first matrix that a type was measured with."""
    types = list(dict.fromkeys(row.type for row in rows))
    tiers = [tier for tier in COLOURS if any(row.tier == tier for row in rows)]
    height = 0.8 / len(tiers)
    for i, tier in enumerate(tiers):
        of_tier = {row.type: row for row in reversed(rows) if row.tier == tier}
        places = [types.index(name) + (i - (len(tiers) - 1) / 2) * height for name in of_tier]
        axes.barh(
            places, [row.gmacs_per_core for row in of_tier.values()], height, color=COLOURS[tier], label=tier
        )
        limits = [row.ceiling_gmacs_per_core for row in of_tier.values()]
        axes.plot(limits, places, "|", color="black", markersize=5, label="" if i else "ceiling")
    axes.set_yticks(range(len(types)), types, fontsize=8)
    axes.set_ylim(len(types) - 0.4, -0.6)
    _log_scale(axes)
    axes.set_title(f"{what}, one thread, cold")
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.05), ncols=4)


def _log_scale(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
    axes.set_xlabel(SPEED)


def _over_batches(axes: Axes, rows: Sequence[Row]) -> None:
    """Of the matrix that has the most lines."""
    shape = Counter((row.rows, row.columns) for row in rows).most_common(1)[0][0]
    lines: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        if (row.rows, row.columns) == shape:
            lines.setdefault((row.type, row.tier), {})[row.batch] = row.gmacs_per_core
    longest = max(map(len, lines.values()))
    types = list(dict.fromkeys(name for (name, _), line in lines.items() if len(line) == longest))[:MAX_LINES]
    for (name, tier), line in lines.items():
        if name in types:
            axes.plot(list(line), list(line.values()), STYLES[tier], color=f"C{types.index(name)}", marker=".",
                      label=f"{name} {tier}")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_title(f"{shape[0]} x {shape[1]} over the batch")
    axes.set_xlabel("tokens in a call")
    axes.set_ylabel(SPEED, fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _attention(axes: Axes, rows: Sequence[Row]) -> None:
    if not rows:
        axes.set_axis_off()
        return
    names = [
        f"{row.type} {row.rows}x{row.columns}, {_tokens(row.batch)} at {row.context}, {row.threads} thr"
        for row in rows
    ]
    places = {name: i for i, name in enumerate(dict.fromkeys(names))}
    for tier in (tier for tier in COLOURS if any(row.tier == tier for row in rows)):
        of_tier = [(name, row) for name, row in zip(names, rows, strict=True) if row.tier == tier]
        axes.plot([row.us_per_token for _, row in of_tier], [places[name] for name, _ in of_tier], "o",
                  color=COLOURS[tier], label=tier)  # fmt: skip
    axes.set_yticks(range(len(places)), list(places), fontsize=7)
    axes.set_ylim(len(places) - 0.4, -0.6)
    _log_scale(axes)
    axes.set_xlabel("us per token and layer")
    axes.set_title("attention")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
