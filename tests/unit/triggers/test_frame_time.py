import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.triggers.frame_time import FrameTime, has_passed


def test_it_follows_a_clock_that_rises():
    time = FrameTime()
    assert [time.now_s(each) for each in (3.0, 3.5, 1e9)] == [3.0, 3.5, 1e9]


def test_a_step_back_counts_as_no_time_and_what_follows_counts():
    time = FrameTime()
    assert [time.now_s(each) for each in (100.0, 101.0, 0.0, 2.0, 1.0, 4.0)] == [100, 101, 101, 103, 103, 106]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_counts_as_no_time(odd):
    time = FrameTime()
    assert [time.now_s(each) for each in (odd, 1.0, odd, 2.0)] == [0, 1, 1, 2]


@given(st.lists(st.floats(-1e12, 1e12)))
def test_it_never_goes_back(times):
    time, last = FrameTime(), 0.0
    for each in times:
        now = time.now_s(each)
        assert now >= last
        last = now


def test_ten_tenths_are_one():
    assert has_passed(1.0, 0.0, sum([0.1] * 10))
    assert not has_passed(1.0, 0.0, 0.9999)
