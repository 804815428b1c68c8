"""Ids of tracks that no other linker of the run gives."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.protocols import Linker, ToldShifts
from streamtrack.types import Detections, TrackUpdate


class UniqueIds:
    """A linker of one stream of several: its tracks are numbered together with those of the others.

    Parameters
    ----------
    linker
        Whose ids are 0 and up, each new one little above those before.
    numbers
        The next id of the run; shared by all its linkers.
    """

    def __init__(self, linker: Linker, numbers: "count[int]") -> None:
        self._linker, self._numbers = linker, numbers
        self._n = 0
        self._ids: NDArray[np.int64] = np.full(64, -1)  # always a -1 at the end: the id of no track

    @property
    def info(self) -> Mapping[str, Any]:
        """Of the linker."""
        return self._linker.info

    def prepare(self, shape: tuple[int, int]) -> None:
        """Prepare the linker."""
        self._linker.prepare(shape)

    def expect_shift(self, shift_px: tuple[float, float], possible_px: tuple[float, float] | None) -> None:
        """Tell the linker, if it can be told."""
        if isinstance(self._linker, ToldShifts):
            self._linker.expect_shift(shift_px, possible_px)

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Take the detections of the next frame of the stream."""
        update = self._linker.update(detections, frame_index, time_s)
        self._know(int(max(update.particle.max(initial=-1), update.started.max(initial=-1))))
        ids = self._ids
        revised = update.revised
        return replace(
            update,
            particle=ids[update.particle],
            started=ids[update.started],
            confirmed=ids[update.confirmed],
            ended=ids[update.ended],
            parent=None if update.parent is None else ids[update.parent],
            revised=replace(revised, particle=ids[revised.particle]) if len(revised) else revised,
        )

    def _know(self, highest: int) -> None:
        """Give ids to all tracks up to this one."""
        n = highest + 1
        if n >= len(self._ids):
            self._ids = np.concatenate((self._ids, np.full(max(len(self._ids), n), -1)))
        for track in range(self._n, n):
            self._ids[track] = next(self._numbers)
        self._n = max(self._n, n)
