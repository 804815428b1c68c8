"""The frames of several streams in one order: that in which they came.

Tables are made of rows in the order of frames, and what a linker revises says which frame by its index. Of several
streams indices come again; while a run lasts a number of its own stands for each frame, and its index in a column.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from streamtrack.types import Detections, FrameResult, Revision, Stream, TrackUpdate


def place_of(result: FrameResult) -> tuple[int, int, int | None, int]:
    """Return t, c, z, p of a frame."""
    frame = result.frame
    return frame.index, frame.stream.channel, frame.stream.z, frame.stream.position


class Serial:
    """Numbers frames, and knows the numbers of those that may be revised yet."""

    def __init__(self) -> None:
        self._next = 0
        self._numbers: defaultdict[Stream, dict[int, int]] = defaultdict(dict)

    def number(self, result: FrameResult) -> tuple[int, Detections, TrackUpdate]:
        """Return the number of the next frame, its detections with their place, and its tracks by frames' numbers."""
        number, self._next = self._next, self._next + 1
        index, found, tracks = result.frame.index, result.detections, result.tracks
        numbers = self._numbers[result.frame.stream]
        numbers[index] = number
        place = zip("tczp", place_of(result), strict=True)
        columns: dict[str, Any] = {name: np.full(len(found), np.nan if at is None else at) for name, at in place}
        revised = tracks.revised
        if len(revised):
            revised = _renumbered(revised, numbers)
            tracks = replace(tracks, revised=revised)
        for settled in [each for each in numbers if each <= tracks.final_index]:
            del numbers[settled]
        return number, replace(found, extra={**found.extra, **columns}), tracks


def _renumbered(revised: Revision, numbers: dict[int, int]) -> Revision:
    known = np.array([index in numbers for index in revised.frame_index.tolist()], bool)
    frames = np.array([numbers[index] for index in revised.frame_index[known].tolist()], np.int64)
    return Revision(frames, revised.detection[known], revised.particle[known], revised.existence[known])
