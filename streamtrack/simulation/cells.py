"""Images of cells and nuclei with known places and sizes: what networks learn from that find more than spots.

Cells are ellipses with a wavy outline, a texture, darker and brighter parts inside; they touch, lie over each other,
out of focus and cut by the border, among debris, in uneven light, seen through a camera.
"""

from dataclasses import dataclass
from math import exp, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from streamtrack.simulation.backgrounds import Background, random_slope, random_waves
from streamtrack.simulation.camera import Camera, hot_pixels
from streamtrack.simulation.cell_shapes import Cell, CellKind, draw_cell, draw_shape

Image = NDArray[np.float32]
Range = tuple[float, float]

_MOST_CELLS = 400
_FAILURES = 25
_LEAST_VISIBLE_PX = 25
_LEAST_VISIBLE_SHARE = 0.05
_WIDE_PX = 6.0


@dataclass(frozen=True, slots=True)
class CellRanges:
    """What crops of cells look like. Ranges are drawn from for each crop.

    Parameters
    ----------
    diameter_px
        Of a crop's typical cell, that of a disc of the same area; log-uniform.
    covered
        Share of the crop that cells cover; log-uniform.
    contrast
        Mean signal of a typical cell over the standard deviation of the background's noise in a pixel; log-uniform.
    background_e
        Electrons per pixel beside the cells; log-uniform.
    empty_fraction
        Share of the crops without any cell.
    small_fraction
        Share of the crops that have bright fragments and small cells between the others.
    ring_fraction
        Share of the crops whose cells are brighter at their edge.
    eight_bit_fraction
        Share of the crops in 256 levels, mostly fewer.
    """

    diameter_px: Range = (6.0, 48.0)
    covered: Range = (0.03, 0.9)
    contrast: Range = (1.5, 120.0)
    background_e: Range = (2.0, 2000.0)
    empty_fraction: float = 0.08
    small_fraction: float = 0.3
    ring_fraction: float = 0.12
    eight_bit_fraction: float = 0.35


@dataclass(frozen=True, slots=True, eq=False)
class CellScene:
    """Cells as they are, before a camera saw them.

    Attributes
    ----------
    mean_e
        (S, S) float32: electrons that each pixel gets on average.
    cells
        (N, 3) float64: y, x of the centre of the visible part of each cell, px, and radius of a disc of its area.
    camera
        That sees them.
    border
        (S, S) bool: pixels without an image; None if all have one.
    """

    mean_e: Image
    cells: NDArray[np.float64]
    camera: Camera
    border: NDArray[np.bool_] | None = None

    def expose(self, rng: np.random.Generator) -> Image:
        """Return a frame (S, S), whole counts."""
        frame = self.camera.expose(rng, self.mean_e)
        if self.border is not None:
            frame[self.border] = 0.0
        return frame


def draw_cells(rng: np.random.Generator, size_px: int, ranges: CellRanges) -> CellScene:
    """Draw one scene; the same state of ``rng`` gives the same."""
    kind = _draw_kind(rng, ranges)
    border = _border(rng, size_px) if rng.random() < 0.04 else None
    light, cells = np.zeros((size_px, size_px), np.float32), np.empty((0, 3))
    if rng.random() >= ranges.empty_fraction:
        light, owner, areas = _draw_field(rng, size_px, kind, _log_uniform(rng, ranges.covered))
        cells = _visible(owner if border is None else np.where(border, 0, owner), areas)
    light = _defocused(rng, light, kind.radius_px)
    background = _background(rng, size_px, ranges)
    noise_e = sqrt(float(background.mean()) + 1.0)
    signal_e = noise_e * _log_uniform(rng, ranges.contrast)
    mean_e = background + signal_e * (light + _debris(rng, size_px, kind.radius_px))
    mean_e *= _uneven_light(rng, size_px)
    return CellScene(
        mean_e.astype(np.float32),
        cells,
        _camera(rng, mean_e, ranges.eight_bit_fraction),
        border,
    )


def _log_uniform(rng: np.random.Generator, limits: Range) -> float:
    return exp(rng.uniform(log(limits[0]), log(limits[1])))


