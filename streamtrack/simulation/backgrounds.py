"""Uneven backgrounds: broad waves, texture, and the haze of what is out of focus."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.render import add_spots, round_spot

_DARKEST = 0.05  # of a slope, beside the crop


@dataclass(frozen=True, slots=True)
class Background:
    """Mean electrons per pixel: waves in all directions, on the logarithmic scale, a slope, and bright discs.

    Attributes
    ----------
    mean_e
        Electrons where all waves are at 0.
    waves
        Of each its height (of the logarithm), cycles per px along y and along x, and phase in rad.
    slope
        What a linear slope adds, in parts of the mean: at (0, 0), and per px along y and along x.
    discs
        Of each the place of its centre y, x, its radius, the width of its edge (all px), and how many times brighter it
        is than what surrounds it.
    """

    mean_e: float
    waves: Sequence[tuple[float, float, float, float]] = ()
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    discs: Sequence[tuple[float, float, float, float, float]] = ()

    def at(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the electrons at places y, x (px), which are broadcast against each other."""
        exponent = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
        for height, per_y, per_x, phase in self.waves:
            exponent += np.float32(height) * np.cos(
                (2 * pi * per_y * y + phase + 2 * pi * per_x * x).astype(np.float32)
            )
        electrons = np.float32(self.mean_e) * np.exp(exponent)
        if any(self.slope):
            start, per_y, per_x = self.slope
            electrons *= np.maximum(1 + start + per_y * y + per_x * x, _DARKEST).astype(np.float32)
        for centre_y, centre_x, radius, edge, contrast in self.discs:
            outside = (np.hypot(y - centre_y, x - centre_x) - radius) / edge
            electrons *= (1 + (contrast - 1) / (1 + np.exp(outside.clip(-30, 30)))).astype(np.float32)
        return electrons


def random_slope(rng: np.random.Generator, size_px: int, steepest: float) -> tuple[float, float, float]:
    """Draw a slope for `Background` that adds up to ``steepest`` on one side and takes as much on the other."""
    heading, height = rng.uniform(0, 2 * pi), rng.uniform(0, steepest)
    reach = (size_px - 1) / 2 * (abs(np.sin(heading)) + abs(np.cos(heading)))
    per_y, per_x = height / reach * np.sin(heading), height / reach * np.cos(heading)
    return -(per_y + per_x) * (size_px - 1) / 2, per_y, per_x


def random_discs(
    rng: np.random.Generator, size_px: int, n: int, radius_px: tuple[float, float], contrast: tuple[float, float]
) -> list[tuple[float, float, float, float, float]]:
    """Draw ``n`` discs for `Background`, as cell nuclei look: anywhere on the crop, with an edge of about 2 px."""
    return [
        (*rng.uniform(0, size_px, 2), rng.uniform(*radius_px), rng.uniform(0.3, 1.2), rng.uniform(*contrast))
        for _ in range(n)
    ]


def random_waves(
    rng: np.random.Generator, n: int, contrast: float, wave_px: tuple[float, float]
) -> list[tuple[float, float, float, float]]:
    """Draw waves for `Background` whose brightest and darkest places differ by a factor of at most ``contrast``.

    Wave lengths are log-uniform in ``wave_px``, directions and phases uniform.
    """
    share = rng.dirichlet(np.ones(n)) * log(contrast) / 2
    cycles_per_px = 1 / np.exp(rng.uniform(log(wave_px[0]), log(wave_px[1]), n))
    heading, phase = rng.uniform(0, 2 * pi, (2, n))
    return list(zip(share, cycles_per_px * np.sin(heading), cycles_per_px * np.cos(heading), phase, strict=True))


def haze(
    rng: np.random.Generator, size_px: int, n: int, sigma_px: tuple[float, float], amplitude_e: float
) -> NDArray[np.float32]:
    """Return electrons (S, S) of ``n`` blurred spots of ``amplitude_e`` at most, anywhere on the crop or near it."""
    image = np.zeros((size_px, size_px), np.float32)
    for _ in range(n):
        sigma = rng.uniform(*sigma_px)
        y, x = rng.uniform(-sigma, size_px + sigma, (2, 1))
        add_spots(image, y, x, rng.uniform(0, amplitude_e, 1), np.zeros(1), round_spot(sigma))
    return image
