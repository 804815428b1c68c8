"""Links nearest neighbours, all of a frame at once, in crowds of any size.

The problem is trackpy's (Crocker & Grier, J. Colloid Interface Sci. 179 (1996) 298): the sum of the squared distances
is smallest, a track without a detection costing the squared search range. It is solved as a sparse assignment (Jonker &
Volgenant, Computing 38 (1987) 325), which takes some time more in a crowd, but never stalls.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streamtrack.linking.assignment import assign
from streamtrack.linking.search_range import Ids, Links, Positions, SearchRangeLinker

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]

_TRACK = np.dtype([("particle", np.int64), ("hits", np.int64), ("last_index", np.int64), ("yx", np.float64, 2)])


class NearestLinker(SearchRangeLinker):
    """Links the nearest detections within a fixed range, all of a frame at once.

    The same tracks as the linker ``trackpy``, faster, and without its limit on crowds. A track's existence is 1/3 at
    its first detection, 2/3 at its second and 1 from the third on.

    Parameters
    ----------
    search_range
        Farthest that a particle moves from one detection to the next, px.
    memory
        Frames in a row in which a particle may be missed, lost frames included.

    Raises
    ------
    ConfigError
        A setting is out of its range.
    """

    def _start_over(self, shape: tuple[int, int]) -> None:
        super()._start_over(shape)
        self._tracks = np.empty(0, _TRACK)
        self._n_particles = 0

    def prepare(self, shape: tuple[int, int]) -> None:
        """Make ready for frames of (H, W) px: compile what is not compiled yet, forget everything from before."""
        super().prepare(shape)
        _cheapest(np.zeros((2, 2)), np.ones((2, 2)), self._search_range)

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, scipy's version, and how many detections were ignored."""
        return {"linker": "nearest", "scipy": scipy.__version__, **super().info}

    def _link(self, positions: Positions, frame_index: int, last_index: int | None) -> Links:
        lost = self._end(frame_index - 1)  # over frames that never came
        track, detection = _cheapest(self._tracks["yx"], positions, self._search_range)
        new = np.setdiff1d(np.arange(len(positions)), detection)
        place = np.empty(len(positions), np.intp)
        place[detection], place[new] = track, len(self._tracks) + np.arange(len(new))
        self._start(len(new))
        self._tracks["hits"][place] += 1
        self._tracks["last_index"][place] = frame_index
        self._tracks["yx"][place] = positions
        particle, hits = self._tracks["particle"][place], self._tracks["hits"][place]
        return Links(particle, hits, np.concatenate((lost, self._end(frame_index))), len(self._tracks))

    def _start(self, n: int) -> None:
        born = np.zeros(n, _TRACK)
        born["particle"] = self._n_particles + np.arange(n)
        self._n_particles += n
        self._tracks = np.concatenate((self._tracks, born))

    def _end(self, frame_index: int) -> Ids:
        """Give up the tracks that were missed too often up to this frame, and return them."""
        over = frame_index - self._tracks["last_index"] > self._memory
        ended: Ids = self._tracks["particle"][over]
        self._tracks = self._tracks[~over]
        return ended


def _cheapest(tracks: Positions, detections: Positions, search_range: float) -> Pairs:
    """Return the tracks and detections to link: the sum of their squared distances is smallest."""
    near = cKDTree(tracks).sparse_distance_matrix(cKDTree(detections), search_range, output_type="ndarray")
    rivals = np.bincount(near["i"])[near["i"]] + np.bincount(near["j"])[near["j"]] > 2
    obvious, contested = near[~rivals], near[rivals]
    contested = contested[np.lexsort((contested["j"], contested["i"]))]
    tracks_there, start = np.unique(contested["i"], return_index=True)
    gain = search_range**2 - contested["v"] ** 2  # against a track that stays alone
    chosen = assign(np.append(start, len(contested)), contested["j"].astype(np.int64), gain, len(detections))
    linked = chosen >= 0
    track, detection = tracks_there[linked], chosen[linked]
    return np.concatenate((obvious["i"], track)), np.concatenate((obvious["j"], detection))
