"""``where``: rules that see only tracks of which something holds."""

import numpy as np
import pytest

from streamtrack.config import RuleConfig, validate
from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE
from streamtrack.triggers.life import Disappears
from streamtrack.triggers.rule import Rule
from streamtrack.triggers.view import TrackViews
from streamtrack.types import Detections, TrackUpdate

F32 = np.float32
NONE = np.empty(0, np.int64)


def rule(*where):
    made = Rule(Disappears(), validate(RuleConfig, {"kind": "disappears", "do": "raw", "where": where}, "rule"))
    made.prepare(SOURCE)
    return made


def shown(where, focus=0.5, ended=NONE, views=None, **columns):
    """Return the view of a frame with four confirmed tracks, 0 to 3."""
    columns = {"mass": [100, 200, 300, 400], "intensity": [1, 2, 3, np.nan], "kind": [0, 1, 1, np.nan], **columns}
    mass, intensity, kind = (np.array(columns[name], F32) for name in ("mass", "intensity", "kind"))
    ones = np.ones(4, F32)
    detections = Detections(ones, ones, ones, mass, ones, {"intensity": intensity, "kind": kind})
    update = TrackUpdate(np.arange(4), ones, NONE, NONE, ended, 4, 0)
    views = views or TrackViews(confirmed=True, where=rule(*where).where)
    return views.of(detections, update, {"focus": focus})


@pytest.mark.parametrize(
    ("where", "particles"),
    [
        ([], [0, 1, 2, 3]),
        ([{"column": "mass", "above": 150}], [1, 2, 3]),
        ([{"column": "mass", "above": 150, "below": 350}], [1, 2]),
        ([{"column": "intensity", "below": 10}], [0, 1, 2]),
        ([{"column": "intensity", "above": -10}], [0, 1, 2]),
        ([{"column": "kind", "is": "comet"}], [1, 2]),
        ([{"column": "kind", "is": "vesicle"}], [0]),
        ([{"column": "kind", "is": "comet"}, {"column": "mass", "above": 250}], [2]),
        ([{"column": "focus", "above": 0.4}], [0, 1, 2, 3]),
        ([{"column": "focus", "above": 0.6}], []),
    ],
)
def test_the_trigger_sees_the_tracks_for_which_all_hold(where, particles):
    tracks = shown(where)
    assert tracks.particle.tolist() == particles
    assert tracks.values["mass"].tolist() == [100 * (1 + each) for each in particles]
    assert set(tracks.values) == {"mass", "score", "sigma", "intensity", "kind"}
    assert tracks.frame_values == {"focus": 0.5}


def test_a_frame_value_that_was_not_said_shows_nothing():
    assert len(shown([{"column": "focus", "below": 1e9}], focus=np.nan)) == 0


def test_a_track_appears_when_it_holds_for_the_first_time_and_only_such_ones_end():
    views = TrackViews(confirmed=True, where=rule({"column": "mass", "above": 250}).where)
    assert shown((), views=views).appeared.tolist() == [2, 3]
    later = shown((), views=views, mass=[300, 0, 0, 500], ended=np.array([1, 2]))
    assert (later.appeared.tolist(), later.ended.tolist()) == ([0], [2])


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"column": "brightness", "above": 1}, r"nothing measures a column 'brightness'.*mass, score.*kind.*focus"),
        ({"column": "kind", "is": "comets"}, r"'kind' has no class 'comets' \(known: vesicle, comet\)"),
        ({"column": "kind", "above": 0}, r"'kind' holds classes: ask \{column = \"kind\", is = \"vesicle\"\}"),
        ({"column": "mass", "is": "comet"}, r"it is a number: ask above or below"),
        ({"column": "mass"}, r"give above, below or both, or is"),
        ({"column": "mass", "above": 2, "below": 1}, r"nothing is above 2 and below 1"),
        ({"column": "mass", "over": 1}, r"unknown key"),
        ("mass > 200", r"where"),
    ],
)
def test_mistakes_are_one_line_before_the_run(where, said):
    with pytest.raises(ConfigError, match=said) as caught:
        rule(where)
    assert len(str(caught.value).splitlines()) == 1
