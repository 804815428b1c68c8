"""Images of single-molecule FISH as DeepSpot was trained on (Bouilhol et al., Biological Imaging 2 (2022) e4).

Spots on white and Perlin noise that was deformed elastically. All numbers are those of the authors' published simulator
where the paper has none: ``docs/decisions/0037-deepspot.md``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import ndtr

Image = NDArray[np.float32]
Range = tuple[float, float]
IntRange = tuple[int, int]

SET_PX = 256
"""Height and width of the paper's images; numbers of spots are for so many."""

EDGE_PX = 2
"""No spot of the paper's images is nearer to their border."""

_FIELD_PX = 512  # of the noise, whose middle is shown
_OCTAVES, _PERSISTENCE = 5, 0.5
_REACH_PX = 64  # no deformation reaches farther
_TOP = 255.0


@dataclass(frozen=True, slots=True)
class SmfishRanges:
    """What images look like. Each range is drawn from for each image, uniformly, if nothing else is said.

    Parameters
    ----------
    spots
        In 256x256 px.
    variable_fraction
        Share of the images in which the peak of each spot is drawn by itself. In the others all spots have the same
        light, and wide ones a lower peak; the highest is drawn.
    peak
        Of spots, in levels.
    kernel_px, kernel_sd
        Width of a spot in px and in standard deviations of its Gaussian, drawn for each spot; whole numbers.
    white, perlin
        Span of the white noise and of the Perlin noise, in units of each other; whole numbers.
    background
        Span of both together, in levels.
    perlin_cells
        Cells of the coarsest octave in 512 px; one of them.
    deformation_px
        Standard deviation of the deformation.
    deformation_points
        Points in 512 px along each axis at which it is drawn; whole numbers.
    subpixel_fraction
        Share of the images whose spots lie anywhere, not in the middle of pixels.
    """

    spots: Range = (10.0, 100.0)
    variable_fraction: float = 0.5
    peak: Range = (160.0, 220.0)
    kernel_px: IntRange = (13, 18)
    kernel_sd: IntRange = (4, 8)
    white: Range = (50.0, 100.0)
    perlin: Range = (50.0, 100.0)
    background: Range = (80.0, 150.0)
    perlin_cells: tuple[int, ...] = (2, 4, 8, 16)
    deformation_px: Range = (10.0, 20.0)
    deformation_points: IntRange = (2, 6)
    subpixel_fraction: float = 0.0


def draw_smfish(
    rng: np.random.Generator, size_px: int, ranges: SmfishRanges, *, edge_px: int = EDGE_PX, n_spots: int | None = None
) -> tuple[Image, NDArray[np.float64]]:
    """Return an image (S, S) of whole levels from 0 to 255, and y, x of its spots, (N, 2), px.

    Parameters
    ----------
    edge_px
        Spots are so far from the border, or beyond it by so many pixels if below 0.
    n_spots
        By default as the ranges say.
    """
    if n_spots is None:
        n_spots = round(rng.uniform(*ranges.spots) * (size_px / SET_PX) ** 2)
    spots = _places(rng, n_spots, edge_px, size_px - edge_px, ranges)
    image = _light(rng, spots, size_px, ranges) + _background(rng, size_px, ranges)
    return np.rint(_spanned(image, _TOP)).astype(np.float32), spots


def _places(rng: np.random.Generator, n: int, first: int, end: int, ranges: SmfishRanges) -> NDArray[np.float64]:
    """Return n places (n, 2) in different pixels from ``first`` to ``end``."""
    width = end - first
    y, x = np.divmod(rng.choice(width * width, n, replace=False), width)
    places = np.stack([y, x], 1) + float(first)
    if rng.random() < ranges.subpixel_fraction:
        places += rng.uniform(-0.5, 0.5, places.shape)
    return places


