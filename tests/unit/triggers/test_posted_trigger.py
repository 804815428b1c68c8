"""Events that other programs post."""

import math

import pytest

from streamtrack.errors import ConfigError, ControlRefused
from streamtrack.protocols import Receiving
from streamtrack.testing import FakeClock
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.posted import MOST_VALUES, MOST_WAITING, VALID_S, Posted, values_of

TRACKS = tracks_at({7: (10, 20), 9: (30, 40)})


@pytest.fixture
def posted():
    trigger = Posted(event="drug")
    trigger._clock = FakeClock()
    trigger.prepare(SOURCE)
    return trigger


def test_what_is_posted_is_seen_in_the_next_frame_and_once(posted):
    assert isinstance(posted, Receiving)
    assert posted.check(frame_at(0), TRACKS) == ()
    assert posted.receive(None, {"value": 3.5})
    assert posted.receive(9, {})
    free, about = posted.check(frame_at(1), TRACKS)
    assert (free.particle, math.isnan(free.y), free.values) == (-1, True, {"value": 3.5})
    assert (about.particle, about.y, about.x) == (9, 30, 40)
    assert not posted.check(frame_at(2), TRACKS)


def test_what_is_dropped_is_counted_with_its_cause(posted):
    posted.receive(8, {})
    assert posted.check(frame_at(0), TRACKS) == []
    posted.receive(None, {})
    posted._clock.advance(round(1e9 * VALID_S) + 1)
    assert posted.check(frame_at(1), TRACKS) == []
    taken = [posted.receive(None, {}) for _ in range(MOST_WAITING + 3)]
    assert taken.count(False) == 3
    assert posted.counts() == {
        "received": MOST_WAITING + 5, "dropped_full": 3, "dropped_late": 1, "dropped_no_track": 1,
        "waiting": MOST_WAITING,
    }  # fmt: skip
    assert len(posted.check(frame_at(2), TRACKS)) == MOST_WAITING
    posted.prepare(SOURCE)
    assert not any(posted.counts().values())


def test_values_are_numbers_by_name():
    assert values_of(None) == {}
    assert values_of(True) == {"value": 1.0}
    assert values_of({"dose": 2, "well": 3.5}) == {"dose": 2.0, "well": 3.5}


@pytest.mark.parametrize(
    "value",
    [
        "text",
        [1],
        math.nan,
        math.inf,
        10**400,
        {"a": "b"},
        {"a": None},
        {"a" * 65: 1},
        dict.fromkeys("abcdefghijklmnopq", 1),
    ],
)
def test_other_values_are_refused(value):
    assert MOST_VALUES == 16
    with pytest.raises(ControlRefused):
        values_of(value)


def test_an_event_has_a_name():
    with pytest.raises(ConfigError, match="event"):
        Posted(event="")
