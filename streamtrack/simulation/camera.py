"""What a camera makes of the light: noise, the faults of its pixels, and the limits of its numbers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from streamtrack.simulation import shot_noise

_LARGEST_COUNT = 65535.0


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera with its faults; the default is the Particle Tracking Challenge's, which has none.

    Attributes
    ----------
    gain, offset_counts
        Counts per electron, and counts in the dark.
    read_noise_e
        Standard deviation of the read noise of each pixel and frame.
    electron_multiplying
        Whether the register multiplies electrons (EMCCD), which doubles the variance of the shot noise (Robbins and
        Hadwen, IEEE Trans. Electron Devices 50 (2003) 1227); the mean gain is part of ``gain``.
    dark_e
        Shape (H, W), or (1, W) for columns alone: what hot pixels and columns of uneven amplifiers add to every frame.
    full_scale_counts
        Pixels never show more.
    smoothing_sigma_px
        Of a Gaussian filter in the camera or its software, which leaves neighbouring pixels with common noise.
    noise_free
        Counts are the mean itself, as in simulations of others.
    """

    gain: float = 1.0
    offset_counts: float = 0.0
    read_noise_e: float = 0.0
    electron_multiplying: bool = False
    dark_e: NDArray[np.float32] | Literal[0] = 0
    full_scale_counts: float = _LARGEST_COUNT
    smoothing_sigma_px: float = 0.0
    noise_free: bool = False

    def expose(self, rng: np.random.Generator, mean_e: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a frame (H, W), whole counts >= 0, for the mean number of electrons in each pixel."""
        electrons = mean_e.copy() if self.noise_free else shot_noise.expose(rng, mean_e)
        if self.electron_multiplying:
            electrons = rng.standard_gamma(electrons, dtype=np.float32)
        if self.read_noise_e > 0:
            electrons += np.float32(self.read_noise_e) * rng.standard_normal(mean_e.shape, np.float32)
        counts = np.float32(self.gain) * (electrons + self.dark_e) + np.float32(self.offset_counts)
        if self.smoothing_sigma_px > 0:
            counts = gaussian_filter(counts, self.smoothing_sigma_px, mode="nearest")
        limited: NDArray[np.float32] = np.rint(counts).clip(np.float32(0), np.float32(self.full_scale_counts))
        return limited


CHALLENGE_CAMERA = Camera()


def hot_pixels(
    rng: np.random.Generator, shape: tuple[int, int], share: float, brightest_e: float
) -> NDArray[np.float32]:
    """Return a dark image (H, W), electrons: a share of the pixels is hot, log-uniform up to ``brightest_e``."""
    dark = np.zeros(shape, np.float32)
    n = rng.poisson(share * dark.size)
    dark.ravel()[rng.integers(dark.size, size=n)] = brightest_e * 50.0 ** -rng.random(n)
    return dark