def _blurred(image: Image, sigma_px: float) -> Image:
    """Return an image (S, S), S a multiple of 4, through a Gaussian filter; a wide one needs no fine pixels."""
    if sigma_px < _WIDE_PX or len(image) % 4:
        return np.asarray(gaussian_filter(image, sigma_px, truncate=3.0))
    small = image.reshape(len(image) // 4, 4, len(image) // 4, 4).mean((1, 3))
    small = gaussian_filter(small, sigma_px / 4, truncate=3.0)
    return np.asarray(zoom(small, 4, order=1, mode="nearest", grid_mode=True))


def _draw_kind(rng: np.random.Generator, ranges: CellRanges) -> CellKind:
    return CellKind(
        radius_px=_log_uniform(rng, ranges.diameter_px) / 2,
        log_sd=rng.uniform(0.03, 0.3),
        elongation=rng.uniform(0.05, 1.0),
        waviness=rng.uniform(0.0, 0.15),
        dome=rng.uniform(0.0, 0.8),
        ring=rng.uniform(0.3, 1.0) if rng.random() < ranges.ring_fraction else 0.0,
        texture=rng.uniform(0.0, 0.35),
        holes=rng.uniform(0.0, 3.0) if rng.random() < 0.5 else 0.0,
        brightness_log_sd=rng.uniform(0.05, 0.6),
        huddled=rng.uniform(0.0, 0.8),
        overlap=rng.uniform(0.0, 0.2),
        small=rng.uniform(0.03, 0.3) if rng.random() < ranges.small_fraction else 0.0,
    )


def _draw_field(
    rng: np.random.Generator, size_px: int, kind: CellKind, covered: float
) -> tuple[Image, NDArray[np.int32], NDArray[np.float64]]:
    """Return the light of the cells of a crop, 1 for a typical one, whose pixels are whose, and the cells' areas."""
    light = np.zeros((size_px, size_px), np.float32)
    owner = np.zeros((size_px, size_px), np.int32)
    texture = _texture(rng, size_px, kind)
    areas: list[float] = []
    placed: list[tuple[float, float, float]] = []
    most = min(_MOST_CELLS, 1 + rng.poisson(covered * size_px**2 / (pi * kind.radius_px**2)))
    failures = 0
    while len(placed) < most and failures < _FAILURES:
        if rng.random() < 0.03:
            _divide(rng, light, owner, kind, texture, placed, areas, size_px)
            continue
        cell = draw_cell(rng, kind)
        y, x = _place(rng, size_px, cell.radius_px, placed, kind.huddled)
        if _put(light, owner, cell, y, x, len(areas) + 1, texture, kind.overlap):
            placed.append((y, x, cell.radius_px))
            areas.append(cell.area_px)
        else:
            failures += 1
    return light, owner, np.array(areas)


def _texture(rng: np.random.Generator, size_px: int, kind: CellKind) -> Image:
    """Return a factor (S, S) around 1, its grains smaller than a cell."""
    texture = np.ones((size_px, size_px), np.float32)
    for share in (rng.uniform(0.06, 0.2), rng.uniform(0.25, 0.6)):
        grains = _blurred(rng.standard_normal((size_px, size_px), np.float32), max(0.5, share * kind.radius_px))
        texture += np.float32(kind.texture * rng.uniform(0.2, 1.0) / max(float(grains.std()), 1e-6)) * grains
    return texture.clip(0.15, 3.0)


def _place(
    rng: np.random.Generator, size_px: int, radius: float, placed: list[tuple[float, float, float]], huddled: float
) -> tuple[float, float]:
    """Return a place for a cell: anywhere, some of it outside perhaps, or beside another one."""
    if placed and rng.random() < huddled:
        y, x, other = placed[rng.integers(len(placed))]
        heading, distance = rng.uniform(0, 2 * pi), (radius + other) * rng.uniform(0.8, 1.25)
        return y + distance * np.sin(heading), x + distance * np.cos(heading)
    y, x = rng.uniform(-radius, size_px + radius, 2)
    return float(y), float(x)


def _put(
    light: Image, owner: NDArray[np.int32], cell: Cell, y: float, x: float, number: int, texture: Image, overlap: float
) -> bool:
    """Add a cell at a place unless it would hide, or be hidden, too much; returns whether that was so."""
    reach = len(cell.light) // 2
    top, left = round(y) - reach, round(x) - reach
    rows, columns = (slice(max(0, start), max(0, start + 2 * reach + 1)) for start in (top, left))
    here = owner[rows, columns]
    if not here.size:
        return False
    cut = np.s_[
        rows.start - top : rows.start - top + here.shape[0], columns.start - left : columns.start - left + here.shape[1]
    ]
    inside = cell.inside[cut]
    if np.count_nonzero(here[inside]) > overlap * np.count_nonzero(inside):
        return False
    light[rows, columns] += cell.light[cut] * texture[rows, columns]
    here[inside & (here == 0)] = number
    return True


def _divide(
    rng: np.random.Generator,
    light: Image,
    owner: NDArray[np.int32],
    kind: CellKind,
    texture: Image,
    placed: list[tuple[float, float, float]],
    areas: list[float],
    size_px: int,
) -> None:
    """Add two bright plates beside each other, as a cell that has just divided shows."""
    radius, brightness = kind.radius_px * rng.uniform(0.4, 0.6), rng.uniform(1.5, 5)
    if radius < 2:
        return
    y, x = rng.uniform(0, size_px, 2)
    heading, apart = rng.uniform(0, pi), radius * rng.uniform(1.6, 3.0)
    for side in (-0.5, 0.5):
        plate = draw_shape(rng, kind, radius, rng.uniform(1.3, 2.6), 0.5 * kind.waviness, brightness)
        place = y + side * apart * np.sin(heading), x + side * apart * np.cos(heading)
        if _put(light, owner, plate, *place, len(areas) + 1, texture, 0.1):
            placed.append((*place, radius))
            areas.append(plate.area_px)


def _visible(owner: NDArray[np.int32], areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return y, x and radius (N, 3) of what can be seen of each cell, of those of which enough can."""
    if not len(areas):
        return np.empty((0, 3))
    rows, columns = np.nonzero(owner)
    number = owner[rows, columns] - 1
    seen, y, x = (np.bincount(number, weights, len(areas)) for weights in (None, rows, columns))
    keep = seen >= np.minimum(np.maximum(_LEAST_VISIBLE_SHARE * areas, _LEAST_VISIBLE_PX), 0.5 * areas)
    return np.column_stack((y[keep] / seen[keep], x[keep] / seen[keep], np.sqrt(seen[keep] / pi)))


def _defocused(rng: np.random.Generator, light: Image, radius_px: float) -> Image:
    """Return the light through a lens: a little out of focus, with the glow of what is far out of focus."""
    blur = rng.uniform(0.4, max(0.6, 0.16 * radius_px)) if rng.random() < 0.8 else rng.uniform(0.2, 0.3) * radius_px
    seen = gaussian_filter(light, max(blur, 0.4))
    if rng.random() < 0.6:
        glow = _blurred(light, radius_px * rng.uniform(0.6, 3.0))
        seen += np.float32(rng.uniform(0.02, 0.35)) * glow
    return np.asarray(seen)


def _debris(rng: np.random.Generator, size_px: int, radius_px: float) -> Image:
    """Return what is not a cell: grains, threads, and cells far out of focus, in units of a typical cell's light."""
    image = np.zeros((size_px, size_px), np.float32)
    if rng.random() < 0.5:
        n = rng.poisson(rng.uniform(0, 12) * (size_px / 192) ** 2)
        y, x = rng.integers(0, size_px, (2, n))
        grains = np.zeros_like(image)
        sigma = rng.uniform(0.6, max(0.7, min(2.5, 0.15 * radius_px)))
        grains[y, x] = rng.uniform(0.1, 1.0, n) * rng.uniform(0.1, 1.5) * 2 * pi * sigma**2
        image += gaussian_filter(grains, sigma)
    if rng.random() < 0.15:
        thread = np.zeros_like(image)
        for _ in range(rng.integers(1, 5)):
            start, step = rng.uniform(0, size_px, 2), np.arange(0, rng.uniform(2, 12) * radius_px, 0.5)
            heading = rng.uniform(0, 2 * pi) + rng.uniform(-1, 1) * step / (6 * radius_px)
            places = start[:, None] + np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), 1) * 0.5
            y, x = places[:, ((places > 0) & (places < size_px - 1)).all(0)].astype(np.intp)
            thread[y, x] = 1.0
        image += np.float32(rng.uniform(0.2, 2.0)) * gaussian_filter(thread, rng.uniform(0.6, 1.5))
    if rng.random() < 0.25:
        far = np.zeros_like(image)
        n = int(rng.integers(1, 4))
        y, x = rng.integers(0, size_px, (2, n))
        sigma = max(2.0, radius_px * rng.uniform(1.2, 3.0))
        far[y, x] = rng.uniform(0.05, 0.4, n) * 2 * pi * sigma**2
        image += _blurred(far, sigma)
    return image


