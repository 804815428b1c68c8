"""The picture of the accuracy benchmark, drawn from its record."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

OURS = "denodet"
COLOURS = {
    "denodet": "#000000",
    "denodet_first_frame": "#000000",
    "denodet_challenge": "#777777",
    "denodet_paper": "#D55E00",
    "unet": "#6A3D9A",
    "matched_filter": "#0072B2",
    "dog": "#E69F00",
    "wavelet": "#009E73",
    "sos": "#8C564B",
    "trackpy": "#CC79A7",
    "ufish": "#56B4E9",
}
"""Okabe and Ito's, which those who see fewer colours can tell apart too."""
PUBLISHED_COLOUR = "#D55E00"
LABELS = {
    "denodet": "denodet: one set of weights, one threshold",
    "denodet_first_frame": "denodet without the two frames before",
    "denodet_challenge": "denodet with the weights of that name",
    "denodet_paper": "denodet as printed, trained here",
    "unet": "unet, the same head",
    "matched_filter": "matched filter, exact image*",
    "dog": "difference of Gaussians*",
    "wavelet": "B3-spline wavelet*",
    "sos": "SOS: wavelet and Gaussian fit*",
    "trackpy": "trackpy.locate*",
    "ufish": "U-FISH*",
}
SCENARIOS = ("vesicle", "receptor", "microtubule")
MEASURES = {"f1_5px": "F1 at 5 px", "f1_2px": "F1 at 2 px", "rmse_px": "RMSE (px)"}
F1_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0)
STRETCH = 0.4
PUBLISHED = {"f1_5px": "denodet_f1", "rmse_px": "denodet_rmse_px"}


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a record of `benchmarks.accuracy` as PNG."""
    figure = Figure(figsize=(13.5, 9.0), layout="constrained")
    panels = figure.subplots(len(MEASURES), len(SCENARIOS) + 1, width_ratios=[1, 1, 1, 1.15])
    for row, measure in zip(panels, MEASURES, strict=True):
        for axes, scenario in zip(row, SCENARIOS, strict=False):
            _draw_measure(axes, record, measure, scenario)
        row[0].set_ylabel(MEASURES[measure])
    for axes, scenario in zip(panels[0], SCENARIOS, strict=False):
        axes.set_title(scenario, fontweight="bold")
    for axes in panels[-1, :-1]:
        axes.set_xlabel("SNR")
    _draw_reliability(panels[0, -1], record["reliability"])
    _draw_empty(panels[2, -1], record["empty"])
    panels[1, -1].axis("off")
    handles, labels = panels[-1, 0].get_legend_handles_labels()
    panels[1, -1].legend(handles, labels, loc="center", frameon=False, title="Means over the densities", fontsize=8.5)
    panels[1, -1].text(0.5, -0.12, "* best threshold on the same frames (an oracle)", ha="center", fontsize=9)
    figure.savefig(path, dpi=150)


def _draw_measure(axes: Axes, record: dict[str, Any], measure: str, scenario: str) -> None:
    snrs = record["frames"]["snrs"]
    for method, label in LABELS.items():
        rows = [row for row in record["means"] if (row["method"], row["scenario"]) == (method, scenario)]
        points = [(row["snr"], row[measure]) for row in rows if row[measure] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=COLOURS[method], **_style(method))
    if measure in PUBLISHED:
        values = dict(zip(record["published"]["snrs"], record["published"][scenario][PUBLISHED[measure]], strict=True))
        shown = [values[snr] for snr in snrs]
        axes.plot(snrs, shown, "D", ms=6, mfc="none", mew=1.6, color=PUBLISHED_COLOUR, label="DENODET, as published")
    if measure == "rmse_px":
        bound = [record["cramer_rao_px"][scenario][f"{snr:g}"] for snr in snrs]
        axes.plot(snrs, bound, "--", color="#777777", lw=1.5, label="Cramér-Rao bound, spot alone")
    _set_axes(axes, snrs, measure)


def _style(method: str) -> dict[str, Any]:
    if method == OURS:
        return {"lw": 2.8, "marker": "o", "ms": 5, "zorder": 5}
    if method.startswith(OURS):
        return {"lw": 1.4, "ls": ":", "zorder": 4}
    return {"lw": 1.2, "marker": ".", "ms": 5}


def _set_axes(axes: Axes, snrs: list[float], measure: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(snrs, [f"{snr:g}" for snr in snrs])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if measure == "rmse_px":
        ticks = (0.1, 0.2, 0.5, 1.0, 2.0)
        axes.set_yscale("log")
        axes.set_ylim(0.09, 3.0)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        # Stretched towards 1, so that .95 and .99 can be told apart.
        axes.set_yscale("function", functions=(_stretched, _unstretched))
        axes.set_ylim(0, 1)
        axes.set_yticks(F1_TICKS, [f"{tick:g}" for tick in F1_TICKS])


def _stretched(f1: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 - np.maximum(1 - f1, 0) ** STRETCH)


def _unstretched(height: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 - np.maximum(1 - height, 0) ** (1 / STRETCH))


def _draw_reliability(axes: Axes, reliability: dict[str, list[dict[str, float]]]) -> None:
    axes.plot([0, 1], [0, 1], "--", color="#777777", lw=1)
    for name, marker in zip((*SCENARIOS, "pooled"), ("^", "s", "v", "o"), strict=True):
        bins = reliability.get(name, [])
        width, colour = (2.8, "#000000") if name == "pooled" else (1.0, "#777777")
        score, right = [each["mean_score"] for each in bins], [each["right"] for each in bins]
        axes.plot(score, right, color=colour, lw=width, marker=marker, ms=4, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score of a denodet detection", ylabel="share that is right (5 px)")
    axes.set_title("Reliability of the score")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_empty(axes: Axes, empty: list[dict[str, Any]]) -> None:
    kinds = [row["kind"] for row in empty][::-1]
    counts = [row["detections_per_frame"] for row in empty][::-1]
    axes.barh(kinds, counts, color="#000000", height=0.55)
    for k, count in enumerate(counts):
        axes.text(count, k, f" {count:.2g}", va="center", fontsize=8)
    axes.set_xlim(0, 1.2 * max([0.1, *counts]))
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.set_title("denodet detections per empty frame")
    axes.spines[["top", "right"]].set_visible(False)
