"""The picture of ``benchmarks.engines``: F1 of every engine for every family, with the CPU time of a frame."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#000000", "#666666", "#0072B2", "#009E73", "#D55E00", "#CC79A7")
"""Of the engines, in the order of the record (Okabe and Ito 2008)."""


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a record as PNG: a panel for each family, a bar for each engine, a line for a deviation."""
    rows = record["rows"]
    engines, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("engine", "family"))
    figure = Figure(figsize=(3.1 * len(names) + 1.6, 0.5 * len(engines) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        own = {row["engine"]: row for row in rows if row["family"] == name}
        for place, engine in enumerate(engines):
            row = own[engine]
            colour = COLOURS[place % len(COLOURS)]
            axes.barh(place, row["f1"], xerr=row["f1_sd"], color=colour, ecolor="#999999", height=0.62)
            text = f"{row['f1']:.3f}   {row['cpu_ms']:.0f} ms"
            axes.annotate(text, (1.32, place), va="center", fontsize=9, annotation_clip=False)
        axes.set(title=name, xlim=(0, 1.3), xlabel=f"F1 within {own[engines[0]]['gate_px']:g} px")
        axes.set_xticks([0, 0.5, 1])
        axes.grid(alpha=0.25, axis="x")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(engines)), engines)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=90)
