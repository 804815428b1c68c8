"""How far an image has moved against another: phase correlation.

The normalised cross-power spectrum of two images that differ by a shift is a wave, its transform a peak at the shift.

References
----------
Kuglin and Hines, Proc. IEEE Int. Conf. Cybernetics and Society, 163-165 (1975).
Stone et al., IEEE Trans. Geosci. Remote Sens. 39, 2235-2243 (2001), for why the spectrum is tapered.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

PEAK_SIGMA_PX = 1.0
"""The spectrum is tapered so that the peak is a Gaussian of this width: three values then give its place exactly."""
MIN_CLARITY = 9.0
"""Images of nothing but noise reach 5 to 7, more pixels more."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How what is in one image lies in another.

    Attributes
    ----------
    x, y
        Px, from the first image to the second.
    clarity
        Height of the correlation's peak in standard deviations of the correlation elsewhere.
    """

    x: float
    y: float
    clarity: float

    @property
    def is_clear(self) -> bool:
        """Whether it is more than chance."""
        return self.clarity >= MIN_CLARITY


def shift_between(first: ArrayLike, second: ArrayLike) -> Shift:
    """Return the shift from one image to another of the same shape (H, W).

    It is found twice: in the whole images, then in what they have in common, which has no edges that move. Shifts of up
    to half of the image are found, if enough of it is left in common.
    """
    one, other = _prepared(first), _prepared(second)
    rough = _peak(one, other)
    dy, dx = round(rough.y), round(rough.x)
    if not rough.is_clear or max(abs(dy) / one.shape[0], abs(dx) / one.shape[1]) > 0.5:
        return rough
    fine = _peak(_common(one, dy, dx), _common(other, -dy, -dx))
    return Shift(dx + fine.x, dy + fine.y, fine.clarity)


def _prepared(image: ArrayLike) -> NDArray[np.float64]:
    """Return an image without single bright pixels, which stay where they are whatever moves."""
    return np.asarray(ndimage.median_filter(np.asarray(image, np.float64), size=3, mode="nearest"))


def _common(image: NDArray[np.float64], dy: int, dx: int) -> NDArray[np.float64]:
    """Return the part of an image that is still in view when it moves by (dy, dx)."""
    height, width = image.shape
    return image[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]


def _peak(one: NDArray[np.float64], other: NDArray[np.float64]) -> Shift:
    """Return the shift at the peak of the correlation."""
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in one.shape))
    spectra = [np.fft.rfft2((image - image.mean()) * window) for image in (one, other)]
    power = spectra[1] * spectra[0].conj()
    size = np.abs(power)
    tiny = np.finfo(np.float64).tiny
    correlation = np.fft.irfft2(power / np.maximum(size, tiny) * _taper(one.shape), s=one.shape)
    at = np.unravel_index(int(correlation.argmax()), correlation.shape)
    y, x = (_refined(correlation, at, axis) for axis in (0, 1))
    spread = float(correlation.std())
    return Shift(x, y, float(correlation.max() - correlation.mean()) / spread if spread else 0.0)


def _taper(shape: tuple[int, ...]) -> NDArray[np.float64]:
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    return np.asarray(np.exp(-2 * (np.pi * PEAK_SIGMA_PX) ** 2 * (fy**2 + fx**2)))


def _refined(correlation: NDArray[np.float64], at: tuple[np.intp, ...], axis: int) -> float:
    """Return the place of a Gaussian peak along an axis, from its highest value and the two beside; px, signed."""
    length, place = correlation.shape[axis], int(at[axis])
    line = correlation[:, at[1]] if axis == 0 else correlation[at[0]]
    below, top, above = (np.log(max(float(line[(place + step) % length]), 1e-12)) for step in (-1, 0, 1))
    curvature = below - 2 * top + above
    offset = 0.5 * (below - above) / curvature if curvature < 0 else 0.0
    signed = place - length if place > length // 2 else place
    return signed + float(np.clip(offset, -0.5, 0.5))
