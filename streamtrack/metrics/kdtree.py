"""Detections scored as in DeepSpot (Bouilhol et al., Biological Imaging 2 (2022) e4, section 4.1).

Each true position takes its nearest detection, whatever others take it too: so that a detection between two particles
is seen as one that stands for both, which a matching one to one (`streamtrack.metrics.detection.match`) counts as a
miss.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from streamtrack.errors import ConfigError
from streamtrack.metrics.detection import positions


@dataclass(frozen=True, slots=True, eq=False)
class KdTreeMatch:
    """What `match_kdtree` found in a frame; a ratio with nothing in its denominator is NaN.

    Attributes
    ----------
    nearest
        Shape (N,): of each true position the index of its detection, -1 where none is near.
    n_found
        Detections.
    """

    nearest: NDArray[np.intp]
    n_found: int

    @property
    def taken(self) -> NDArray[np.intp]:
        """Indices of the detections that some true position takes, sorted."""
        return np.unique(self.nearest[self.nearest >= 0])

    @property
    def ambiguous(self) -> int:
        """Ambiguous matches: detections that two true positions or more take."""
        return int((np.bincount(self.nearest[self.nearest >= 0]) > 1).sum())

    @property
    def precision(self) -> float:
        """Part of the detections that some true position takes."""
        return len(self.taken) / self.n_found if self.n_found else nan

    @property
    def recall(self) -> float:
        """Part of the true positions that take a detection."""
        return float(np.mean(self.nearest >= 0)) if len(self.nearest) else nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else total


def match_kdtree(truth_yx: ArrayLike, found_yx: ArrayLike, radius_px: float = 3.0) -> KdTreeMatch:
    """Let each true position (N, 2) of a frame take the nearest of the detections (M, 2), px, within a radius.

    Raises
    ------
    ConfigError
        If the radius is not positive, or positions are not finite or not of shape (N, 2).
    """
    truth, found = positions(truth_yx), positions(found_yx)
    if not 0 < radius_px < np.inf:
        raise ConfigError(f"radius_px is {radius_px}; give a positive number of pixels")
    if not len(found):
        return KdTreeMatch(np.full(len(truth), -1), 0)
    distance, nearest = cKDTree(found).query(truth, distance_upper_bound=np.nextafter(radius_px, np.inf))
    return KdTreeMatch(np.where(np.isfinite(distance), nearest, -1).astype(np.intp), len(found))
