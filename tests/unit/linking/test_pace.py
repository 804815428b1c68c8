import math

import pytest

from streamtrack.errors import LinkerError
from streamtrack.linking.pace import LEAST_INTERVALS, FrameIntervals


def started(interval_s=0.1):
    intervals = FrameIntervals()
    intervals.advance(0, 0.0)
    intervals.advance(1, interval_s)
    return intervals


def test_even_frames_are_one_interval_apart():
    intervals = FrameIntervals()
    steps = [intervals.advance(index, 0.02 * index) for index in range(5)]
    assert [lost for lost, _ in steps] == [0] * 5
    assert [intervals for _, intervals in steps] == pytest.approx([1.0] * 5)
    assert intervals.interval_s == pytest.approx(0.02)


def test_lost_frames_are_counted_and_take_their_time():
    assert started().advance(5, 0.5) == (3, pytest.approx(4.0))


def test_a_pause_without_lost_frames_is_a_long_interval():
    lost, intervals = started().advance(2, 0.6)
    assert lost == 0
    assert intervals == pytest.approx(5.0, rel=0.03)


def test_one_pause_hardly_changes_what_is_usual():
    intervals = started()
    intervals.advance(2, 100.0)
    assert intervals.interval_s == pytest.approx(0.1, rel=0.03)


def test_a_new_frame_rate_becomes_the_usual_one():
    intervals, time_s = started(), 0.1
    for index in range(2, 400):
        time_s += 0.4
        intervals.advance(index, time_s)
    assert intervals.interval_s == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize("time_s", [0.1, 0.0, -5.0, math.nan, math.inf])
def test_a_clock_that_tells_nothing_leaves_the_indices(time_s):
    intervals = started()
    assert intervals.advance(3, time_s) == (1, 2.0)
    assert intervals.interval_s == pytest.approx(0.1)


def test_two_frames_are_never_at_the_same_time():
    assert started().advance(2, 0.1 + 1e-12) == (0, LEAST_INTERVALS)


def test_an_index_that_does_not_rise_changes_nothing():
    intervals = started()
    with pytest.raises(LinkerError, match="frame 1 came after frame 1"):
        intervals.advance(1, 0.2)
    assert intervals.advance(2, 0.2) == (0, pytest.approx(1.0))