def _background(rng: np.random.Generator, size_px: int, ranges: CellRanges) -> Image:
    has_waves, has_grain = rng.random(2) < (0.6, 0.1)
    waves = random_waves(rng, 3, rng.uniform(1.0, 3.0), (120.0, 1200.0)) if has_waves else []
    if has_grain:
        waves += random_waves(rng, 4, rng.uniform(1.0, 1.6), (8.0, 60.0))
    slope = random_slope(rng, size_px, 0.6) if rng.random() < 0.3 else (0.0, 0.0, 0.0)
    pixel = np.arange(size_px, dtype=np.float32)
    return Background(_log_uniform(rng, ranges.background_e), waves, slope).at(pixel[:, None], pixel)


def _uneven_light(rng: np.random.Generator, size_px: int) -> Image | np.float32:
    """Return how the light falls off from some place on, a factor."""
    if rng.random() < 0.6:
        return np.float32(1)
    y, x = rng.uniform(0, size_px, 2)
    pixel = np.arange(size_px, dtype=np.float32)
    away = ((pixel[:, None] - y) ** 2 + (pixel - x) ** 2) / rng.uniform(150, 800) ** 2
    return np.asarray(1 / (1 + away), np.float32).clip(0.15)


def _camera(rng: np.random.Generator, mean_e: Image, eight_bit_fraction: float) -> Camera:
    brightest = float(np.quantile(mean_e, rng.uniform(0.97, 1.0)))
    is_cut, is_smooth, is_clean, has_hot = rng.random(4) < (0.12, 0.2, 0.05, 0.15)
    if rng.random() < eight_bit_fraction:
        gain = _log_uniform(rng, (20.0, 250.0)) / brightest
        full, offset = 255.0, rng.uniform(0, 20) if rng.random() < 0.6 else -gain * float(mean_e.min())
    else:
        gain, offset, full = _log_uniform(rng, (0.2, 8.0)), rng.uniform(0, 500), 65535.0
        gain = min(gain, 40_000 / brightest)
    if is_cut:
        dark = float(np.quantile(mean_e, 0.1))
        full = min(full, float(np.ceil(offset + gain * (dark + (brightest - dark) * rng.uniform(0.3, 1.0)))))
    return Camera(
        gain,
        offset,
        read_noise_e=rng.uniform(0.5, 8.0) if rng.random() < 0.7 else 0.0,
        electron_multiplying=bool(rng.random() < 0.1),
        dark_e=hot_pixels(rng, (len(mean_e), len(mean_e)), 2e-4, 0.5 * brightest) if has_hot else 0,
        full_scale_counts=max(full, 4.0),
        smoothing_sigma_px=rng.uniform(0.4, 1.5) if is_smooth else 0.0,
        noise_free=bool(is_clean),
    )


def _border(rng: np.random.Generator, size_px: int) -> NDArray[np.bool_]:
    """Return pixels beside a registered image: some rows and columns at two sides."""
    rows, columns = rng.integers(0, size_px // 4, 2)
    border = np.zeros((size_px, size_px), np.bool_)
    border[:rows] = True
    border[:, :columns] = True
    return np.asarray(np.rot90(border, int(rng.integers(4))))
