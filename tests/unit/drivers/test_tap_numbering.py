import itertools
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack_drivers.micromanager.numbering import MAX_GAP, ImageTimes, Numbering, image_number


def indices(*numbers):
    numbering = Numbering()
    return [list(numbering.place(number)) for number in numbers]


def test_consecutive_numbers_are_consecutive_indices_from_0():
    assert indices(5, 6, 7) == [[0], [1], [2]]


def test_a_jump_is_that_many_lost():
    assert indices(0, 1, 4, 5) == [[0], [1], [2, 3, 4], [5]]


def test_a_new_sequence_begins_at_0_and_what_is_missing_of_it_counts():
    assert indices(0, 1, 0, 1) == [[0], [1], [2], [3]]
    assert indices(0, 1, 2, 1) == [[0], [1], [2], [3, 4]]


def test_snaps_have_no_number_and_no_losses():
    assert indices(None, None, None) == [[0], [1], [2]]
    assert indices(0, None, 1) == [[0], [1], [2]]


def test_two_cameras_share_a_number():
    assert indices(0, 0, 1, 1) == [[0], [1], [2], [3]]


def test_an_absurd_jump_is_another_way_of_counting():
    assert indices(0, MAX_GAP + 2, MAX_GAP + 3) == [[0], [1], [2]]
    assert len(indices(0, MAX_GAP + 1)[1]) == MAX_GAP + 1


def test_a_skipped_image_is_not_missed():
    numbering = Numbering()
    numbering.place(0)
    numbering.skip(1)
    assert list(numbering.place(2)) == [1]


def test_time_points_go_before_the_numbers_of_a_sequence_with_other_streams_in_it():
    numbering = Numbering()
    assert list(numbering.place(0, t=0)) == [0]
    assert list(numbering.place(4, t=1)) == [1]
    assert list(numbering.place(12, t=3)) == [2, 3]
    assert list(numbering.place(0)) == [4], "of an event that was added"
    assert list(numbering.place(1, t=4)) == [5]


def test_an_acquisition_that_begins_is_expected_at_time_point_0():
    numbering = Numbering()
    numbering.begin()
    assert list(numbering.place(None, t=1)) == [0, 1]
    numbering.begin()
    assert list(numbering.place(None, t=0)) == [2]
    assert numbering.restarts == 1


@given(st.lists(st.none() | st.integers(0, 500), max_size=50))
def test_indices_rise_without_a_gap_whatever_the_camera_says(numbers):
    all_indices = list(itertools.chain.from_iterable(indices(*numbers)))
    assert all_indices == list(range(len(all_indices)))


@pytest.mark.parametrize(
    ("tags", "number"),
    [
        ({"ImageNumber": "12"}, 12),  # pycromanager's Python back end
        ({"ImageNumber": 12}, 12),  # its Java back end
        ({"ImageNumber": "many"}, None),
        ({"ImageNumber": None}, None),
        ({}, None),  # a snap
    ],
)
def test_image_numbers_are_read_in_every_form(tags, number):
    assert image_number(tags) == number


NOON = datetime(2026, 11, 21, 12)


def times(*arrivals):
    """Return the times of images; each is (stamp in s after noon or None, arrival in s)."""
    clock = ImageTimes()
    stamps = [(None if stamp is None else str(NOON + timedelta(seconds=stamp)), int(1e9 * s)) for stamp, s in arrivals]
    return [clock.time_s(received, grabbed_ns) for received, grabbed_ns in stamps]


def test_times_are_those_of_the_core_without_the_delay_of_the_way_here():
    assert times((0.0, 100.0), (0.01, 100.05), (0.02, 100.051)) == pytest.approx([100.0, 100.01, 100.02])


def test_without_a_stamp_it_is_the_arrival():
    assert times((None, 100.0), (None, 100.5)) == [100.0, 100.5]


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_summer_time_does_not_move_frames_by_an_hour(jump_s):
    assert times((0.0, 100.0), (1.0 + jump_s, 101.0), (2.0 + jump_s, 102.0)) == pytest.approx([100.0, 101.0, 102.0])


@given(st.lists(st.tuples(st.none() | st.floats(-1e5, 1e5), st.floats(0, 1e5)), min_size=2, max_size=20))
def test_times_rise_whatever_the_clocks_do(arrivals):
    found = times(*arrivals)
    assert all(a < b for a, b in itertools.pairwise(found))
