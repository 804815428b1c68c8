"""Particles drawn into images, without noise: the one renderer behind movies and training crops.

The profiles are those fitted to the Particle Tracking Challenge (Chenouard et al., Nat. Methods 11 (2014) 281): a
pixel-integrated Airy disc for receptors, and for the rest Gaussians, stretched behind the head into comets for
microtubules. All are scaled so that their brightest point is 1.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil, cos, exp, floor, hypot, sin, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import j1

from streamtrack.compiling import compiled

AIRY_STEPS_PER_PX = 64
BESSEL_ZERO_1 = 3.8317
BESSEL_ZERO_3 = 10.1735
"""Airy discs end at their third dark ring: beyond it is less than 0.2 % of the peak."""
GAUSSIAN_REACH_SIGMAS = 4.25
"""Gaussians end where they are down to 1.2e-4 of the peak."""


@dataclass(frozen=True, slots=True)
class AiryDisc:
    """Image of a point in a microscope, integrated over square pixels.

    Attributes
    ----------
    first_zero_px
        Radius of the first dark ring.
    """

    first_zero_px: float

    @property
    def reach_px(self) -> float:
        """Distance from the reference point beyond which no light is drawn."""
        return self.first_zero_px * BESSEL_ZERO_3 / BESSEL_ZERO_1


@dataclass(frozen=True, slots=True)
class Comet:
    """Two half Gaussians that meet at the head, which is the reference point; round if all sigmas are equal.

    Attributes
    ----------
    front_px, tail_px, across_px
        Sigmas ahead of the head, behind it, and across the motion.
    """

    front_px: float
    tail_px: float
    across_px: float

    @property
    def reach_px(self) -> float:
        """Distance from the reference point beyond which no light is drawn."""
        return GAUSSIAN_REACH_SIGMAS * max(self.front_px, self.tail_px, self.across_px)


Profile = AiryDisc | Comet


def round_spot(sigma_px: float) -> Comet:
    """Return a round Gaussian spot."""
    return Comet(sigma_px, sigma_px, sigma_px)


def amplitude_from_snr(snr: float, background_e: ArrayLike) -> NDArray[np.float64]:
    """Return the peak amplitude A, in electrons, for which A / sqrt(A + background) is the SNR (the challenge's)."""
    return np.asarray(snr * (snr + np.sqrt(snr * snr + 4 * np.asarray(background_e, np.float64))) / 2)


def add_spots(
    image: NDArray[np.float32],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    heading: NDArray[np.float64],
    profile: Profile,
) -> None:
    """Add particles to an image (H, W), in place; light that falls outside is lost.

    Parameters
    ----------
    y, x
        Shape (N,), px: reference points, anywhere.
    amplitude
        Shape (N,): height of the brightest point.
    heading
        Shape (N,), rad: comets move along (dy, dx) = (sin, cos); not used for Airy discs.
    """
    if isinstance(profile, AiryDisc):
        _add_airy_discs(image, y, x, amplitude, profile.reach_px, _airy_table(profile))
    else:
        _add_comets(image, y, x, amplitude, heading, profile.front_px, profile.tail_px, profile.across_px)


@cache
def _airy_table(profile: AiryDisc) -> NDArray[np.float64]:
    """Return the height over the distance, in steps of 1 / AIRY_STEPS_PER_PX.

    Integration over a square pixel makes it depend on the direction too, but by less than 0.1 % of the peak: the mean
    over the directions stands for all.
    """
    distance = np.arange(ceil(profile.reach_px * AIRY_STEPS_PER_PX) + 2)[:, None, None, None] / AIRY_STEPS_PER_PX
    angle = (np.arange(4)[:, None, None] + 0.5) * np.pi / 16
    within_pixel = (np.arange(11) - 5) / 11
    radius = np.hypot(distance * np.sin(angle) + within_pixel[:, None], distance * np.cos(angle) + within_pixel)
    v = radius * BESSEL_ZERO_1 / profile.first_zero_px + 1e-9
    height: NDArray[np.float64] = np.mean((2 * j1(v) / v) ** 2, axis=(1, 2, 3))
    return height / float(height[0])


@compiled
def _add_airy_discs(
    image: NDArray[np.float32],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    reach_px: float,
    table: NDArray[np.float64],
) -> None:
    height, width = image.shape
    for k in range(len(y)):
        for row in range(max(0, ceil(y[k] - reach_px)), min(height, floor(y[k] + reach_px) + 1)):
            dy = row - y[k]
            half = sqrt(max(reach_px * reach_px - dy * dy, 0.0))
            for column in range(max(0, ceil(x[k] - half)), min(width, floor(x[k] + half) + 1)):
                position = hypot(dy, column - x[k]) * AIRY_STEPS_PER_PX
                step = int(position)
                value = table[step] + (position - step) * (table[step + 1] - table[step])
                image[row, column] += np.float32(amplitude[k] * value)


@compiled
def _add_comets(
    image: NDArray[np.float32],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    heading: NDArray[np.float64],
    front_px: float,
    tail_px: float,
    across_px: float,
) -> None:
    height, width = image.shape
    limit = GAUSSIAN_REACH_SIGMAS**2 / 2
    front, tail, across = 0.5 / front_px**2, 0.5 / tail_px**2, 0.5 / across_px**2
    for k in range(len(y)):
        ahead_y, ahead_x = sin(heading[k]), cos(heading[k])
        # The tight box around the two half ellipses: on each side either the front or the tail reaches further.
        low_y, high_y = (tail_px, front_px) if ahead_y > 0 else (front_px, tail_px)
        low_x, high_x = (tail_px, front_px) if ahead_x > 0 else (front_px, tail_px)
        top = max(0, ceil(y[k] - GAUSSIAN_REACH_SIGMAS * hypot(low_y * ahead_y, across_px * ahead_x)))
        bottom = min(height - 1, floor(y[k] + GAUSSIAN_REACH_SIGMAS * hypot(high_y * ahead_y, across_px * ahead_x)))
        left = max(0, ceil(x[k] - GAUSSIAN_REACH_SIGMAS * hypot(low_x * ahead_x, across_px * ahead_y)))
        right = min(width - 1, floor(x[k] + GAUSSIAN_REACH_SIGMAS * hypot(high_x * ahead_x, across_px * ahead_y)))
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                dy, dx = row - y[k], column - x[k]
                along = dy * ahead_y + dx * ahead_x
                aside = dy * ahead_x - dx * ahead_y
                exponent = along * along * (front if along > 0 else tail) + aside * aside * across
                if exponent < limit:
                    image[row, column] += np.float32(amplitude[k] * exp(-exponent))
