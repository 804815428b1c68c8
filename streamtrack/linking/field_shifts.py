"""How far the whole field goes from frame to frame: as the stage tells, and as it was found where nobody told."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamtrack.linking.records import NONE, Floats, Indices

Pair = tuple[float, float]


class Assignment(NamedTuple):
    """The candidates of each live track, what they gain, and the detection of each.

    Attributes
    ----------
    start, candidate, gain
        Candidates of the n-th track are ``candidate[start[n]:start[n + 1]]``; what linking each gains.
    detection_of
        Of each track, or -1.
    """

    start: Indices
    candidate: Indices
    gain: Floats
    detection_of: Indices

    @property
    def total_gain(self) -> float:
        """What all links gain together."""
        track = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        linked = (self.detection_of[track] == self.candidate) & (self.candidate != NONE)
        return float(self.gain[linked].sum())


class FieldShifts:
    """The shifts that were told, each applied once.

    Of a frame that may show a move or not it is seen which fits better, and what was applied there is not applied again
    when the move is sure.

    Attributes
    ----------
    ahead
        Shape (2,), px: how far the tracks went already beyond what is sure, y, x.
    n_told, n_found
        Frames with a shift that was told, or found.
    """

    def __init__(self) -> None:
        self.ahead = np.zeros(2)
        self.n_told = self.n_found = 0
        self._told: Floats | None = None
        self._possible: Floats | None = None
        self._is_unsure = False

    def expect(self, shift_px: Pair, possible_px: Pair | None) -> None:
        """Take what is told of the next frame: see `streamtrack.protocols.ToldShifts`."""
        before = np.zeros(2) if self._told is None else self._told
        self._told = before + shift_px
        self._possible = None if possible_px is None else before + possible_px

    def begin(self, shift: Floats) -> None:
        """Write the shift into a frame that is sure, ``shift`` of shape (2,)."""
        if self._told is None:
            shift[:] = 0.0
            return
        shift[:] = self._told - self.ahead
        self._is_unsure = self._possible is not None
        self.n_told += bool(shift.any())
        if not self._is_unsure:
            self.ahead[:] = 0.0
            self._told = None

    def choose(self, shift: Floats, sure: Assignment, assign: Callable[[], Assignment]) -> Assignment:
        """Return the assignment with the frame's shift, or with the one that is possible if that gains more.

        ``assign`` assigns anew, with what is written into ``shift``.
        """
        if not self._is_unsure or self._told is None or self._possible is None:
            return sure
        told, possible = self._told, self._possible
        self._told = self._possible = None
        was_ahead, self.ahead = self.ahead, np.zeros(2)
        shift[:] = possible - was_ahead
        moved = assign()
        if moved.total_gain > sure.total_gain:
            self.ahead = possible - told
            return moved
        shift[:] = told - was_ahead
        return assign()

    def found(self, dy: float, dx: float) -> None:
        """Count a shift that nobody told; where a move may be under way, it is a part of that."""
        self.n_found += 1
        if self._is_unsure:
            self.ahead += dy, dx
