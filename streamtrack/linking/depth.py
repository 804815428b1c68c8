"""Where detections are along the optical axis, for engines that measure it, in the linker's unit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.linking.measurement import LEAST_SIGMA_PX
from streamtrack.linking.records import NONE, POSITION, Z_MIDDLE, Z_RANGE, Z_VAR, Floats, Indices, States, Z
from streamtrack.linking.running_mean import RunningMean
from streamtrack.types import Column, Detections

MEASURED = "z_um", "sigma_z_um"
"""What an engine says of each detection, NaN where it does not know."""

SMOOTHED = Column("z_smoothed_um", "um")
"""What the linker says of it."""

LEAST_RANGE_PX = 2.0
MEMORY = 5000.0
"""Of so many detections the range is learnt."""


class Depth:
    """Learns in which range particles are found, and measures z in pixels of the image.

    Parameters
    ----------
    pixel_size_um
        Of the image: particles move as far along z as in the plane.
    """

    def __init__(self, pixel_size_um: float) -> None:
        self.pixel_size_um = pixel_size_um
        self._moments = RunningMean(np.zeros(2), 0.0, MEMORY)

    def measure(self, detections: Detections, places: Indices, measured: Floats) -> None:
        """Fill the columns of z, (N, N_MEASURED_3D), of the detections at some places (N,)."""
        nothing = np.full(len(detections), np.nan, np.float32)
        z, sigma = (
            detections.extra.get(name, nothing)[places].astype(np.float64) / self.pixel_size_um for name in MEASURED
        )
        z[~(np.isfinite(z) & np.isfinite(sigma) & (sigma >= 0.0))] = np.nan
        known = z[np.isfinite(z)]
        self._moments.add(np.array([known.sum(), (known**2).sum()]), float(len(known)))
        mean, square = np.asarray(self._moments.total) / max(self._moments.weight, 1.0)
        measured[:, Z] = z
        measured[:, Z_VAR] = np.maximum(sigma, LEAST_SIGMA_PX) ** 2
        measured[:, Z_MIDDLE] = mean
        measured[:, Z_RANGE] = max(np.sqrt(12.0 * max(square - mean**2, 0.0)), LEAST_RANGE_PX)

    @property
    def learnt(self) -> tuple[RunningMean, ...]:
        """All that was learnt, to be saved and restored."""
        return (self._moments,)


def most_by_depth(measured: Floats) -> float:
    """Return how much more probable a link to any of some detections can be by its z; 1 without."""
    if measured.shape[1] <= Z:
        return 1.0
    seen = measured[np.isfinite(measured[:, Z])]
    return max(float((seen[:, Z_RANGE] / np.sqrt(2.0 * np.pi * seen[:, Z_VAR])).max(initial=1.0)), 1.0)


def depth_of(states: States, slots: Indices, now: int) -> tuple[Floats, Floats]:
    """Return mean and variance of z of tracks, shape (N,) each, px and px²."""
    track = states[slots, now]
    share, place = track["probability"], track["mean"][:, :, 2, POSITION]
    mean = (share * place).sum(axis=1)
    var = (share * (track["covariance"][:, :, 1, 0] + (place - mean[:, None]) ** 2)).sum(axis=1)
    return mean, var


def said_of(n: int, states: States, live: Indices, now: int, places: Indices, per_px: float) -> NDArray[Any]:
    """Return z of the tracks of a frame's ``n`` detections, um, NaN where there is none."""
    detection = states["detection"][live, now]
    seen = live[detection != NONE]
    said = np.full(n, np.nan, np.float32)
    said[places[states["detection"][seen, now]]] = depth_of(states, seen, now)[0] * per_px
    return said
