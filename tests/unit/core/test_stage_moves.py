"""What the run knows of its own stage, frame by frame."""

import math
from dataclasses import replace

import numpy as np
import pytest

from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.errors import MicroscopeError
from streamtrack.stage_moves import MOST_REMEMBERED, NO_SHIFT, STAGE_COLUMNS, StageMoves, StageWatch
from streamtrack.testing.clock import FakeClock
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Frame, SourceInfo

MS = 1_000_000
CAMERA = SourceInfo("camera", (32, 32), "uint8", live=True, clock="camera")
EXPOSURE_MS, UM_PER_PX = 10.0, 0.5


def frame(received_ms, waited_ms=0.0, **values):
    grabbed_ns = int((received_ms + waited_ms) * MS)
    return Frame(0, np.zeros((32, 32), np.uint8), grabbed_ns, received_ms / 1e3, values)


def until(clock, ms):
    clock.advance(int(ms * MS) - clock())


@pytest.fixture
def microscope():
    return SimulatedMicroscope(exposure_ms=EXPOSURE_MS, um_per_px=UM_PER_PX)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def moves(microscope, clock):
    moves = StageMoves(microscope, clock)
    assert moves.locate()
    return moves


def move(moves, microscope, clock, x, y, begun_ms, ended_ms, settle_ms=5.0):
    """Move the stage between two times; what frames say meanwhile is asked in between."""

    def call():
        microscope.move_stage_um(x, y)
        until(clock, ended_ms)

    until(clock, begun_ms)
    moves.during(call, (x, y), None, settle_ms)


def test_what_the_stage_brings_to_the_middle_is_as_far_as_its_limits(moves, microscope, clock):
    """0.5 um a pixel; a particle comes to the middle where the stage goes as far as it is away."""
    move(moves, microscope, clock, 10, -4, 0, 1)
    assert moves.reach_px((0, 20), (-4, 16)) == [(0, -20), (0, 20), (40, 20), (40, -20)]
    assert StageMoves(microscope, clock).reach_px((0, 20), (-4, 16)) is None, "nobody knows where it is"


def test_frames_before_during_and_after_a_move(moves, microscope, clock):
    """A frame that was exposed after it goes with it: the stage at +x takes the image to -x."""
    watch = StageWatch(moves, CAMERA)
    move(moves, microscope, clock, 6.0, -2.0, begun_ms=100, ended_ms=120)
    before, during, exposed_during, after, later = (watch.at(frame(ms)) for ms in (99, 110, 134, 136, 150))
    assert (before.shift_px, before.possible_px, before.stage_um) == (NO_SHIFT, None, (0.0, 0.0))
    for unsure in (during, exposed_during):
        assert (unsure.shift_px, unsure.possible_px) == (NO_SHIFT, (4.0, -12.0))
        assert math.isnan(unsure.stage_um[0])
    assert (after.shift_px, after.possible_px, after.stage_um) == ((4.0, -12.0), None, (6.0, -2.0))
    assert (later.shift_px, later.possible_px) == (NO_SHIFT, None)


def test_a_move_is_known_while_it_is_under_way(moves, microscope, clock):
    watch = StageWatch(moves, CAMERA)
    seen = []

    def call():
        seen.append(watch.at(frame(200)))
        microscope.move_stage_um(1.0, 0.0)

    until(clock, 190)
    moves.during(call, (1.0, 0.0), (0.0, 0.0), 0.0)
    assert seen[0].possible_px == (0.0, -2.0)


def test_frames_that_waited_in_a_buffer_were_exposed_before(moves, microscope, clock):
    """The source's clock tells when they were received; the first ones tell how it goes with ours."""
    watch = StageWatch(moves, replace(CAMERA, clock="host"))
    watch.at(frame(50))
    move(moves, microscope, clock, 6.0, 0.0, begun_ms=100, ended_ms=120)
    assert watch.at(frame(90, waited_ms=80)).possible_px is None
    assert watch.at(frame(110, waited_ms=80)).possible_px is not None
    assert watch.at(frame(140, waited_ms=80)).shift_px == (0.0, -12.0)


def test_each_stream_is_told_of_each_move_once(moves, microscope, clock):
    watches = [StageWatch(moves, CAMERA) for _ in range(2)]
    for n in range(2 * MOST_REMEMBERED):  # more than are remembered one by one
        move(moves, microscope, clock, n + 1.0, 0.0, begun_ms=100 * n, ended_ms=100 * n + 10)
        if n % 7 == 0:
            watches[0].at(frame(100 * n + 90))
    sums = [watch.at(frame(1e5)).shift_px[1] for watch in watches]
    assert sums == [-2.0 * (2 * MOST_REMEMBERED - 29), -2.0 * 2 * MOST_REMEMBERED]
    assert len(moves.recent) == MOST_REMEMBERED + 1


def test_a_move_that_fails_is_not_told(moves, microscope, clock):
    """Nobody knows how far it went; the next one begins where the stage is then."""
    watch = StageWatch(moves, CAMERA)
    microscope.faults.append(MicroscopeError("stuck"))
    with pytest.raises(MicroscopeError):
        moves.during(lambda: microscope.move_stage_um(4.0, 0.0), (4.0, 0.0), (0.0, 0.0), 0.0)
    failed = watch.at(frame(100))
    assert failed.shift_px == NO_SHIFT
    assert math.isnan(failed.stage_um[0])
    microscope.move_stage_um(3.0, 0.0)  # where it got to
    until(clock, 200)
    moves.during(lambda: microscope.move_stage_um(4.0, 0.0), (4.0, 0.0), (0.0, 0.0), 0.0)
    assert watch.at(frame(300)).shift_px == (0.0, -2.0)


def test_frames_that_say_where_the_stage_was_are_believed(moves, microscope, clock):
    watch = StageWatch(moves, replace(CAMERA, frame_columns=STAGE_COLUMNS))
    assert watch.at(frame(0, stage_x_um=5.0, stage_y_um=0.0)).shift_px == NO_SHIFT
    move(moves, microscope, clock, 99.0, 0.0, begun_ms=1, ended_ms=2)
    assert watch.at(frame(50)).shift_px == NO_SHIFT, "one that does not say may be anywhere"
    told = watch.at(frame(100, stage_x_um=5.0, stage_y_um=3.0))
    assert (told.shift_px, told.possible_px, told.stage_um) == ((-6.0, 0.0), None, (5.0, 3.0))


def test_a_stage_that_was_never_calibrated_has_a_place_only(clock):
    microscope = SimulatedMicroscope(um_per_px=None)
    moves = StageMoves(microscope, clock)
    assert moves.locate()
    move(moves, microscope, clock, 6.0, 0.0, begun_ms=1, ended_ms=2)
    expected = StageWatch(moves, CAMERA).at(frame(100))
    assert (expected.shift_px, expected.stage_um) == (NO_SHIFT, (6.0, 0.0))


@pytest.mark.parametrize("mode", ["rehearse", "armed"])
def test_only_moves_that_are_made_are_told(microscope, mode):
    guard = Guard(microscope, SafetyConfig(x_um=(-9, 9), y_um=(-9, 9)), mode)
    assert guard.stage_moves.locate()
    guard.move_stage_um(5.0, 0.0, settle_ms=0.0)
    assert len(guard.stage_moves.recent) == (2 if mode == "armed" else 1)
