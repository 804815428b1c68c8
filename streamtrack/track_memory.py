"""What is remembered of each track, by triggers and measures."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_END = np.iinfo(np.int64).max  # above every id, so that a search never ends behind the last row


class TrackMemory:
    """A value for each track, until it is forgotten: a table ordered by id.

    Parameters
    ----------
    new
        The value of a track that is not remembered: a number, or some.
    dtype
        Of the values.
    """

    def __init__(self, new: ArrayLike, dtype: DTypeLike) -> None:
        self._particle = np.array([_END])
        self._values: NDArray[Any] = np.array([new], dtype)  # the last row is for tracks that are not there

    def __len__(self) -> int:
        return len(self._particle) - 1

    def recall(self, particle: NDArray[np.int64]) -> NDArray[Any]:
        """Return the values of tracks (N,): a copy of shape (N,), or (N, values per track)."""
        place, is_known = self._find(particle)
        place[~is_known] = len(self)
        recalled: NDArray[Any] = self._values[place]
        return recalled

    def remember(self, particle: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Set the values of tracks (N,), as `recall` returns them."""
        place, is_known = self._find(particle)
        if not is_known.all():
            new = np.sort(particle[~is_known])
            before = np.searchsorted(self._particle, new)
            self._particle = np.insert(self._particle, before, new)
            self._values = np.insert(self._values, before, self._values[-1], axis=0)
            place = np.searchsorted(self._particle, particle)
        self._values[place] = values

    def forget(self, particle: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Drop tracks; return the ids of those that were there, and their values."""
        if not len(particle):
            return particle, self._values[:0]
        place, is_known = self._find(particle)
        place = place[is_known]
        dropped = self._particle[place], self._values[place]
        self._particle = np.delete(self._particle, place)
        self._values = np.delete(self._values, place, axis=0)
        return dropped

    def _find(self, particle: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        place = np.searchsorted(self._particle, particle)
        return place, self._particle[place] == particle
