"""How far tracks go: steps from frame to frame, and the mean square displacement with its fit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.sinks.overview_summary import PointSample
from streamtrack.types import CONFIRMED

MOST_LAGS = 25
FITTED_LAGS = 5
"""Of the first lags, by which the diffusion coefficient is fitted: later ones scatter, and are confined."""
LEAST_PAIRS = 20
"""Of places, that make a mean."""


class Msd(NamedTuple):
    """Mean square displacement over all confirmed tracks: (L,) each; lag in frames, msd in px^2."""

    lag: NDArray[np.float64]
    msd: NDArray[np.float64]
    n_pairs: NDArray[np.int64]


class Fit(NamedTuple):
    """``msd = 4 diffusion lag + offset``, by the first lags, in px^2 and frames.

    Attributes
    ----------
    offset
        Of localisation errors (four times their variance), less what blur takes away.
    alpha
        Slope of the logarithms over the same lags, offset taken off; NaN where that leaves nothing.
    """

    diffusion: float
    offset: float
    alpha: float
    n_lags: int


def confirmed(points: PointSample) -> PointSample:
    """Return the points of confirmed tracks, track by track."""
    known = np.unique(points.particle[points.existence >= CONFIRMED])
    rows = np.flatnonzero(np.isin(points.particle, known))
    rows = rows[np.lexsort((points.frame[rows], points.particle[rows]))]
    return PointSample(*(getattr(points, name)[rows] for name in PointSample.__slots__))


def displacements(points: PointSample, lag: int) -> NDArray[np.float64]:
    """Return the distances, px, between places of a track that are ``lag`` frames apart, of `confirmed` points."""
    if not len(points):
        return np.empty(0)
    frame = points.frame - points.frame.min()
    key = points.particle * (int(frame.max()) + MOST_LAGS + 2) + frame
    at = np.searchsorted(key, key + lag)
    first = np.flatnonzero(at < len(key))
    first = first[key[at[first]] == key[first] + lag]
    second = at[first]
    y, x = points.y.astype(np.float64), points.x.astype(np.float64)
    distance: NDArray[np.float64] = np.hypot(y[second] - y[first], x[second] - x[first])
    return distance


def mean_square_displacement(points: PointSample) -> Msd:
    """Return that of the lags of which there are enough; points as `confirmed` gives them."""
    rows = []
    for lag in range(1, MOST_LAGS + 1):
        distance = displacements(points, lag)
        if len(distance) >= LEAST_PAIRS:
            rows.append((float(lag), float(np.mean(distance**2)), len(distance)))
    lags, msd, n_pairs = zip(*rows, strict=True) if rows else ((), (), ())
    return Msd(np.array(lags, float), np.array(msd, float), np.array(n_pairs, np.int64))


def fitted(msd: Msd) -> Fit | None:
    """Return the fit of the first lags, None where there are not two."""
    n = min(FITTED_LAGS, len(msd.lag))
    if n < 2:
        return None
    lag, value, weight = msd.lag[:n], msd.msd[:n], np.sqrt(msd.n_pairs[:n])
    slope, offset = np.polyfit(lag, value, 1, w=weight)
    real = value - offset
    alpha = float("nan")
    if (real > 0).all() and slope > 0:
        free = value - max(offset, 0.0)
        alpha = float(np.polyfit(np.log(lag), np.log(free), 1, w=weight)[0]) if (free > 0).all() else alpha
    return Fit(float(slope) / 4, float(offset), alpha, n)
