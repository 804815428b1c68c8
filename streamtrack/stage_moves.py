"""Where the stage is, and how far the image went with it, so that tracks go on through its moves.

The threads that move the stage write it down; the loop reads it before each frame, and waits for nobody: what it reads
is a tuple that is replaced as a whole.
"""

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.errors import MicroscopeError
from streamtrack.protocols import Microscope
from streamtrack.types import Column, Frame, SourceInfo, Values

STAGE_COLUMNS = (Column("stage_x_um", "um"), Column("stage_y_um", "um"))
"""Where the stage was when a frame was exposed."""

SETTLE_MS = 10.0
"""How long after a move, besides one exposure, frames may show it that arrive: to read out, and to come to rest."""

MOST_REMEMBERED = 16
"""Moves of which it is known when they were; older ones were over long before."""

CLOCK_SLIP = 0.01
"""A source's clock may go slower than ours by this share."""

NOT_YET_NS = 2**63 - 1

Pair = tuple[float, float]
NO_SHIFT: Pair = (0.0, 0.0)
UNKNOWN: Pair = (math.nan, math.nan)


class Move(NamedTuple):
    """A move of the stage.

    Attributes
    ----------
    begun_ns, settled_ns
        Frames received before the former were exposed before the move; those received from the latter on, after it.
    shift_px
        How far it takes the image: y, x; zero where that is not known.
    to_um
        Where the stage is then: x, y; NaN where that is not known.
    """

    begun_ns: int
    settled_ns: int
    shift_px: Pair
    to_um: Pair


class Expected(NamedTuple):
    """What is known of the stage when a frame was exposed.

    Attributes
    ----------
    shift_px
        How far the image went since the frame before, y, x: the moves that were over.
    possible_px
        How far it went if the moves that were not over are counted, too; None where there are none.
    stage_um
        x, y; NaN where it moved, or nobody knows.
    """

    shift_px: Pair = NO_SHIFT
    possible_px: Pair | None = None
    stage_um: Pair = UNKNOWN


class StageMoves:
    """The moves of a run's stage.

    Parameters
    ----------
    microscope
        Is asked where the stage is, and how the image moves with it.
    clock
        That of ``Frame.grabbed_ns``.

    Attributes
    ----------
    recent
        The last moves, in the order in which they began; the first one stands for all before.
    """

    def __init__(self, microscope: Microscope, clock: Clock = monotonic_ns) -> None:
        self._microscope = microscope
        self._clock = clock
        self._writing = threading.Lock()
        self._px_per_um: NDArray[np.float64] | None = None
        self.recent: tuple[Move, ...] = (Move(0, 0, NO_SHIFT, UNKNOWN),)

    def locate(self) -> bool:
        """Read where the stage is, before the first move; return whether there is one that says."""
        here = self._here()
        if math.isnan(here[0]):
            return False
        self._calibrate()
        self.recent = (Move(0, 0, NO_SHIFT, here),)
        return True

    def during(self, call: Callable[[], None], to_um: Pair, from_um: Pair | None, settle_ms: float) -> None:
        """Make a move, and write down when it was and how far it went.

        Parameters
        ----------
        call
            Moves, and returns when the stage has arrived.
        to_um, from_um
            x, y; where it is now is read if it is not given.
        settle_ms
            In place of `SETTLE_MS`.
        """
        if from_um is None or math.isnan(self.recent[-1].to_um[0]):  # a move that failed may have gone part of the way
            from_um = self._here()
        move = Move(self._clock(), NOT_YET_NS, self.shift_px(from_um, to_um), UNKNOWN)
        self._add(move)
        over = move._replace(shift_px=NO_SHIFT)  # of a move that fails nobody knows how far it went
        try:
            call()
            over, settle_ms = self._arrived(move, from_um, settle_ms)
        finally:
            self._replace(move, over._replace(settled_ns=self._clock() + int(1e6 * settle_ms)))

    def shift_px(self, from_um: Pair, to_um: Pair) -> Pair:
        """Return how far the image goes with the stage, y, x; zero where that, or where it begins, is not known."""
        if self._px_per_um is None or math.isnan(from_um[0]):
            return NO_SHIFT
        x, y = self._px_per_um @ np.subtract(from_um, to_um)
        return float(y), float(x)

    def reach_px(self, x_um: Pair, y_um: Pair) -> list[Pair] | None:
        """Return what the stage brings to the middle of the image within limits: four corners.

        y, x from the middle; None where nobody knows.
        """
        here = self.recent[-1].to_um
        if self._px_per_um is None or math.isnan(here[0]):
            return None
        corners = [(x_um[0], y_um[0]), (x_um[1], y_um[0]), (x_um[1], y_um[1]), (x_um[0], y_um[1])]
        return [self.shift_px(corner, here) for corner in corners]

    def _here(self) -> Pair:
        """Return where the stage is; a move does not fail because nobody knows where it begins."""
        try:
            return self._microscope.stage_um()
        except MicroscopeError:
            return UNKNOWN

    def _arrived(self, move: Move, from_um: Pair, settle_ms: float) -> tuple[Move, float]:
        """Return a move as it was made, and how long frames may show it; what cannot be read is not known."""
        try:
            there = self._microscope.stage_um()
            settle_ms += self._microscope.exposure_ms()
        except MicroscopeError:
            return move._replace(shift_px=NO_SHIFT), settle_ms
        self._calibrate()  # the objective may be another
        return move._replace(shift_px=self.shift_px(from_um, there), to_um=there), settle_ms

    def _calibrate(self) -> None:
        try:
            self._px_per_um = np.asarray(np.linalg.inv(self._microscope.stage_um_per_px()), np.float64)
        except (MicroscopeError, np.linalg.LinAlgError):
            self._px_per_um = None

    def _add(self, move: Move) -> None:
        with self._writing:
            first, *later = (*self.recent, move)
            while len(later) > MOST_REMEMBERED:
                oldest = later.pop(0)
                first = Move(0, 0, _sum(first.shift_px, oldest.shift_px), oldest.to_um)
            self.recent = (first, *later)

    def _replace(self, begun: Move, over: Move) -> None:
        with self._writing:
            self.recent = tuple(over if move is begun else move for move in self.recent)