def _light(rng: np.random.Generator, spots: NDArray[np.float64], size_px: int, ranges: SmfishRanges) -> Image:
    """Return the light (S, S) of spots, Gaussians over the area of each pixel."""
    n = len(spots)
    sigma = _whole(rng, ranges.kernel_px, n) / (2 * _whole(rng, ranges.kernel_sd, n))
    edges = np.arange(size_px + 1) - 0.5
    along_y, along_x = (np.diff(ndtr((edges - place[:, None]) / sigma[:, None]), axis=1) for place in spots.T)
    is_variable = rng.random() < ranges.variable_fraction
    height = (2 * ndtr(0.5 / sigma) - 1) ** 2  # of the pixel in the middle of a spot
    brightness = rng.uniform(*ranges.peak, n) / height if is_variable else np.ones(n)
    light: NDArray[np.float64] = (along_y * brightness[:, None]).T @ along_x
    if not is_variable and n:
        light *= rng.uniform(*ranges.peak) / light.max()
    return light.astype(np.float32)


def _background(rng: np.random.Generator, size_px: int, ranges: SmfishRanges) -> Image:
    """Return white and Perlin noise, deformed."""
    wide = size_px + 2 * _REACH_PX
    white = _spanned(rng.standard_normal((wide, wide), np.float32), rng.uniform(*ranges.white))
    cell_px = _FIELD_PX / rng.choice(ranges.perlin_cells)
    perlin = _spanned(fractal_noise(rng, wide, cell_px), rng.uniform(*ranges.perlin))
    deformed = _deformed(rng, white + perlin, size_px, ranges)
    return _spanned(deformed, rng.uniform(*ranges.background))


def _spanned(image: Image, top: float) -> Image:
    """Return an image whose values go from 0 to ``top``."""
    low, high = float(image.min()), float(image.max())
    return (image - np.float32(low)) * np.float32(top / max(high - low, 1e-9))


def _whole(rng: np.random.Generator, limits: IntRange, n: int) -> NDArray[np.int64]:
    return rng.integers(limits[0], limits[1] + 1, n)


def fractal_noise(rng: np.random.Generator, size_px: int, cell_px: float) -> Image:
    """Return Perlin noise (S, S) of five octaves, each of half the cell and half the height of the one before."""
    octaves = (_PERSISTENCE**k * perlin_noise(rng, size_px, cell_px / 2**k) for k in range(_OCTAVES))
    noise: Image = np.sum(list(octaves), axis=0, dtype=np.float32)
    return noise


def perlin_noise(rng: np.random.Generator, size_px: int, cell_px: float) -> Image:
    """Return gradient noise (S, S) (Perlin, SIGGRAPH 1985; fade of 2002): slopes at lattice points, faded between them.

    The sum over the four points around each pixel is two products of matrices, as the fade of each is one along y
    times one along x.
    """
    n = int((size_px - 1) / cell_px) + 2
    angle = rng.uniform(0, 2 * np.pi, (n, n))
    fade, slope = _along(size_px, cell_px, n)
    noise = slope @ np.sin(angle) @ fade.T + fade @ np.cos(angle) @ slope.T
    return noise.astype(np.float32)


def _along(size_px: int, cell_px: float, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fade of n lattice points at each pixel of an axis, (S, n), and that times the distance from them."""
    distance = np.arange(size_px)[:, None] / cell_px - np.arange(n)
    t = 1 - np.abs(distance).clip(max=1)
    fade = t**3 * (t * (6 * t - 15) + 10)
    return fade, fade * distance


def _deformed(rng: np.random.Generator, wide: Image, size_px: int, ranges: SmfishRanges) -> Image:
    """Return the middle of an image with all pixels displaced, by a spline through displacements of some points."""
    spacing = _FIELD_PX / (_whole(rng, ranges.deformation_points, 1)[0] - 1)
    n = int(size_px / spacing) + 3
    pixel = np.arange(size_px)
    displacement = rng.normal(0, rng.uniform(*ranges.deformation_px), (2, n, n))
    y, x = (rng.random() + pixel / spacing for _ in range(2))
    grid = np.stack(np.meshgrid(y, x, indexing="ij"))
    moved = np.stack([map_coordinates(each, grid, order=3, mode="mirror") for each in displacement])
    place = np.stack(np.meshgrid(pixel, pixel, indexing="ij")) + _REACH_PX + moved
    deformed: Image = map_coordinates(wide, place, np.float32, order=3, mode="mirror")
    return deformed
