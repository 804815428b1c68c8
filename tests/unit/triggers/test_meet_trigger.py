from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.meet import Meet


def prepared(within_px=10.0):
    trigger = Meet(within_px=within_px)
    trigger.prepare(SOURCE)
    return trigger


def seen(trigger, distances):
    """Return the frames in which a track met another at so many px; NaN where that one was missed."""
    fired = []
    for index, distance in enumerate(distances):
        places = {8: (20, 20)} if np.isnan(distance) else {8: (20, 20), 3: (20, 20 + distance)}
        if trigger.check(frame_at(index), tracks_at(places, appeared=[3, 8] if index == 0 else [])):
            fired.append(index)
    return fired


def test_two_tracks_meet_once_until_they_part():
    assert seen(prepared(), [30, 11, 10, 5, 11, 9, 11.9, 9, 12.1, 9]) == [2, 9]


def test_tracks_that_begin_side_by_side_have_not_met():
    assert seen(prepared(), [5, 6, 5, 13, 5]) == [4]
    trigger = prepared()
    trigger.check(frame_at(0), tracks_at({1: (20, 20)}, appeared=[1]))
    assert not trigger.check(frame_at(1), tracks_at({1: (20, 20), 2: (20, 25)}, appeared=[2]))
    assert not trigger.check(frame_at(2), tracks_at({1: (20, 20), 2: (20, 24)}))


def test_one_that_is_missed_has_not_parted():
    assert seen(prepared(), [30, 5, np.nan, np.nan, 5, 30, 5]) == [1, 6]


def test_the_event_is_between_the_two_about_the_older():
    trigger = prepared()
    trigger.check(frame_at(0), tracks_at({1: (50, 50), 8: (20, 20), 3: (40, 20)}))
    events = trigger.check(frame_at(1), tracks_at({1: (50, 50), 8: (20, 20), 3: (26, 28)}))
    assert [(e.particle, e.y, e.x, dict(e.values)) for e in events] == [
        (3, 23, 24, {"other_particle": 8, "distance_px": 10})
    ]


def test_each_pair_for_itself():
    trigger = prepared()
    trigger.check(frame_at(0), tracks_at({1: (10, 10), 2: (10, 40), 3: (10, 70)}))
    events = trigger.check(frame_at(1), tracks_at({1: (10, 10), 2: (10, 19), 3: (10, 27)}))
    assert sorted((e.particle, e.values["other_particle"]) for e in events) == [(1, 2), (2, 3)]


def test_an_ended_track_is_forgotten():
    trigger = prepared()
    assert seen(trigger, [30, 5]) == [1]
    assert len(trigger._together) == 1
    trigger.check(frame_at(2), tracks_at({8: (20, 20)}, ended=[3]))
    assert not trigger._together


@given(st.lists(st.floats(0, 30, width=32), max_size=50))
def test_between_two_meetings_they_were_apart(distances):
    fired = seen(prepared(), distances)
    assert all(distances[index] <= 10.001 for index in fired)
    for one, other in pairwise(fired):
        assert max(distances[one:other]) > 11.999
    if distances and not fired:  # either never near, or together from the start on
        assert distances[0] < 10.001 or min(distances) > 9.999


@pytest.mark.parametrize("within_px", [0.0, -3.0, float("inf"), float("nan")])
def test_distances_that_make_no_sense_are_refused(within_px):
    with pytest.raises(ConfigError, match="within_px"):
        Meet(within_px=within_px)
