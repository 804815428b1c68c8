from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.value import Value

NAN = float("nan")


def seen(values, **settings):
    """Return the frames in which a track with these values of a column is seen."""
    trigger = Value(**{"column": "intensity", **settings})
    trigger.prepare(SOURCE)
    frames = []
    for index, value in enumerate(values):
        if settings.get("per") == "frame":
            tracks = tracks_at({}, frame_values={"focus": value})
        else:
            tracks = tracks_at({7: (5, 6)}, values={settings.get("column", "intensity"): [value]})
        frames += [index] * len(trigger.check(frame_at(index), tracks))
    return frames


@pytest.mark.parametrize(
    ("settings", "values", "frames"),
    [
        ({"above": 5}, [1, 6, 7, 5, 6, 1, 9], [1, 4, 6]),
        ({"above": 5, "release": 2}, [1, 6, 4, 6, 2, 6, 6], [1, 5]),
        ({"below": 5, "release": 8}, [9, 4, 7, 4, 8, 4], [1, 5]),
        ({"above": 5, "for_frames": 3}, [6, 6, 1, 6, 6, 6, 6, 1, 6, 6, 6], [5, 10]),
        ({"above": -1, "release": -3}, [-4, 0, -2, 0, -3, 0], [1, 5]),
        ({"column": "mass", "above": 5}, [6], [0]),
        ({"column": "focus", "per": "frame", "below": 0.5, "release": 0.7}, [0.9, 0.4, 0.6, 0.4, 0.8, 0.1], [1, 5]),
    ],
)
def test_a_value_is_seen_when_it_passes_the_limit_and_anew_after_it_was_back(settings, values, frames):
    assert seen(values, **settings) == frames


def test_what_was_not_measured_neither_fires_nor_counts_nor_releases():
    assert seen([NAN, NAN], above=-1e9) == seen([NAN, NAN], below=1e9) == []
    assert seen([6, NAN, 6, NAN, 6], above=5, for_frames=3) == [4]
    assert seen([6, NAN, 6, 1, NAN, 6], above=5) == [0, 5]
    assert seen([NAN, 6, NAN], column="focus", per="frame", above=5) == [1]


FLOATS = st.floats(-10, 10, width=32)  # columns hold single precision


@given(st.lists(FLOATS | st.just(NAN), max_size=40), st.floats(-5, 5), st.floats(0, 5))
def test_between_two_sightings_the_value_was_back(values, above, back):
    frames = seen(values, above=above, release=above - back)
    assert all(values[frame] > above for frame in frames)
    for one, next_one in pairwise(frames):
        assert min(values[one:next_one]) <= above - back


def test_each_track_is_seen_by_itself_with_its_value():
    trigger = Value(column="intensity", above=5)
    trigger.prepare(SOURCE)
    trigger.check(frame_at(0), tracks_at({3: (1, 2), 4: (5, 6)}, values={"intensity": [1, 9]}))
    events = trigger.check(frame_at(1), tracks_at({4: (5, 6), 3: (1, 2)}, values={"intensity": [9, 8]}))
    assert [(event.particle, event.values) for event in events] == [(3, {"intensity": 8.0})]


def test_mistakes_are_said_before_the_run_and_name_the_columns_that_exist():
    def error(**settings):
        with pytest.raises(ConfigError) as caught:
            Value(**{"above": 1.0, **settings}).prepare(SOURCE)
        return str(caught.value)

    assert error(column="intensty") == (
        "nothing measures a column 'intensty'; did you mean 'intensity'? "
        "(known: of each track mass, score, sigma, intensity, kind, parent; of each frame focus)"
    )
    assert 'per = "frame"' in error(column="focus")
    assert 'per = "track"' in error(column="mass", per="frame")
    assert "vesicle" in error(column="kind")
    assert "exactly one of above, below" in error(column="mass", below=2.0)
    assert "release is 3.0" in error(column="mass", release=3.0)
    assert "for_frames = 0" in error(column="mass", for_frames=0)
