"""The drawing of ``overview.png``. Never through pyplot, whose state is shared between threads."""

from io import BytesIO
from itertools import cycle, islice
from math import floor, log10
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from streamtrack.sinks.contrast import stretch
from streamtrack.sinks.overview_summary import PointSample, Summary
from streamtrack.types import CONFIRMED, DENOISED, Detections, Pixels

# Okabe and Ito's colours, told apart with every kind of colour vision; those of the tracks also stand out from grey.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#E69F00", "#009E73"
_TRACK_COLOURS = (_ORANGE, "#56B4E9", _GREEN, "#F0E442", "#D55E00", "#CC79A7")
_STAGES = {
    "detect": ("detection", _BLUE),
    "link": ("linking", _ORANGE),
    "whole": ("grab to decision, waiting included", _GREEN),
}

_VEIL = (0.45, 0.5, 0.6, 0.6)

_WINDOW_PX = 512
_CIRCLE_PX = 10
_MAX_BARS = 40
_EDGES_MS = np.geomspace(1e-3, 1e5, 161)  # 20 bars per decade

Window = tuple[slice, slice]


class Picture(Figure):
    """A figure that a notebook shows by itself, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def draw(summary: Summary) -> Figure:
    """Draw a run over frames of any size and shape, be it without detections, tracks or even frames."""
    window = _window(summary)
    figure, axes = _layout(summary.source.shape, window)
    _draw_frame(axes["F"], summary, window)
    _draw_image(axes["D"], summary, window)
    _draw_tracks(axes["T"], summary, window)
    _draw_lengths(axes["N"], summary)
    _draw_latency(axes["L"], summary)
    figure.suptitle(_headline(summary), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def _window(summary: Summary) -> Window:
    """Return the part of a large frame that is shown at full resolution: around most of its detections."""
    detections = summary.shown.detections if summary.shown else Detections.empty()
    return (
        _span(summary.source.shape[0], detections.y),
        _span(summary.source.shape[1], detections.x),
    )


def _span(size: int, positions: NDArray[np.float32]) -> slice:
    length = min(size, _WINDOW_PX)
    centre = float(np.median(positions)) if len(positions) else size / 2
    start = int(np.clip(centre - length / 2, 0, size - length))
    return slice(start, start + length)


def _layout(shape: tuple[int, int], window: Window) -> tuple[Figure, dict[str, Axes]]:
    """Arrange frame F, image D, tracks T, track lengths N and latency L to suit square, wide and tall frames."""
    ratio = shape[1] / shape[0]
    window_ratio = (window[1].stop - window[1].start) / (window[0].stop - window[0].start)
    widths, heights = None, None
    if ratio > 2:
        mosaic = "FD;TT;NL"
        heights = [_inches(7 / window_ratio), _inches(14 / ratio), 3.0]
        size = (15.0, sum(heights) + 2.5)
    elif ratio < 0.5:
        mosaic = "FDTN;FDTL"
        widths = [_inches(8 * window_ratio), _inches(8 * window_ratio), _inches(8 * ratio), 5.0]
        size = (sum(widths) + 3, 9.0)
    else:
        mosaic = "FFDDTT;NNNLLL"
        heights = [4.7 / ratio, 3.0]
        size = (15.0, sum(heights) + 1.7)
    figure = Picture(size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplot_mosaic(mosaic, width_ratios=widths, height_ratios=heights)


def _inches(length: float) -> float:
    return min(max(length, 1.2), 5.0)


def _headline(summary: Summary) -> str:
    source = summary.source
    name = source.name if len(source.name) <= 100 else "…" + source.name[-99:]
    known = [f"{source.shape[0]} x {source.shape[1]} px", source.dtype]
    if source.pixel_size_um is not None:
        known.append(f"{source.pixel_size_um:.4g} µm per px")
    if source.frame_interval_s is not None:
        known.append(f"{source.frame_interval_s:.4g} s per frame")
    lost = f" ({summary.n_lost:,} lost in between)" if summary.n_lost else ""
    counts = [
        _count(summary.n_frames, "frame") + lost,
        _count(summary.n_detections, "detection"),
        _count(summary.lengths.total(), "confirmed track"),
    ]
    if summary.inside is not None:
        counts.append(f"{summary.inside.mean():.0%} of the frame searched")
    # The font knows no other scripts, and would warn of each sign it lacks.
    return f"{name.encode('cp1252', 'replace').decode('cp1252')}\n" + "  ·  ".join(known + counts)


def _draw_frame(axes: Axes, summary: Summary, window: Window) -> None:
    if summary.shown is None:
        return _note(axes, "Frame", _why_none(summary))
    detections = summary.shown.detections
    _show(axes, summary.shown.frame.pixels, window)
    _title(axes, f"Frame {summary.shown.frame.index}", _count(len(detections), "detection") + _cropped(summary, window))
    circles = EllipseCollection(
        _CIRCLE_PX,
        _CIRCLE_PX,
        0,
        units="xy",
        offsets=np.column_stack([detections.x, detections.y]),
        offset_transform=axes.transData,
        facecolors="none",
        edgecolors=_ORANGE,
        linewidths=1.1,
    )
    axes.add_collection(circles)
    _shade(axes, summary)
    _draw_scale_bar(axes, summary.source.pixel_size_um, window)


def _shade(axes: Axes, summary: Summary) -> None:
    """Lay a veil on what was not searched, with a line around it."""
    if summary.inside is None or summary.inside.all():
        return
    inside = summary.inside
    veil = np.zeros((*inside.shape, 4), np.float32)
    veil[~inside] = _VEIL
    height, width = inside.shape
    axes.imshow(veil, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect=axes.get_aspect(), interpolation="nearest")
    if inside.any():
        axes.contour(inside.astype(np.float32), levels=[0.5], colors="white", linewidths=0.8, linestyles="dashed")


def _why_none(summary: Summary) -> str:
    return "lost with the process that was killed" if summary.n_frames else "no frame was processed"


def _draw_image(axes: Axes, summary: Summary, window: Window) -> None:
    kind = summary.source.image
    if summary.shown is None or summary.shown.denoised is None:
        return _note(axes, kind.capitalize(), "not available: the frame meant for it did not come")
    low, high = stretch(summary.shown.frame.pixels[window])
    least_span = (high - low) / 2 if kind == DENOISED else 0.0  # or traces of noise would shine
    _show(axes, summary.shown.denoised, window, least_span=least_span)
    _title(axes, kind.capitalize(), f"frame {summary.shown.frame.index}" + _cropped(summary, window))


def _draw_tracks(axes: Axes, summary: Summary, window: Window) -> None:
    if summary.projection is None:
        return _note(axes, "Tracks", "no frame was processed")
    _show(axes, summary.projection, (slice(0, None), slice(0, None)), dim=1.5)
    lines = _lines(summary.points)
    colours = list(islice(cycle(_TRACK_COLOURS), len(lines)))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.2, capstyle="round"))
    if _cropped(summary, window):
        y, x = window
        corner = (x.start - 0.5, y.start - 0.5)
        axes.add_patch(Rectangle(corner, x.stop - x.start, y.stop - y.start, fill=False, color="white", ls="--"))
    _shade(axes, summary)
    shown = _count(len(lines), "track") if lines else "no confirmed track"
    if lines and not summary.all_points:
        shown += f" since frame {summary.points.frame[0]}"
    _title(axes, "Maximum projection" if summary.shown else "Tracks", shown)


def _draw_lengths(axes: Axes, summary: Summary) -> None:
    if not summary.lengths:
        return _note(axes, "Track length", "no confirmed track")
    length = np.array(sorted(summary.lengths))
    tracks = np.array([summary.lengths[n] for n in length.tolist()])
    width = -(-int(length[-1]) // _MAX_BARS)
    bins = np.arange(0.5, length[-1] + width + 0.5, width).tolist()
    axes.hist(length, bins, weights=tracks, color=_BLUE, edgecolor="white", linewidth=0.5)
    median = length[np.searchsorted(np.cumsum(tracks), tracks.sum() / 2)]
    _title(axes, "Track length", f"median {_count(int(median), 'detection')}")
    _label(axes, "detections in the track", "confirmed tracks")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)


def _draw_latency(axes: Axes, summary: Summary) -> None:
    counts = {stage: summary.latency[stage].counts_ms(_EDGES_MS) for stage in _STAGES}
    used = np.flatnonzero(sum(counts.values()))
    if not used.size:
        return _note(axes, "Latency", _why_none(summary))
    names = {"whole": "whole frame"} if not summary.source.live else {}
    for stage, (name, colour) in _STAGES.items():
        median_ms = summary.latency[stage].percentile_ns(500) / 1e6
        axes.stairs(counts[stage], _EDGES_MS, fill=True, color=colour, alpha=0.25)
        label = f"{names.get(stage, name)}: median {_two_digits(median_ms)} ms"
        axes.stairs(counts[stage], _EDGES_MS, color=colour, linewidth=1.4, label=label)
    axes.set_xscale("log")
    axes.set_xlim(_EDGES_MS[used[0]] / 2, _EDGES_MS[used[-1] + 1] * 2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(top=1.45 * axes.get_ylim()[1])  # room for the legend
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    if summary.source.live:
        _title(axes, "Latency", "per frame, by stage")
    else:
        per_second = 1e9 / summary.latency["whole"].percentile_ns(500)
        _title(axes, "Time per frame", f"{_two_digits(per_second)} frames per second")
    _label(axes, "time (ms)", "frames")
    _tidy(axes)


def _show(axes: Axes, image: Pixels, window: Window, dim: float = 1.0, least_span: float = 0.0) -> None:
    """Show part of an image, stretched between percentiles, with the coordinates of the whole one as ticks."""
    part = image[window]
    low, high = stretch(part)
    high = max(high, low + least_span)
    top, left = window[0].start, window[1].start
    extent = (left - 0.5, left + part.shape[1] - 0.5, top + part.shape[0] - 0.5, top - 0.5)
    aspect: Literal["equal", "auto"] = "equal" if 1 / 12 < part.shape[1] / part.shape[0] < 12 else "auto"
    axes.imshow(part, cmap="gray", vmin=low, vmax=low + dim * (high - low), extent=extent, aspect=aspect)
    axes.set_autoscale_on(False)
    _label(axes, "x (px)", "y (px)")


def _draw_scale_bar(axes: Axes, pixel_size_um: float | None, window: Window) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten µm, about a fifth of the image wide."""
    if pixel_size_um is None:
        return
    height, width = (side.stop - side.start for side in window)
    fifth_um = width * pixel_size_um / 5
    decade = 10.0 ** floor(log10(fifth_um))
    bar_um = decade * max(factor for factor in (1, 2, 5) if factor * decade <= fifth_um)
    right, y = window[1].stop - 0.05 * width, window[0].stop - 0.05 * height
    axes.plot([right - bar_um / pixel_size_um, right], [y, y], color="white", linewidth=3, solid_capstyle="butt")
    box = {"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1}
    middle = (right - bar_um / pixel_size_um / 2, y)
    axes.annotate(
        f"{bar_um:g} µm", middle, (0, 4), textcoords="offset points", ha="center", va="bottom", color="white", bbox=box
    )


def _lines(points: PointSample) -> list[NDArray[np.float32]]:
    """Return (x, y) of every confirmed track with at least two points."""
    confirmed = np.unique(points.particle[points.existence >= CONFIRMED])
    rows = np.flatnonzero(np.isin(points.particle, confirmed))
    rows = rows[np.argsort(points.particle[rows], kind="stable")]  # frames stay in order
    starts = np.flatnonzero(np.diff(points.particle[rows])) + 1
    xy = np.column_stack([points.x[rows], points.y[rows]])
    return [line for line in np.split(xy, starts) if len(line) > 1]


def _cropped(summary: Summary, window: Window) -> str:
    shape = tuple(side.stop - side.start for side in window)
    return "" if shape == summary.source.shape else f" · {shape[0]} x {shape[1]} px of it"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _two_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _title(axes: Axes, what: str, more: str) -> None:
    """Write the title in bold, and what belongs to it below, both from the left so that narrow panels hold them."""
    axes.set_title(more, loc="left", fontsize=10)
    axes.annotate(
        what, (0, 1), (0, 19), xycoords="axes fraction", textcoords="offset points", fontsize=11, fontweight="bold"
    )


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _tidy(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)


def _note(axes: Axes, title: str, text: str) -> None:
    """Say in the place of a picture why there is none."""
    _title(axes, title, text)
    axes.set(xticks=[], yticks=[], facecolor="whitesmoke")
    axes.spines[:].set_visible(False)
