"""How high particles are, from the shape of their images behind a cylindrical lens: by fits to the frame itself.

A network finds them; place and height of each are then those of the fit of a calibrated image of a point, whose errors
come near the Cramer-Rao bound, whatever the lens: nothing has to learn it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamtrack.psf import AstigmaticPsf
from streamtrack.types import Column, Detections, Pixels
from streamtrack_engines.astigmatic_fits import (
    ERROR,
    GAIN,
    LIGHT,
    N_COLUMNS,
    REST,
    SIGMA_X,
    SIGMA_Y,
    SIGMA_Z,
    Image,
    Numbers,
    X,
    Y,
    Z,
    fit_spots,
)
from streamtrack_engines.localise import LEAST_ERROR_PX, noise_of

COLUMNS = (Column("z_um", "um"), Column("sigma_z_um", "um"))

SAME_PX = 1.0
"""Fits that end nearer to each other are of one particle."""
LEAST_ERROR_UM = 0.001

_MOST_LEFT = 1.4  # squared, over the noise: two in one, or no point
_SMALL = 0.05  # what is left, over the brightest pixel: a real lens has no Gaussian image
_VAGUE = 0.25  # errors, over the range of heights: as good as unknown
_COVERED = 1.7  # from the middle of a fit, in its widths: what is there is part of it


class AstigmaticSpots:
    """Measures the heights of what a network found, and places it better.

    Parameters
    ----------
    psf
        The calibration.
    is_dark
        Particles are darker than what is around.
    """

    def __init__(self, psf: AstigmaticPsf, *, is_dark: bool = False) -> None:
        self._curve, self._range = psf.table(), psf.range_um
        self._is_dark = is_dark

    def prepare(self, shape: tuple[int, int]) -> None:
        """Compile."""
        row, column = np.mgrid[:32, :32]
        spot = (100 * np.exp(-((row - 16) ** 2 + (column - 16) ** 2) / 4) + (row + column) % 3).astype(np.float32)
        place, one = np.array([16.1], np.float32), np.ones(1, np.float32)
        self.localised(-spot if self._is_dark else spot, Detections(place, place, one, one, one))

    def localised(self, pixels: Pixels, found: Detections) -> Detections:
        """Return detections with `COLUMNS`, NaN where a height is not known, and each particle once.

        Parameters
        ----------
        pixels
            The frame, (H, W), all finite.
        found
            Positions in px of this frame. Of several of one particle that with the highest score stays.
        """
        order = np.argsort(found.y, kind="stable")
        y, x, score = (each[order].astype(np.float64) for each in (found.y, found.x, found.score))
        fits, is_fitted, keep = np.full((len(y), N_COLUMNS), np.nan), np.zeros(len(y), np.bool_), np.ones(len(y), bool)
        frame = self._in_noise(pixels)
        if len(y) and frame is not None:
            keep = self._fit(frame, y, x, score, fits, is_fitted)
        return _with_fits(found, (pixels.shape[0], pixels.shape[1]), order[keep], fits[keep], is_fitted[keep])

    def _in_noise(self, pixels: Pixels) -> Image | None:
        """Return a frame in units of its noise, bright on dark; None where there is nothing in it."""
        frame: Image = np.multiply(pixels, np.float32(-1 if self._is_dark else 1), dtype=np.float32)
        noise = noise_of(frame) or 1e-3 * float(frame.max() - frame.min())
        return (frame / np.float32(noise)).astype(np.float32, copy=False) if noise > 0 else None

    def _fit(
        self, frame: Image, y: Numbers, x: Numbers, score: Numbers, fits: Numbers, is_fitted: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Fill the fits, and return which detections are particles of their own."""
        level = float(np.median(frame[:: 1 + frame.size // 100_000]))
        low, high = self._range
        fit_spots(frame, y, x, self._curve, low, high, level, 0.0, True, fits, is_fitted)
        keep = _once(fits, score, is_fitted)
        is_fitted &= keep
        for _ in range(2):
            gain = max(float(np.median(fits[is_fitted, GAIN])), 0.0) if is_fitted.any() else 0.0
            now = is_fitted.copy()
            fit_spots(frame, y, x, self._curve, low, high, level, gain, False, fits, now)
            is_fitted[:] = now & keep
        is_fitted &= _fits_well(fits, high - low)
        return keep & _apart(y, x, fits, is_fitted)


def _once(fits: Numbers, score: Numbers, is_fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which detections are the best of those whose fits ended at one place."""
    keep = np.ones(len(fits), np.bool_)
    taken = np.empty((0, 2))
    for k in np.argsort(-score, kind="stable"):
        if is_fitted[k]:
            place = fits[k, [Y, X]]
            keep[k] = not len(taken) or np.hypot(*(taken - place).T).min() >= SAME_PX
            taken = np.vstack((taken, place))
    return keep


def _fits_well(fits: Numbers, range_um: float) -> NDArray[np.bool_]:
    """Return which fits leave nothing but noise, and know the height."""
    with np.errstate(invalid="ignore"):
        brightest = fits[:, LIGHT] / (2 * np.pi * fits[:, SIGMA_Y] * fits[:, SIGMA_X])
        well = (fits[:, REST] < _MOST_LEFT) | (fits[:, REST] < (_SMALL * brightest) ** 2)
        return np.asarray(well & (fits[:, SIGMA_Z] < _VAGUE * range_um), np.bool_)


def _apart(y: Numbers, x: Numbers, fits: Numbers, is_fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which detections are no part of a particle that fits well."""
    dy = (y[:, None] - fits[is_fitted, Y]) / fits[is_fitted, SIGMA_Y]
    dx = (x[:, None] - fits[is_fitted, X]) / fits[is_fitted, SIGMA_X]
    return np.asarray(is_fitted | ~(dy**2 + dx**2 < _COVERED**2).any(axis=1), np.bool_)


def _with_fits(
    found: Detections, shape: tuple[int, int], rows: NDArray[np.intp], fits: Numbers, is_fitted: NDArray[np.bool_]
) -> Detections:
    """Return the detections in some rows, in the order in which they were, with fits in place of what they say."""
    by_row = np.argsort(rows)
    rows, fits, is_fitted = rows[by_row], fits[by_row], is_fitted[by_row]
    limits = (LEAST_ERROR_PX, None), (LEAST_ERROR_UM, None), (-0.5, shape[0] - 0.5), (-0.5, shape[1] - 0.5)
    fitted = {
        name: np.where(is_fitted, fits[:, column].clip(*limit), np.nan if said is None else said[rows]).astype(
            np.float32
        )
        for name, column, said, limit in (
            ("sigma", ERROR, found.sigma, limits[0]),
            ("sigma_z_um", SIGMA_Z, None, limits[1]),
            ("y", Y, found.y, limits[2]),
            ("x", X, found.x, limits[3]),
            ("z_um", Z, None, (None, None)),
        )
    }
    extra = {name: values[rows] for name, values in found.extra.items()}
    extra |= {column.name: fitted[column.name] for column in COLUMNS}
    return replace(
        found,
        y=fitted["y"],
        x=fitted["x"],
        sigma=fitted["sigma"],
        score=found.score[rows],
        mass=found.mass[rows],
        extra=extra,
    )
