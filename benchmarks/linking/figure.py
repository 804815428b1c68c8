"""The picture of the linking benchmark, drawn from its record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Row = dict[str, Any]

COLOURS = {
    "imm_lag2": "#000000",
    "imm_lag0": "#D55E00",
    "trackpy": "#CC79A7",
    "trackpy_velocity": "#E69F00",
    "lapmod": "#009E73",
    "laptrack": "#56B4E9",
    "optimum": "#0072B2",
}
"""Okabe and Ito's, which those who see fewer colours can tell apart too."""
LABELS = {
    "imm_lag2": "imm: defaults, lag 2",
    "imm_lag0": "imm: defaults, lag 0",
    "trackpy": "trackpy, tuned*",
    "trackpy_velocity": "trackpy with NearestVelocityPredict, tuned*",
    "lapmod": "cKDTree + lap.lapmod, tuned*",
    "laptrack": "laptrack, whole movie, settings of lapmod*",
    "optimum": "optimum of the whole movie, if Brownian",
}
MARKED_N = {500: "o", 1000: "s"}
"""Numbers of particles in the upper panels, and their markers."""
DEADLINE_MS = 1.0
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def draw(record: Row, path: Path) -> None:
    """Write the picture of a record of `benchmarks.linking` as PNG."""
    motions = list(dict.fromkeys(row["motion"] for row in record["cells"]))
    figure = Figure(figsize=(13.0, 8.2), layout="constrained")
    panels = figure.subplots(2, len(motions), sharex="row", sharey="row", squeeze=False)
    for motion, (upper, lower) in zip(motions, panels.T, strict=True):
        rows = [row for row in record["cells"] if row["motion"] == motion and "failed" not in row]
        _draw_accuracy(upper, rows)
        _draw_time(lower, rows, record["extent"]["numbers"])
        upper.set_title(motion, fontweight="bold")
    panels[0, 0].set_ylabel("alpha")
    panels[1, 0].set_ylabel("ms per frame: median, p99 (dashed)")
    for n, marker in MARKED_N.items():
        panels[0, 0].plot([], [], marker, color="#777777", label=f"{n} particles")
    panels[0, 0].legend(frameon=False, loc="lower left")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    note = "* search range and memory chosen on a movie that is scored"
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, title=note)
    figure.savefig(path, dpi=150)


def _draw_accuracy(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw alpha over time, a line from 500 to 1000 particles for each method."""
    for method, colour in COLOURS.items():
        points = [row for row in rows if row["method"] == method and row["n"] in MARKED_N]
        where = [_typical(row) for row in points], [row["alpha"] for row in points]
        axes.plot(*where, color=colour, lw=_width(method), alpha=0.5)
        for row, ms, alpha in zip(points, *where, strict=True):
            axes.plot(ms, alpha, MARKED_N[row["n"]], color=colour, ms=9 if method.startswith("imm") else 7)
    axes.set(xscale="log", ylim=(0, 1), xlabel="ms per frame, median")
    axes.xaxis.set_major_formatter(PLAIN)
    _tidy(axes)


def _draw_time(axes: Axes, rows: Sequence[Row], numbers: Sequence[int]) -> None:
    for method, colour in COLOURS.items():
        mine = [row for row in rows if row["method"] == method]
        axes.plot(
            [row["n"] for row in mine],
            [_typical(row) for row in mine],
            marker=".",
            color=colour,
            lw=_width(method),
            label=LABELS[method],
        )
        tails = [(row["n"], row["ms"]["p99"]) for row in mine if "p99" in row["ms"]]
        if tails:
            axes.plot(*zip(*tails, strict=True), color=colour, lw=0.8, ls=(0, (4, 2)))
    axes.axhline(DEADLINE_MS, color="#777777", lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel="particles per frame")
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    _tidy(axes)


def _typical(row: Row) -> float:
    """Return ms per frame: the median, or what there is of methods that take whole movies."""
    ms = row["ms"]
    typical: float = ms["median"] if "median" in ms else ms["mean"]
    return typical


def _width(method: str) -> float:
    return 2.6 if method.startswith("imm") else 1.3


def _tidy(axes: Axes) -> None:
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
