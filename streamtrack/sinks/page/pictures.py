"""Images of the page, with what was found in them drawn over them."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from math import floor, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from streamtrack.sinks.contrast import stretch
from streamtrack.sinks.page.gathered import Moment
from streamtrack.types import Pixels

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7")
"""Okabe and Ito's, told apart with every kind of colour vision; these stand out from grey."""
MOST_PX, MOVIE_PX = 1024, 384
"""Longer side of a still image, and of the movie."""
MOVIE_FRAMES = 48
FRAME_MS = 100
TRAIL = 12
"""Frames of a track that the movie shows behind a particle."""
_MOST_DRAWN = 20_000


def shrink(image: "Pixels | NDArray[np.float32]", most_px: int) -> tuple[NDArray[np.float32], int]:
    """Return an image whose longer side is at most so many px, and how many px one of it is: means of n x n.

    What is left over at the border is cut off.
    """
    n = min(-(-max(image.shape) // most_px), *image.shape)
    height, width = (size // n for size in image.shape)
    part = image[: height * n, : width * n].reshape(height, n, width, n)
    mean: NDArray[np.float32] = part.mean(axis=(1, 3), dtype=np.float32)
    return mean, n


def still(
    image: "Pixels | NDArray[np.float32]",
    over: str,
    pixel_size_um: float | None,
    label: str,
    dim: float = 1.0,
    least_span: float = 0.0,
) -> str:
    """Return an SVG of an image, (H, W), whose coordinates are its pixels, with ``over`` drawn over it.

    White is ``dim`` times as far from black as the image asks for, and ``least_span`` counts at least.
    """
    height, width = image.shape
    small, n = shrink(image, MOST_PX)
    low, high = stretch(small)
    uri = _uri(_image(small, low, low + dim * max(high - low, least_span)))
    size = f'width="{small.shape[1] * n}" height="{small.shape[0] * n}"'
    placed = f'x="-0.5" y="-0.5" {size} preserveAspectRatio="none" href="{uri}"'
    box = f"-0.5 -0.5 {width} {height}"
    return (
        f'<svg class="picture" role="img" aria-label="{escape(label, quote=True)}" viewBox="{box}"><image {placed}/>'
        f"{over}{_scale_bar(width, height, pixel_size_um)}</svg>"
    )


def circles(y: NDArray[np.float32], x: NDArray[np.float32], shape: tuple[int, int]) -> str:
    """Return circles around detections."""
    radius = max(5.0, max(shape) / 120)
    places = zip(y[:_MOST_DRAWN].tolist(), x[:_MOST_DRAWN].tolist(), strict=True)
    each = (f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{radius:.1f}"/>' for top, left in places)
    return f'<g class="found">{"".join(each)}</g>'


def lines(tracks: Iterable[NDArray[np.float32]]) -> str:
    """Return tracks, of (x, y) each."""
    parts = []
    for number, track in enumerate(tracks):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in track.tolist())
        parts.append(f'<polyline stroke="{COLOURS[number % len(COLOURS)]}" points="{line}"/>')
    return f'<g class="tracks">{"".join(parts)}</g>'


def movie(moments: Sequence[Moment]) -> tuple[str, str]:
    """Return the movie as an animated WebP, and its first frame for those who want no motion, as data URIs."""
    low, high = stretch(np.stack([moment.image for moment in moments[:: max(1, len(moments) // 8)]]))
    times = max(1, MOVIE_PX // max(moments[0].image.shape))
    per_px = times / moments[0].per_px
    trails: dict[int, list[tuple[int, float, float]]] = {}
    frames = []
    for moment in moments:
        image = _image(np.repeat(np.repeat(moment.image, times, 0), times, 1), low, high).convert("RGB")
        _draw(image, moment, trails, per_px)
        frames.append(image)
    data = BytesIO()
    moving: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": FRAME_MS, "loop": 0}
    frames[0].save(data, "WEBP", quality=60, method=2, **moving)
    return _data_uri(data), _uri(frames[0])


def _draw(image: Image.Image, moment: Moment, trails: dict[int, list[tuple[int, float, float]]], per_px: float) -> None:
    """Draw the detections of a frame, and where their tracks come from."""
    drawing = ImageDraw.Draw(image)
    y, x = (moment.y + 0.5) * per_px, (moment.x + 0.5) * per_px
    for top, left, particle in zip(y.tolist(), x.tolist(), moment.particle.tolist(), strict=True):
        colour = COLOURS[particle % len(COLOURS)] if particle >= 0 else "#FFFFFF"
        drawing.ellipse((left - 5, top - 5, left + 5, top + 5), outline=colour)
        if particle >= 0:
            trails.setdefault(particle, []).append((moment.index, left, top))
    for particle, trail in list(trails.items()):
        recent = [(left, top) for index, left, top in trail if index > moment.index - TRAIL]
        if not recent:
            del trails[particle]
        elif len(recent) > 1:
            drawing.line(recent, fill=COLOURS[particle % len(COLOURS)], width=1)
    drawing.text((4, 2), f"frame {moment.index}", fill="#FFFFFF", stroke_width=1, stroke_fill="#000000")


def _scale_bar(width: int, height: int, pixel_size_um: float | None) -> str:
    """Return a bar of 1, 2 or 5 times a power of ten µm, about a fifth of the image wide."""
    if pixel_size_um is None:
        return ""
    fifth_um = width * pixel_size_um / 5
    decade = 10.0 ** floor(log10(fifth_um))
    bar_um = decade * max(factor for factor in (1, 2, 5) if factor * decade <= fifth_um)
    right, y, size = 0.95 * width, 0.94 * height, 0.04 * max(width, height)
    left = right - bar_um / pixel_size_um
    bar = f'<line x1="{left:.2f}" x2="{right:.2f}" y1="{y:.2f}" y2="{y:.2f}" stroke-width="{size / 5:.2f}"/>'
    text = f'<text x="{(left + right) / 2:.2f}" y="{y - size / 2:.2f}" font-size="{size:.2f}">{bar_um:g} µm</text>'
    return f'<g class="bar">{bar}{text}</g>'


def _image(image: NDArray[np.float32], low: float, high: float) -> Image.Image:
    with np.errstate(invalid="ignore"):
        grey = np.clip((np.nan_to_num(image, nan=low) - low) / (high - low), 0, 1)
    return Image.fromarray((255 * grey).astype(np.uint8))


def _uri(image: Image.Image) -> str:
    data = BytesIO()
    image.save(data, "WEBP", quality=85, method=2)
    return _data_uri(data)


def _data_uri(data: Any) -> str:
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
