"""Charts as SVG, whose colours are the page's: dark and light are its style's business."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 42
_LEGEND_PX = 16
"""Of a row of the legend, above the drawing."""
_MOST_TICKS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What is drawn.

    Attributes
    ----------
    x, y
        Shape (N,); of bars, x are the edges, (N + 1,).
    style
        Lines of several series also differ in their dashes.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    name: str = ""
    style: Literal["line", "bars", "points"] = "line"


class Scale:
    """From values to places along one side."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False) -> None:
        if log:
            low, high = np.log10(low), np.log10(high)
        if not high > low:
            low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
        self._low, self._high, self._start, self._end, self._log = low, high, start, end, log

    def __call__(self, values: NDArray[Any] | float) -> NDArray[np.float64]:
        """Return where values lie; what is beyond the scale lies a little beyond its ends."""
        with np.errstate(divide="ignore", invalid="ignore"):
            at = np.log10(values) if self._log else np.asarray(values, np.float64)
        share = (at - self._low) / (self._high - self._low)
        place: NDArray[np.float64] = self._start + np.clip(share, -0.02, 1.02) * (self._end - self._start)
        return place

    def ticks(self) -> list[float]:
        """Return round values within the scale."""
        return _log_ticks(self._low, self._high) if self._log else _ticks(self._low, self._high)


def chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    note: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """Return a figure; one that says that there is nothing, where there is nothing."""
    drawn = [_finite(each, log_x, log_y) for each in series]
    drawn = [each for each in drawn if len(each.y)]
    caption = f"<figcaption><b>{escape(title)}</b> {escape(note)}</figcaption>"
    if not drawn:
        return f'<figure>{caption}<p class="none">nothing to show</p></figure>'
    x = Scale(*_span([each.x for each in drawn]), LEFT, WIDTH - RIGHT, log=log_x)
    low, high = _span([each.y for each in drawn])
    low, high = (low / 1.2, high * 1.2) if log_y else (min(low, 0.0), high + 0.08 * (high - min(low, 0.0)))
    y = Scale(low, high, HEIGHT - BOTTOM, TOP + _LEGEND_PX * sum(bool(each.name) for each in drawn), log=log_y)
    parts = [_grid(x, y, x_label, y_label)]
    parts += [_drawn(each, x, y, number) for number, each in enumerate(drawn, 1)]
    parts.append(_legend(drawn))
    label = escape(f"{title}: {y_label} against {x_label}", quote=True)
    return (
        f'<figure>{caption}<svg class="chart" role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _finite(series: Series, log_x: bool, log_y: bool) -> Series:
    """Return what can be drawn of it."""
    if series.style == "bars":
        return series if np.any(series.y > 0) else Series(series.x[:0], series.y[:0])
    keep = np.isfinite(series.x) & np.isfinite(series.y)
    keep &= (series.x > 0) | (not log_x)
    keep &= (series.y > 0) | (not log_y)
    return Series(series.x[keep], series.y[keep], series.name, series.style)


def _span(values: Sequence[NDArray[Any]]) -> tuple[float, float]:
    return float(min(each.min() for each in values)), float(max(each.max() for each in values))


def _drawn(series: Series, x: Scale, y: Scale, number: int) -> str:
    if series.style == "bars":
        edges, tops, base = x(series.x), y(series.y), float(y(0.0))
        bars = (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 0.6, 0.4):.1f}" height="{base - top:.1f}"/>'
            for left, right, top in zip(edges[:-1], edges[1:], tops, strict=True)
            if base - top > 0
        )
        return f'<g class="bars s{number}">{"".join(bars)}</g>'
    places = list(zip(x(series.x).tolist(), y(series.y).tolist(), strict=True))
    if series.style == "points" or len(places) == 1:
        dots = "".join(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3"/>' for left, top in places)
        return f'<g class="points s{number}">{dots}</g>'
    line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
    return f'<polyline class="line s{number}" points="{line}"/>'


def _grid(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    parts = []
    base, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    for value in x.ticks():
        at = float(x(value))
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 5}"/>')
        parts.append(f'<text x="{at:.1f}" y="{base + 18}" text-anchor="middle">{_said(value)}</text>')
    for value in y.ticks():
        at = float(y(value))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_said(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    across = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{across}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turned = f'transform="rotate(-90 12 {middle})"'
    parts.append(f'<text x="12" y="{middle}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return "".join(parts)


def _legend(drawn: Sequence[Series]) -> str:
    named = [(number, each) for number, each in enumerate(drawn, 1) if each.name]
    parts = []
    for row, (number, each) in enumerate(named):
        at = TOP + _LEGEND_PX * row
        kind = "points" if each.style == "points" else "line"
        mark = (
            f'<g class="points s{number}"><circle cx="{WIDTH - RIGHT - 12}" cy="{at}" r="3"/></g>'
            if kind == "points"
            else f'<line class="line s{number}" x1="{WIDTH - RIGHT - 24}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
        )
        text = f'<text x="{WIDTH - RIGHT - 30}" y="{at + 4}" text-anchor="end">{escape(each.name)}</text>'
        parts.append(mark + text)
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / _MOST_TICKS
    decade = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= rough)
    first = np.ceil(low / step - 1e-9)
    return [float(step * n) for n in np.arange(first, np.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between two logarithms, and 2 and 5 of each where there are few."""
    decades = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    return [each for each in ticks if low - 1e-9 <= np.log10(each) <= high + 1e-9]


def _said(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value + 0.0:,.6g}"  # no -0
