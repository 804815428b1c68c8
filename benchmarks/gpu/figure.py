"""The picture of ``benchmarks.gpu``: latency over frame size, and the stages of a whole run."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"tensorrt": "#000000", "tensorrt_rtx": "#0072B2", "torch": "#D55E00"}
OTHER = "#009E73"
PERCENTILES = ("p50", "p95", "p99", "p99.9", "max")


def draw(record: dict[str, Any], path: Path) -> None:
    """Write the picture of a record as PNG; what was not measured is left out."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, sizes in record["engine"].items():
        _draw_sizes(left, name, {int(px): row for px, row in sizes.items() if row})
    for name, row in record["runs"].items():
        if row:
            _draw_run(right, name, row)
    left.set(xscale="log", yscale="log", xlabel="frame height and width (px)", ylabel="ms per frame")
    right.set(yscale="log", ylabel="ms after the camera had the frame", title="512 x 512 px, 1000 frames/s")
    for axes in (left, right):
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle("; ".join(record["computer"]["gpus"] or [record["computer"]["processor"]]), fontsize=10)
    figure.savefig(path, dpi=130)


def _draw_sizes(axes: Axes, name: str, rows: dict[int, dict[str, Any]]) -> None:
    colour = COLOURS.get(name, OTHER)
    kinds = {
        "paced, p99": (lambda row: row["paced"]["stages_ms"]["detect"]["p99"], ":"),
        "paced, p50": (lambda row: row["paced"]["stages_ms"]["detect"]["p50"], "--"),
        "back to back, p50": (lambda row: row["back to back"]["stages_ms"]["detect"]["p50"], "-"),
        "on the device, p50": (lambda row: (row["device_ms"] or {}).get("p50"), "-."),
    }
    for kind, (get, style) in kinds.items():
        points = [(px, get(row)) for px, row in sorted(rows.items()) if get(row) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), style, marker=".", color=colour, label=f"{name}: {kind}")


def _draw_run(axes: Axes, name: str, row: dict[str, Any]) -> None:
    total = row["stages_ms"]["total"]
    known = [key for key in PERCENTILES if total[key] is not None]
    label = f"{name}: {row['dropped']} of {row['due']} frames dropped"
    axes.plot(known, [total[key] for key in known], "o-", color=COLOURS.get(name, OTHER), label=label)
