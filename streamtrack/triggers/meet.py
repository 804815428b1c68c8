"""Tracks that come near each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtrack.settings import Positive, checks_settings
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

PART = 1.2
"""Two tracks have parted when they are farther apart than this times the distance at which they met."""

Pair = tuple[int, int]


@checks_settings
class Meet:
    """Sees two tracks come within a distance of each other, once until they part.

    Tracks that begin side by side have not met. Two particles nearer than the optical resolution are one detection: a
    distance below some 3 px is seldom seen.

    Parameters
    ----------
    within_px
        The distance. The time that a frame takes grows with the number of pairs within it.

    Raises
    ------
    ConfigError
        ``within_px`` is not finite and above 0.
    """

    def __init__(self, *, within_px: Positive) -> None:
        self._within_px = within_px

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks."""
        self._together: set[Pair] = set()

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each pair that met: about the older track, between the two.

        Its values are the other track's id, ``other_particle``, and ``distance_px``.
        """
        rows, distance_px = self._near(tracks)
        pairs = [(a, b) for a, b in np.sort(tracks.particle[rows]).tolist()]
        present, near = set(tracks.particle.tolist()), set(pairs)
        self._together -= {pair for pair in self._together - near if present.issuperset(pair)}
        close = np.flatnonzero(distance_px <= self._within_px).tolist()
        met = [k for k in close if pairs[k] not in self._together]
        self._together.update(pairs[k] for k in met)
        new, ended = set(tracks.appeared.tolist()), set(tracks.ended.tolist())
        if ended:
            self._together = {pair for pair in self._together if ended.isdisjoint(pair)}
        return [_event(tracks, rows[k], pairs[k], distance_px[k]) for k in met if new.isdisjoint(pairs[k])]

    def _near(self, tracks: LiveTracks) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the rows of the pairs that have not parted, (P, 2), and their distances (P,)."""
        place = np.column_stack((tracks.y, tracks.x)).astype(np.float64)
        rows = cKDTree(place).query_pairs(PART * self._within_px, output_type="ndarray")
        return rows, np.hypot(*(place[rows[:, 0]] - place[rows[:, 1]]).T)


def _event(tracks: LiveTracks, rows: NDArray[np.intp], pair: Pair, distance_px: float) -> Event:
    (one, other), y, x = rows, tracks.y, tracks.x
    between = float(y[one] + y[other]) / 2, float(x[one] + x[other]) / 2
    return Event(pair[0], *between, {"other_particle": pair[1], "distance_px": float(distance_px)})
