import pytest

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, motion_of, tracks_at
from streamtrack.triggers.motion import Displacement, ModeSwitch, Speed
from streamtrack.types import SourceInfo

BROWNIAN, DIRECTED, TETHERED, UNSURE = (0.95, 0.04, 0.01), (0.04, 0.95, 0.01), (0.05, 0, 0.95), (0.5, 0.4, 0.1)


def prepared(trigger, source=SOURCE):
    trigger.prepare(source)
    return trigger


def seen(trigger, first_age=10, **path):
    """Return the frames in which one track made an event whose motion is given frame by frame."""
    (name, values), fired = path.popitem(), []
    for index, value in enumerate(values):
        motion = motion_of(1, age_frames=first_age + index, **{name: value})
        if trigger.check(frame_at(index), tracks_at({3: (9, 9)}, motion=motion)):
            fired.append(index)
    return fired


@pytest.mark.parametrize(
    ("trigger", "name"),
    [(Speed(above_px_s=10.0), "speed_px_s"), (Displacement(above_px=10.0), "displacement_px")],
    ids=["speed", "displacement"],
)
class TestLimits:
    def test_seen_once_until_it_was_well_below(self, trigger, name):
        assert seen(prepared(trigger), **{name: [2, 9.9, 10, 30, 9, 11, 8.1, 12, 7.9, 10]}) == [2, 9]

    def test_over_the_limit_from_the_start(self, trigger, name):
        assert seen(prepared(trigger), **{name: [20, 20, 1, 20]}) == [0, 3]

    def test_each_track_for_itself(self, trigger, name):
        prepared(trigger)
        places = {5: (1, 2), 9: (3, 4), 6: (5, 6)}
        first = trigger.check(frame_at(0), tracks_at(places, motion=motion_of(3, **{name: [20, 1, 1]})))
        second = trigger.check(frame_at(1), tracks_at(places, motion=motion_of(3, **{name: [20, 1, 25]})))
        assert [(e.particle, e.y, e.x, dict(e.values)) for e in (*first, *second)] == [
            (5, 1, 2, {name: 20}),
            (6, 5, 6, {name: 25}),
        ]

    def test_an_ended_track_is_forgotten(self, trigger, name):
        prepared(trigger)
        fast = motion_of(1, **{name: 20})
        assert trigger.check(frame_at(0), tracks_at({5: (1, 2)}, ended=[5], motion=fast))
        assert trigger.check(frame_at(1), tracks_at({5: (1, 2)}, motion=fast))

    def test_a_linker_that_says_nothing_of_motion_is_refused_with_the_cure(self, trigger, name):
        with pytest.raises(ConfigError, match=r'kind = "imm" in the \[linker\] table'):
            prepared(trigger).check(frame_at(0), tracks_at({}))


def test_speed_has_two_components():
    motion = motion_of(1)
    motion.velocity_px_s[0] = (3, 4)
    event = prepared(Speed(above_px_s=5)).check(frame_at(0), tracks_at({1: (0, 0)}, motion=motion))[0]
    assert event.values == {"speed_px_s": 5}


@pytest.mark.parametrize(
    ("make", "name"), [(Speed, "speed_px_s"), (Displacement, "displacement_px")], ids=["speed", "displacement"]
)
def test_limits_in_um_go_by_the_pixel_size(make, name):
    trigger = make(**{name.replace("px", "um").replace("speed", "above").replace("displacement", "above"): 1.0})
    assert seen(prepared(trigger), **{name: [9.9, 10.1]}) == [1]  # 0.1 um per pixel
    with pytest.raises(ConfigError, match="a limit in um needs a pixel size, and camera has none"):
        trigger.prepare(SourceInfo("camera", (64, 64), "uint8"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "exactly one of above_px_s, above_um_s"),
        ({"above_px_s": 1.0, "above_um_s": 1.0}, "above_px_s and above_um_s"),
    ],
)
def test_speeds_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Speed(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "exactly one of above_px, above_um"), ({"above_px": -1.0}, "above_px"), ({"above_um": 0.0}, "above_um")],
)
def test_displacements_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        Displacement(**settings)


def switch(**settings):
    return prepared(ModeSwitch(**settings))


def test_a_switch_is_from_one_mode_to_another():
    assert seen(switch(), modes=[BROWNIAN, BROWNIAN, DIRECTED, DIRECTED, TETHERED, DIRECTED]) == [2, 5]


def test_the_first_mode_is_no_switch():
    assert seen(switch(), modes=[UNSURE, DIRECTED, DIRECTED]) == []


def test_in_doubt_a_track_stays_in_its_mode():
    assert seen(switch(), modes=[BROWNIAN, UNSURE, DIRECTED, UNSURE, DIRECTED, UNSURE, BROWNIAN, DIRECTED]) == [2, 7]


def test_where_it_comes_from_may_matter():
    path = [BROWNIAN, DIRECTED, TETHERED, DIRECTED, BROWNIAN, TETHERED]
    assert seen(switch(after="brownian"), modes=path) == [1]
    assert seen(switch(after="tethered"), modes=path) == [3]
    assert seen(switch(to="tethered"), modes=path) == [2, 5]
    assert seen(switch(to="brownian", after="directed"), modes=path) == [4]


def test_young_tracks_are_not_looked_at():
    path = [BROWNIAN, DIRECTED, DIRECTED, BROWNIAN, DIRECTED]
    assert seen(switch(from_age_frames=2), first_age=0, modes=path) == [4]
    assert seen(prepared(Speed(above_px_s=10, from_age_frames=2)), first_age=0, speed_px_s=[20, 20, 20, 1, 20]) == [
        2,
        4,
    ]


def test_how_sure_it_must_be():
    path = [BROWNIAN, (0.3, 0.65, 0.05), (0.1, 0.89, 0.01), (0.09, 0.9, 0.01)]
    assert [seen(switch(probability=p), modes=path) for p in (0.6, 0.85, 0.9)] == [[1], [2], [3]]


def test_the_event_of_a_switch():
    trigger = switch()
    trigger.check(frame_at(0), tracks_at({1: (5, 5), 2: (6, 6)}, motion=motion_of(2, modes=BROWNIAN)))
    events = trigger.check(
        frame_at(1), tracks_at({1: (5, 5), 2: (7, 8)}, motion=motion_of(2, modes=[UNSURE, DIRECTED]))
    )
    assert [(e.particle, e.y, e.x) for e in events] == [(2, 7, 8)]
    assert events[0].values["probability"] == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"probability": 0.5}, "probability"),
        ({"probability": 1.0}, "probability"),
        ({"from_age_frames": -1}, "from_age_frames"),
        ({"to": "directed", "after": "directed"}, "after is directed"),
    ],
)
def test_switches_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        ModeSwitch(**settings)
