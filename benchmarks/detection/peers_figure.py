"""The picture of ``benchmarks.peers``: time per frame, with the accuracy beside it."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

OURS, OTHERS, EAGER = "#000000", "#0072B2", "#D55E00"


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a record as PNG: a bar up to each method's median, a line to its p99 or maximum."""
    rows = sorted(record["methods"], key=lambda row: -row["ms"]["p50"])
    figure = Figure(figsize=(9, 1.6 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for height, row in enumerate(rows):
        ms = row["ms"]
        slowest = ms["p99"] or ms["max"]
        axes.barh(height, ms["p50"], color=_colour(row["method"]), height=0.6)
        axes.plot([ms["p50"], slowest], [height, height], color="#777777", lw=1.5)
        axes.annotate(_text(row), (slowest, height), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["method"].replace("_", " ") for row in rows])
    note = "* best threshold on the same frames (an oracle)"
    axes.set(xlabel=f"ms per frame, 512 x 512 px: median, line to p99 or maximum\n{note}")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.35)
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{record['computer']['processor']}, {record['threads']} threads", fontsize=10)
    figure.savefig(path, dpi=130)


def _text(row: dict[str, Any]) -> str:
    if row["f1_5px"] is None:
        return f"{row['ms']['p50']:.4g} ms, random weights"
    return f"{row['ms']['p50']:.4g} ms, F1 {row['f1_5px']:.3f}{'*' if row['oracle'] else ''}"


def _colour(method: str) -> str:
    if method.startswith("ours_"):
        return OURS
    return EAGER if method.startswith("torch_eager") else OTHERS
