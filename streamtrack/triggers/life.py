"""Tracks that begin, end, divide, or grow old."""

from collections import deque
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from streamtrack.columns import of_track
from streamtrack.errors import ConfigError
from streamtrack.settings import checks_settings
from streamtrack.track_memory import TrackMemory
from streamtrack.triggers.events import event_at
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

LATE_HALVES = 100
"""Of so many divisions of which a half has ended the other may come into view, and is not told as another."""


@checks_settings
class Appears:
    """Sees each new track, in the first frame in which it is shown.

    Parameters
    ----------
    after_frames
        What comes into view within so many frames after the first was there before the run, and is not new.

    Raises
    ------
    ConfigError
        ``after_frames`` is negative.
    """

    def __init__(self, *, after_frames: Annotated[int, Field(ge=0)] = 10) -> None:
        self._after_frames = after_frames

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks, and start over."""
        self._first_index: int | None = None
        self._seen = TrackMemory(new=False, dtype=bool)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each new track."""
        if self._first_index is None:
            self._first_index = frame.index
        new = np.flatnonzero(~self._seen.recall(tracks.particle))
        self._seen.remember(tracks.particle, np.ones(len(tracks), np.bool_))
        self._seen.forget(tracks.ended)
        if frame.index - self._first_index < self._after_frames:
            return ()
        return [event_at(tracks, row) for row in new]


class Disappears:
    """Sees each track that ended, where it was seen last.

    The linker waits some frames for a particle before it gives it up: the event comes that much later.
    """

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks."""
        self._last = TrackMemory(new=(np.nan, np.nan), dtype=np.float32)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that ended."""
        self._last.remember(tracks.particle, np.column_stack((tracks.y, tracks.x)))
        ended, last = self._last.forget(tracks.ended)
        return [Event(particle, y, x) for particle, (y, x) in zip(ended.tolist(), last.tolist(), strict=True)]


class Divides:
    """Sees each particle that divides, once, where the first of the two is.

    Needs the linker ``imm`` with ``divisions = true``, which tells ``lag`` frames later.

    Raises
    ------
    ConfigError
        From `prepare`, where the linker does not tell.
    """

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks."""
        if of_track("parent", source) is None:
            cure = 'set kind = "imm" and divisions = true in the [linker] table'
            raise ConfigError(f"trigger 'divides' needs a linker that knows of divisions: {cure}")
        self._parents = TrackMemory(new=-1, dtype=np.int64)
        self._told: set[int] = set()
        self._over: deque[int] = deque(maxlen=LATE_HALVES)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each particle that divided, about one of the two; its value ``parent`` is the old id."""
        parent = tracks.values["parent"]
        rows = np.flatnonzero(parent >= 0)
        new = rows[self._parents.recall(tracks.particle[rows]) < 0]
        self._parents.remember(tracks.particle[new], parent[new].astype(np.int64))
        events = []
        for row in new.tolist():
            if int(parent[row]) not in self._told and int(parent[row]) not in self._over:
                self._told.add(int(parent[row]))
                events.append(event_at(tracks, row, parent=int(parent[row])))
        _, over = self._parents.forget(tracks.ended)
        self._told.difference_update(over.tolist())
        self._over.extend(over.tolist())
        return events


@checks_settings
class Older:
    """Sees each track that has lived for some time, once.

    Parameters
    ----------
    frames
        Frames since the first in which the track was shown; lost ones count.

    Raises
    ------
    ConfigError
        ``frames`` is not above 0.
    """

    def __init__(self, *, frames: Annotated[int, Field(ge=1)]) -> None:
        self._frames = frames

    def prepare(self, source: SourceInfo) -> None:
        """Forget all tracks."""
        self._due = TrackMemory(new=_NOT_YET, dtype=np.int64)

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each track that became old; its value is ``age_frames``."""
        due = self._due.recall(tracks.particle)
        due[due == _NOT_YET] = frame.index + self._frames
        old = np.flatnonzero(due <= frame.index)
        events = [event_at(tracks, row, age_frames=frame.index - int(due[row]) + self._frames) for row in old]
        due[old] = _NEVER_AGAIN
        self._due.remember(tracks.particle, due)
        self._due.forget(tracks.ended)
        return events


_NOT_YET = -1
_NEVER_AGAIN = np.iinfo(np.int64).max
