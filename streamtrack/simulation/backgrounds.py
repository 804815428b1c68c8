"""Uneven backgrounds: broad waves, texture, and the haze of what is out of focus."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from streamtrack.simulation.render import add_spots, round_spot


@dataclass(frozen=True, slots=True)
class Background:
    """Mean electrons per pixel: waves in all directions, on the logarithmic scale.

    Attributes
    ----------
    mean_e
        Electrons where all waves are at 0.
    waves
        Of each its height (of the logarithm), cycles per px along y and along x, and phase in rad.
    """

    mean_e: float
    waves: Sequence[tuple[float, float, float, float]] = ()

    def at(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the electrons at places y, x (px), which are broadcast against each other."""
        exponent = np.zeros(np.broadcast_shapes(y.shape, x.shape), np.float32)
        for height, per_y, per_x, phase in self.waves:
            exponent += np.float32(height) * np.cos(
                (2 * pi * per_y * y + phase + 2 * pi * per_x * x).astype(np.float32)
            )
        return np.float32(self.mean_e) * np.exp(exponent)


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
