from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.region import Region


def prepared(**settings):
    trigger = Region(**{"x_px": (20, 40), **settings})
    trigger.prepare(SOURCE)
    return trigger


def seen(trigger, xs):
    """Return the frames in which a track made an event that went along x; NaN where it was missed."""
    paths = [{} if np.isnan(x) else {7: (50, x)} for x in xs]
    return [index for index, places in enumerate(paths) if trigger.check(frame_at(index), tracks_at(places))]


def test_who_comes_in_enters():
    assert seen(prepared(), [10, 15, 25, 30, 50, 55, 35]) == [2, 6]


def test_who_goes_out_leaves():
    assert seen(prepared(on="leaves"), [10, 15, 25, 30, 50, 55, 35, 10]) == [4, 7]


def test_who_begins_inside_has_not_entered_and_who_ends_there_has_not_left():
    assert seen(prepared(), [30, 31, 32]) == []
    leaves = prepared(on="leaves")
    assert seen(leaves, [30, 31]) == []
    assert not leaves.check(frame_at(2), tracks_at({}, ended=[7]))


def test_who_crosses_while_missed_is_seen_when_found_again():
    assert seen(prepared(), [10, np.nan, np.nan, 30]) == [3]


def test_the_event_is_about_the_track_where_it_is():
    trigger = prepared()
    trigger.check(frame_at(0), tracks_at({1: (5, 5), 2: (9, 5), 3: (9, 30)}))
    events = trigger.check(frame_at(1), tracks_at({1: (5, 5), 2: (9.5, 22.25), 3: (9, 31)}))
    assert [(event.particle, event.y, event.x) for event in events] == [(2, 9.5, 22.25)]


def test_one_on_the_border_is_seen_once():
    assert seen(prepared(margin_px=2), [15, 21, 19, 21, 18, 21, 17, 21]) == [1, 7]
    assert seen(prepared(on="leaves", margin_px=2), [25, 19, 21, 18, 21, 17, 18, 17]) == [5]


def test_one_that_begins_in_the_margin_enters():
    assert seen(prepared(margin_px=5), [17, 21]) == [1]


@given(st.lists(st.floats(0, 60, width=32), max_size=50), st.integers(0, 4))
def test_between_two_entries_it_was_far_out_and_every_entry_ends_inside(xs, margin_px):
    fired = seen(prepared(margin_px=margin_px), xs)
    pixels = np.rint(xs)
    assert all(20 <= pixels[index] <= 40 for index in fired)
    for one, other in pairwise(fired):
        between = pixels[one:other]
        assert ((between < 20 - margin_px) | (between > 40 + margin_px)).any()


def test_an_ended_track_is_forgotten():
    trigger = prepared()
    trigger.check(frame_at(0), tracks_at({7: (50, 10)}))
    trigger.check(frame_at(1), tracks_at({}, ended=[7]))
    assert not trigger.check(frame_at(2), tracks_at({7: (50, 30)}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"polygon_px": [(0, 0), (9, 9)]}, "polygon_px = .* is not valid: list should have at least 3 items"),
        ({"mask": "cell.tif"}, "exactly one of"),
        ({"x_px": None}, "exactly one of"),
        ({"x_px": (500, 600)}, "no pixel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        prepared(**settings)
