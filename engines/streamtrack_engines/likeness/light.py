"""How the background of a movie is lit: its mean, how it rises to one side, how uneven it is besides, and stripes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_SMOOTH_PX = 3.0
_STRIPES = 0.35
"""Share of the unevenness in one wave, from which on it is stripes."""
_LEAST_STRIPES = 1.1

Image = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LightMeasures:
    """What the background is like.

    Attributes
    ----------
    image
        (H, W), counts: the background, what lies under particles filled in from around.
    mean
        Counts.
    steepest
        By what part of what is above the offset the background rises and falls from the middle to opposite corners.
    contrast
        Brightest over darkest place of what is left without the slope and the stripes, 98 over 2 %.
    stripe_px, stripe_contrast
        Period of stripes, and brightest over darkest; None where there are none.
    """

    image: Image
    mean: float
    steepest: float
    contrast: float
    stripe_px: float | None
    stripe_contrast: float | None


def measure_light(movie: NDArray[np.generic], is_clear: NDArray[np.bool_], offset_counts: float) -> LightMeasures:
    """Return what the background of a movie (T, H, W) is like; ``is_clear`` says where no particle is."""
    image = _background(movie, is_clear)
    above = np.maximum(image - offset_counts, 1e-3 * max(image.mean(), 1.0))
    relative = above / above.mean()
    plane = _plane(relative)
    rest = relative / np.maximum(plane, 0.05)
    period, height = _stripes(rest - rest.mean())
    if period is not None:
        wave = _wave(rest - rest.mean())
        rest = rest / np.maximum(1 + wave, 0.05)
    dark, bright = np.quantile(rest, (0.02, 0.98))
    steepest = float((plane.max() - plane.min()) / 2)
    stripes = None if period is None else (1 + height) / max(1 - height, 0.05)
    return LightMeasures(image, float(image.mean()), steepest, float(bright / max(dark, 0.05)), period, stripes)


def _background(movie: NDArray[np.generic], is_clear: NDArray[np.bool_]) -> Image:
    weight = is_clear.sum(0).astype(np.float64)
    total = np.where(is_clear, movie, 0).sum(0, dtype=np.float64)
    share = gaussian_filter(weight, _SMOOTH_PX)
    return np.asarray(gaussian_filter(total, _SMOOTH_PX) / np.maximum(share, 1e-9))


def _plane(relative: Image) -> Image:
    y, x = (np.linspace(-1, 1, size) for size in relative.shape)
    ones = np.ones(relative.shape)
    columns = np.column_stack([ones.ravel(), (y[:, None] * ones).ravel(), (x * ones).ravel()])
    factors = np.linalg.lstsq(columns, relative.ravel(), rcond=None)[0]
    return np.asarray((columns @ factors).reshape(relative.shape))


def _strongest(rest: Image) -> tuple[tuple[int, int], Image]:
    window = np.outer(*(np.hanning(size) for size in rest.shape))
    power = np.abs(np.fft.rfft2(rest * window)) ** 2
    power[:2, :2] = power[-1:, :2] = 0.0  # broad unevenness is none
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    return (int(row), int(column)), power


def _stripes(rest: Image) -> tuple[float | None, float]:
    """Return the period of stripes, px, and their height; None where no wave stands out."""
    (row, column), power = _strongest(rest)
    rows = [(row + step) % power.shape[0] for step in (-1, 0, 1)]
    near = power[np.ix_(rows, range(max(0, column - 1), min(column + 2, power.shape[1])))]
    share = float(near.sum() / max(power.sum(), 1e-30))
    height = 2**0.5 * float(rest.std()) * share**0.5
    if share < _STRIPES or (1 + height) / max(1 - height, 0.05) < _LEAST_STRIPES:
        return None, 0.0
    rise = (row if row <= power.shape[0] // 2 else row - power.shape[0]) / rest.shape[0]
    per_px = float(np.hypot(rise, column / rest.shape[1]))
    lost = np.exp(-2 * (np.pi * _SMOOTH_PX * per_px) ** 2)  # what the smoothing took
    return 1 / per_px, min(height / float(lost), 0.9)


def _wave(rest: Image) -> Image:
    """Return the strongest wave, by itself and what is next to it in frequency."""
    (row, column), _ = _strongest(rest)
    spectrum = np.fft.rfft2(rest)
    kept = np.zeros_like(spectrum)
    for step in (-1, 0, 1):
        for across in range(max(0, column - 1), min(column + 2, spectrum.shape[1])):
            kept[(row + step) % rest.shape[0], across] = spectrum[(row + step) % rest.shape[0], across]
    return np.asarray(np.fft.irfft2(kept, rest.shape))
