from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.count import Count


def prepared(**settings):
    trigger = Count(**settings)
    trigger.prepare(SOURCE)
    return trigger


def seen(trigger, numbers, interval_s=0.1):
    """Return the frames in which so many tracks made an event."""
    events = [
        trigger.check(frame_at(index, index * interval_s), tracks_at(dict.fromkeys(range(number), (5, 5))))
        for index, number in enumerate(numbers)
    ]
    return [index for index, each in enumerate(events) if each]


def test_once_above_until_it_was_back():
    assert seen(prepared(above=3), [0, 3, 4, 9, 4, 3, 4, 4]) == [2, 6]


def test_once_below_until_it_was_back():
    assert seen(prepared(below=3), [5, 3, 2, 0, 2, 3, 2, 2]) == [2, 6]


def test_the_event_says_how_many():
    event = prepared(above=1).check(frame_at(0), tracks_at({4: (1, 1), 8: (2, 2)}))[0]
    assert (event.particle, event.values) == (-1, {"tracks": 2})


def test_a_flickering_number_is_seen_once():
    assert seen(prepared(above=5, release=2), [0, 6, 5, 6, 3, 6, 2, 5, 6]) == [1, 8]
    assert seen(prepared(below=5, release=8), [9, 4, 5, 4, 7, 4, 8, 6, 4]) == [1, 8]


def test_a_number_that_is_beyond_from_the_start_is_seen():
    assert seen(prepared(above=5), [7, 7]) == [0]
    assert seen(prepared(below=5), [2, 2]) == [0]


def test_it_must_last():
    assert seen(prepared(above=3, for_s=0.3), [4, 4, 4, 3, 4, 4, 4, 4, 4]) == [7]
    assert seen(prepared(below=3, for_s=0.3), [0, 4, 4, 2, 2, 2, 2, 2]) == [6]


def test_it_must_last_on_the_frames_clock():
    assert seen(prepared(above=3, for_s=0.3), [4, 4, 4, 4], interval_s=0.3) == [1]


def test_only_in_a_part_of_the_image():
    trigger = prepared(above=1, y_px=(0, 10), x_px=(0, 10))
    outside = tracks_at({1: (5, 5), 2: (5, 30), 3: (50, 5)})
    inside = tracks_at({1: (5, 5), 2: (5, 10.4), 3: (50, 5)})
    assert not trigger.check(frame_at(0), outside)
    assert trigger.check(frame_at(1), inside)[0].values == {"tracks": 2}


@given(
    st.sampled_from(["above", "below"]),
    st.integers(1, 6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(st.integers(0, 9), max_size=60),
)
def test_never_twice_without_release_and_never_too_early(side, limit, width, for_frames, numbers):
    release = max(limit - width, 0) if side == "above" else limit + width
    trigger = prepared(**{side: limit}, release=release, for_s=for_frames / 10)
    fired = seen(trigger, numbers)
    for index in fired:
        lasted = numbers[index - for_frames : index + 1]
        assert index >= for_frames
        assert all(n > limit if side == "above" else n < limit for n in lasted)
    for one, other in pairwise(fired):
        assert any(n <= release if side == "above" else n >= release for n in numbers[one:other])
    if not fired:  # it was never beyond for long enough
        beyond = "".join("x" if (n > limit if side == "above" else n < limit) else "." for n in numbers)
        assert "x" * (for_frames + 1) not in beyond


def test_prepare_starts_over():
    trigger = prepared(above=3)
    assert seen(trigger, [4]) == [0]
    trigger.prepare(SOURCE)
    assert seen(trigger, [4]) == [0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of above, below"),
        ({"above": 3, "below": 2}, "above and below"),
        ({"above": 3, "release": 4}, "release is 4: it must be .*at most above = 3"),
        ({"below": 3, "release": 2}, "release is 2: it must be at least below = 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Count(**settings)


def test_an_area_that_does_not_fit_is_refused_when_the_image_is_known():
    with pytest.raises(ConfigError, match="no pixel"):
        prepared(above=3, y_px=(500, 600))
