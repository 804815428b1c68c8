"""The picture of ``streamtrack bench``."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from streamtrack.bench.record import LEVELS, MODES, Measured
from streamtrack.bench.summary import Timeline
from streamtrack.latency import percentiles

COLOURS = {"engine": "#000000", "step": "#0072B2", "run": "#D55E00"}
STAGE_COLOURS = {"queue": "#999999", "detect": "#000000", "link": "#0072B2", "decide": "#E69F00"}
"""Both from Okabe and Ito's, which those who see fewer colours can tell apart too."""


def draw(measured: Measured, path: Path) -> None:
    """Write the picture as PNG: for each mode a histogram and a timeline of the latency, and bars of the stages."""
    figure = Figure(figsize=(13, 8.5), layout="constrained")
    panels = figure.subplots(2, 3, width_ratios=[1, 1.3, 1])
    for row, mode in zip(panels, MODES, strict=True):
        lines = {level: measured.timelines[f"{level}, {mode}"] for level in LEVELS}
        warm_up = measured.record["extent"]["warm_up_frames"]
        _draw_histogram(row[0], {level: line.split(warm_up)[1] for level, line in lines.items()})
        _draw_timeline(row[1], lines, warm_up)
        _draw_stages(row[2], {level: line.split(warm_up)[1] for level, line in lines.items()})
        row[0].set_ylabel(f"{_mode_name(mode, measured.record)}\n\nshare of the frames that take longer")
    figure.suptitle(_title(measured.record), fontsize=10)
    figure.savefig(path, dpi=130)


def _draw_histogram(axes: Axes, lines: dict[str, Timeline]) -> None:
    """Draw how many frames take longer than a time: unlike in a histogram of bars, the tail can be read off."""
    for level, line in lines.items():
        ms = np.sort(_latency_ms(line))
        if len(ms) == 0:
            continue
        axes.step(ms, 1 - np.arange(len(ms)) / len(ms), where="pre", color=COLOURS[level], label=level)
    axes.set(xscale="log", yscale="log", xlabel="latency (ms)")
    _plain_ticks(axes.xaxis)
    axes.grid(alpha=0.25, which="both")
    if axes.lines:
        axes.legend(frameon=False, fontsize=8)


def _draw_timeline(axes: Axes, lines: dict[str, Timeline], warm_up: int) -> None:
    for level, line in lines.items():
        axes.plot(line.index, _latency_ms(line), ".", ms=2.5, color=COLOURS[level], label=level)
    axes.axvspan(-0.5, warm_up - 0.5, color="#EEEEEE", zorder=0)
    interval = next(iter(lines.values())).interval_ns
    if interval:
        axes.axhline(interval / 1e6, color="#777777", ls="--", lw=1)
        axes.annotate(
            "frame interval", (1, interval / 1e6), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    axes.set(yscale="log", xlabel="frame (grey: warm-up)", ylabel="latency (ms)")
    _plain_ticks(axes.yaxis)
    axes.grid(alpha=0.25)


def _draw_stages(axes: Axes, lines: dict[str, Timeline]) -> None:
    """Draw the median of each stage, one bar beside the other: medians do not add up."""
    labels, height = [], 0
    for level, line in lines.items():
        for stage, ms in line.durations_ms():
            if len(ms) and stage in STAGE_COLOURS:
                median = percentiles(ms)["p50"] or 0.0
                axes.barh(height, median, color=STAGE_COLOURS[stage])
                axes.text(median, height, f" {median:.4g}", va="center", fontsize=8)
                labels.append(f"{level}: {stage}")
                height += 1
    axes.set_yticks(range(height), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="median (ms)")
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _plain_ticks(axis: Axis) -> None:
    """Write 1, 2, 5, 10 and so on in plain numbers, not as powers; an axis without data stays as it is."""
    if not axis.axes.lines:
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _latency_ms(line: Timeline) -> NDArray[np.float64]:
    return np.asarray((line.stamps_ns[:, -1] - line.stamps_ns[:, 0]) / 1e6)


def _mode_name(mode: str, record: dict[str, Any]) -> str:
    return f"camera at {record['fps']:g} frames/s" if mode == "paced" else mode


def _title(record: dict[str, Any]) -> str:
    height, width = record["movie"]["shape"]
    computer = record["computer"]
    gpu = f", {computer['gpus'][0]}" if computer["gpus"] else ""
    return (
        f"{record['movie']['name']}, {width} x {height} px; back end {record['engine'].get('backend')}\n"
        f"{computer['processor']}, {computer['usable_cores']} cores{gpu}; {computer['system']}"
    )
