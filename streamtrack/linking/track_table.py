"""The tracks that are followed, and what the last frames were like."""

import numpy as np

from streamtrack.linking.records import FRAME, N_MEASURED, N_MEASURED_3D, NONE, STATE, STATE_3D, Indices

_FIRST_TRACKS, _FIRST_DETECTIONS = 256, 256


class TrackTable:
    """Slots for tracks, each with its states at the last frames; the memory grows with the most that are ever needed.

    Updates are numbered from 0; that of number u has place ``u % depth`` in all that is kept per frame.

    Parameters
    ----------
    depth
        Number of frames to remember, the current one included.
    is_3d
        Whether z is measured.

    Attributes
    ----------
    update
        Number of the current update; -1 before the first.
    states, frames, measured
        See :mod:`streamtrack.linking.records`.
    places, labels
        Shape (depth, capacity): place of each measured detection among all of its frame, and its track as announced.
    particle
        Shape (capacity,): id of the track in each slot, -1 for none.
    born
        Shape (capacity,): update with which the track began.
    confirmed
        Shape (capacity,): whether the track was ever confirmed.
    parent
        Shape (capacity,): id of the track that it came out of, -1 for none.
    live
        Slots of the live tracks, ascending.
    next_particle
        The id of the next track.
    """

    def __init__(self, depth: int, *, is_3d: bool = False) -> None:
        self.update = -1
        self.states = np.zeros((_FIRST_TRACKS, depth), STATE_3D if is_3d else STATE)
        self.frames = np.zeros(depth, FRAME)
        self.measured = np.zeros((depth, _FIRST_DETECTIONS, N_MEASURED_3D if is_3d else N_MEASURED))
        self.places = np.zeros((depth, _FIRST_DETECTIONS), np.int64)
        self.labels = np.zeros((depth, _FIRST_DETECTIONS), np.int64)
        self.particle = np.full(_FIRST_TRACKS, NONE)
        self.born = np.zeros(_FIRST_TRACKS, np.int64)
        self.confirmed = np.zeros(_FIRST_TRACKS, np.bool_)
        self.parent = np.full(_FIRST_TRACKS, NONE)
        self.live = np.empty(0, np.int64)
        self.next_particle = 0

    @property
    def depth(self) -> int:
        """Number of frames that are remembered."""
        return len(self.frames)

    @property
    def now(self) -> int:
        """Place of the current frame."""
        return self.update % self.depth

    def next_frame(self, n_detections: int) -> None:
        """Begin an update, with room for so many detections."""
        if n_detections > self.labels.shape[1]:
            more = max(n_detections - self.labels.shape[1], self.labels.shape[1])
            self.measured = np.pad(self.measured, ((0, 0), (0, more), (0, 0)))
            self.places, self.labels = (np.pad(each, ((0, 0), (0, more))) for each in (self.places, self.labels))
        self.update += 1
        self.labels[self.now] = NONE

    def add(self, n: int) -> Indices:
        """Take slots for new tracks, which get the next ids in order; return the slots."""
        if not n:
            return np.empty(0, np.int64)
        free = np.flatnonzero(self.particle < 0)[:n]
        if len(free) < n:
            self._grow(n - len(free))
            return self.add(n)
        self.particle[free] = np.arange(self.next_particle, self.next_particle + n)
        self.born[free] = self.update
        self.confirmed[free] = False
        self.parent[free] = NONE
        self.next_particle += n
        self.live = np.flatnonzero(self.particle >= 0)
        return free

    def divide(self, slot: int, other: int, young: int, update: int) -> int:
        """Let the track in a slot have divided with an update into the tracks of two slots; return its id, now over.

        One of them may be itself: from then on it is a new track.
        """
        parent = int(self.particle[slot])
        self.parent[other] = self.parent[young] = parent
        if other != slot:
            self.end(np.array([slot]))
            return parent
        self.particle[slot], self.next_particle = self.next_particle, self.next_particle + 1
        self.born[slot], self.confirmed[slot] = update, False
        first = self.states[slot, update % self.depth].copy()
        for u in range(update, self.update + 1):
            track = self.states[slot, u % self.depth]
            track["born_index"], track["origin"] = self.frames["index"][update % self.depth], first["last"][:2]
            track["squared_steps"] -= first["squared_steps"]
            track["squared_steps_time"] -= first["squared_steps_time"]
        return parent

    def end(self, slots: Indices) -> Indices:
        """Free slots; return the ids of their tracks."""
        ended = self.particle[slots]
        self.particle[slots] = NONE
        if len(slots):
            self.live = np.flatnonzero(self.particle >= 0)
        return ended

    def _grow(self, n: int) -> None:
        more = max(n, len(self.particle))
        self.states = np.concatenate((self.states, np.zeros((more, self.depth), self.states.dtype)))
        self.particle = np.concatenate((self.particle, np.full(more, NONE)))
        self.born = np.concatenate((self.born, np.zeros(more, np.int64)))
        self.confirmed = np.concatenate((self.confirmed, np.zeros(more, np.bool_)))
        self.parent = np.concatenate((self.parent, np.full(more, NONE)))
