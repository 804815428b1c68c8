"""A measured value that rises above, or falls below, a limit."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.columns import of_frame, of_track, unknown
from streamtrack.errors import ConfigError
from streamtrack.settings import checks_settings
from streamtrack.track_memory import TrackMemory
from streamtrack.triggers.checks import require, require_one
from streamtrack.triggers.events import event_at
from streamtrack.types import Column, Event, Frame, LiveTracks, SourceInfo


@checks_settings
class Value:
    """Sees a measured value of a track, or of the whole frame, rise above a limit, or fall below it.

    It sees that once, and again after the value was back at ``release``. What was not measured, NaN, changes nothing:
    it is neither beyond the limit nor back.

    Parameters
    ----------
    column
        What is measured: ``mass``, ``score``, ``sigma``, or a column of the engine or of a measure.
    above, below
        The limit, one of them.
    release
        At this value or less (``above``), or at this value or more (``below``), it can be seen anew; by default the
        limit itself.
    for_frames
        The value must be beyond the limit in so many frames in a row, those in which it was not measured left out.
    per
        ``track``, or ``frame`` for a value of the frame as a whole.

    Raises
    ------
    ConfigError
        A setting is missing or out of its range. `prepare` raises it where nothing measures the column.

    Notes
    -----
    Two thresholds against a flickering value: as the interpreter of Mahecic et al., Nat. Methods 19 (2022) 1262.
    """

    def __init__(
        self,
        *,
        column: str,
        above: float | None = None,
        below: float | None = None,
        release: float | None = None,
        for_frames: Annotated[int, Field(ge=1)] = 1,
        per: Literal["track", "frame"] = "track",
    ) -> None:
        require_one({"above": above, "below": below})
        # Turned round, "below" is "above": the signs say which way is beyond.
        self._sign, limit = (1.0, above) if above is not None else (-1.0, below)
        self._limit = self._sign * (limit or 0.0)
        self._release = self._limit if release is None else self._sign * release
        wanted = f"at most above = {above}" if above is not None else f"at least below = {below}"
        require(self._release <= self._limit, "release", release, wanted)
        self._column, self._for_frames, self._per = column, for_frames, per

    def prepare(self, source: SourceInfo) -> None:
        """Look for the column among those of the run, and forget all tracks; raises ConfigError."""
        find, other = (of_track, of_frame) if self._per == "track" else (of_frame, of_track)
        found = find(self._column, source)
        if found is None and other(self._column, source) is not None:
            per = "frame" if self._per == "track" else "track"
            raise ConfigError(f'column {self._column!r} is measured once per {per}: set per = "{per}"')
        if found is None:
            raise unknown(self._column, source)
        _refuse_classes(found)
        self._beyond = TrackMemory(new=0, dtype=np.int64)  # frames in a row; _SEEN once it was seen

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return an event for each value that passed the limit; the event's value has the column's name."""
        if self._per == "frame":
            value = tracks.frame_values.get(self._column, np.nan)
            passed = self._passed(_FRAME, np.array([value], np.float64))
            return [Event(values={self._column: float(value)}) for _ in passed]
        values = tracks.values[self._column]
        events = [
            event_at(tracks, row, **{self._column: float(values[row])}) for row in self._passed(tracks.particle, values)
        ]
        self._beyond.forget(tracks.ended)
        return events

    def _passed(self, particle: NDArray[np.int64], values: NDArray[np.floating]) -> NDArray[np.intp]:
        """Return the rows of the values that are seen now."""
        frames = self._beyond.recall(particle)
        towards = self._sign * values
        waits = frames != _SEEN
        frames[waits & (towards > self._limit)] += 1
        frames[(waits & (towards <= self._limit)) | (towards <= self._release)] = 0
        passed: NDArray[np.intp] = np.flatnonzero(waits & (frames >= self._for_frames))
        frames[passed] = _SEEN
        self._beyond.remember(particle, frames)
        return passed


_SEEN = -1
_FRAME = np.zeros(1, np.int64)
"""Under which the frame's own value is remembered."""


def _refuse_classes(column: Column) -> None:
    if column.classes:
        ask = f'where = [{{column = "{column.name}", is = "{column.classes[0]}"}}]'
        raise ConfigError(f"column {column.name!r} holds classes, not a quantity: on another trigger ask {ask}")
