"""Where bright round spots are, by fits to the frame itself: nearer to the truth than any network says.

A least-squares fit of a Gaussian comes within a third of the Cramer-Rao bound (Mortensen et al., Nat. Methods 7 (2010)
377) where a spot is clear, round and alone; the error of a network has a floor of some .1 px. So a place is replaced
where the fit is surer by its own account, and what it leaves of the spot looks like noise: not where there is a comet,
or two spots in one. Then what was found twice is known, too: both fits end at one place.
"""

from dataclasses import replace
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import Detections, Pixels
from streamtrack_engines.gaussian_fits import ERROR, N_COLUMNS, VARIANCE, Image, Numbers, X, Y, fit_spots, mark_doubles

FIRST_VARIANCE_PX2 = 1.7
"""Of spots whose size nobody told."""

LEAST_ERROR_PX = 0.01
"""As of the network's own."""

_FWHM = 2.355
_AS_WIDE = 1.06  # times the variance of the others, a single spot's at most
_MOST_SAMPLED_PX = 10_000
_FAINT = 1e-2  # counts


class Spots:
    """Looks again, in the frame itself, at what a network found.

    Parameters
    ----------
    fwhm_px
        Full width at half maximum of the spots, if known.
    is_dark
        They are darker than what is around.
    """

    def __init__(self, fwhm_px: float | None = None, *, is_dark: bool = False) -> None:
        self._variance = FIRST_VARIANCE_PX2 if fwhm_px is None else (fwhm_px / _FWHM) ** 2
        self._is_dark = is_dark
        self._frame = np.empty((0, 0), np.float32)

    def prepare(self, shape: tuple[int, int]) -> None:
        """Compile, and make room for frames of this shape."""
        self._frame = np.empty((32, 32), np.float32)
        row, column = np.mgrid[:32, :32]
        spot = 100 * np.exp(-((row - 16) ** 2 + (column - 16) ** 2) / 4).astype(np.float32)
        place, one = np.array([16.1], np.float32), np.ones(1, np.float32)
        self.localised(-spot if self._is_dark else spot, Detections(place, place, one, one, one))
        self._frame = np.empty(shape, np.float32)

    def localised(self, pixels: Pixels, found: Detections) -> Detections:
        """Return detections with the places and errors of fits where these are better, and each spot once.

        Parameters
        ----------
        pixels
            The frame, (H, W), all finite, of the shape that `prepare` was told.
        found
            Positions in px of this frame. Of two of one spot the one with the higher score stays, with the mass of both
            where they shared it.
        """
        if not len(found):
            return found
        frame = self._frame
        np.multiply(pixels, np.float32(-1 if self._is_dark else 1), out=frame, casting="unsafe")
        noise = noise_of(frame)
        if 0.0 < noise < _FAINT:  # in units that are too large for it the fit would end where it began
            frame, noise = frame / np.float32(noise), 1.0
        order = np.argsort(found.y, kind="stable")
        y, x, sigma, score, mass = (
            each[order].astype(np.float64) for each in (found.y, found.x, found.sigma, found.score, found.mass)
        )
        fits, is_fitted = np.full((len(y), N_COLUMNS), nan), np.zeros(len(y), np.bool_)
        fit_spots(frame, y, x, sigma, noise, self._variance, fits, is_fitted)
        if not is_fitted.any():
            return found
        keep = np.ones(len(y), np.bool_)
        widest = _AS_WIDE * float(np.median(fits[is_fitted, VARIANCE]))
        mark_doubles(fits, score, mass, widest, is_fitted, keep)
        whole = found.mass.copy()
        whole[order] = mass
        return _with_fits(replace(found, mass=whole), pixels.shape, order, fits, is_fitted, keep)


def _with_fits(
    found: Detections,
    shape: tuple[int, ...],
    order: NDArray[np.intp],
    fits: Numbers,
    is_fitted: NDArray[np.bool_],
    keep: NDArray[np.bool_],
) -> Detections:
    """Return detections with fits in place of what they say, for fits in another order, and without some."""
    y, x, sigma = found.y.copy(), found.x.copy(), found.sigma.copy()
    rows, fits = order[is_fitted], fits[is_fitted]
    y[rows] = fits[:, Y].clip(-0.5, shape[0] - 0.5)
    x[rows] = fits[:, X].clip(-0.5, shape[1] - 0.5)
    sigma[rows] = fits[:, ERROR].clip(LEAST_ERROR_PX)
    kept = np.sort(order[keep])
    extra = {name: values[kept] for name, values in found.extra.items()}
    score, mass = found.score[kept], found.mass[kept]
    return replace(found, y=y[kept], x=x[kept], score=score, mass=mass, sigma=sigma[kept], extra=extra)


def noise_of(frame: Image) -> float:
    """Return the standard deviation of the noise, from differences of pixels some px apart."""
    part = frame[:: 1 + frame.size // _MOST_SAMPLED_PX]
    return float(np.median(np.abs(part[:, 4:] - part[:, :-4]))) * 1.4826 / sqrt(2.0)