class StageWatch:
    """Says of frame after frame of one stream what is known of the stage.

    Where frames say themselves where the stage was, they are believed. Of others it is known when they were received:
    that is not when they were taken out of a buffer, but the source's clock says how long they waited there.

    Parameters
    ----------
    moves
        Those of the run.
    source
        Its clock, and whether its frames have `STAGE_COLUMNS`.
    """

    def __init__(self, moves: StageMoves, source: SourceInfo) -> None:
        self._moves = moves
        self._has_clock = source.clock == "host"
        self._frames_say = set(STAGE_COLUMNS) <= set(source.frame_columns)
        self._offset_s = math.inf
        self._last_s = -math.inf
        self._told = NO_SHIFT
        self._here = UNKNOWN

    def at(self, frame: Frame) -> Expected:
        """Return what is known of a frame; each frame is asked about once, in order."""
        if self._frames_say:
            x, y = (frame.values.get(column.name, math.nan) for column in STAGE_COLUMNS)
            return self._at_place((x, y))
        received_ns = self._received_ns(frame)
        over, under_way, where = NO_SHIFT, None, UNKNOWN
        for move in self._moves.recent:
            if received_ns >= move.settled_ns:
                over, where = _sum(over, move.shift_px), move.to_um
            elif received_ns >= move.begun_ns:
                under_way = _sum(under_way or NO_SHIFT, move.shift_px)
        shift, self._told = (over[0] - self._told[0], over[1] - self._told[1]), over
        if under_way is None:
            return Expected(shift, None, where)
        return Expected(shift, _sum(shift, under_way), UNKNOWN)

    def _at_place(self, here: Pair) -> Expected:
        if not math.isfinite(here[0] + here[1]):
            return Expected()
        before, self._here = self._here, here
        return Expected(NO_SHIFT if math.isnan(before[0]) else self._moves.shift_px(before, here), None, here)

    def _received_ns(self, frame: Frame) -> float:
        """Return when a frame was received: those that waited least tell how the source's clock goes with ours."""
        if not self._has_clock:
            return frame.grabbed_ns
        grabbed_s = frame.grabbed_ns * 1e-9
        slipped_s = CLOCK_SLIP * max(grabbed_s - self._last_s, 0.0)
        self._offset_s, self._last_s = min(grabbed_s - frame.time_s, self._offset_s + slipped_s), grabbed_s
        return (frame.time_s + self._offset_s) * 1e9


def known(stage_um: Pair) -> Values:
    """Return a place of the stage as values of a frame, by `STAGE_COLUMNS`."""
    return dict(zip((column.name for column in STAGE_COLUMNS), stage_um, strict=True))


def _sum(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]
