import pytest

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SHAPE, SOURCE, frame_at, tracks_at
from streamtrack.triggers.nearest import Nearest

MIDDLE = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)


def prepared(**settings):
    trigger = Nearest(**settings)
    trigger.prepare(SOURCE)
    return trigger


def seen(trigger, *run):
    """Return the track that is seen in each frame, None where there is none; a frame is places by track."""
    events = [trigger.check(frame_at(index), tracks_at(places)) for index, places in enumerate(run)]
    return [each[0].particle if each else None for each in events]


def test_the_track_nearest_the_middle_in_every_frame():
    assert seen(prepared(), {1: (0, 0), 2: (40, 60)}, {1: (48, 64), 2: (40, 60)}, {}) == [2, 1, None]


def test_the_event_says_where_it_is_and_how_far_from_the_point():
    event = prepared().check(frame_at(0), tracks_at({6: (MIDDLE[0] + 3, MIDDLE[1] - 4)}))[0]
    assert (event.particle, event.y, event.x) == (6, MIDDLE[0] + 3, MIDDLE[1] - 4)
    assert event.values == {"distance_px": 5}


def test_another_point():
    assert seen(prepared(y_px=0, x_px=0), {1: (3, 3), 2: MIDDLE}) == [1]
    assert seen(prepared(x_px=0), {1: (MIDDLE[0], 5), 2: MIDDLE}) == [1]


def test_neither_too_far_nor_too_near():
    y, x = MIDDLE
    run = [{1: (y, x + d)} for d in (31, 30, 5, 2, 1.5)]
    assert seen(prepared(max_distance_px=30, at_least_px=2), *run) == [None, 1, 1, 1, None]


def test_one_that_is_near_enough_hides_the_others():
    y, x = MIDDLE
    assert seen(prepared(at_least_px=2), {1: (y, x + 1), 2: (y, x + 9)}) == [None]


def test_a_held_track_is_kept_until_it_ends():
    y, x = MIDDLE
    trigger = prepared(hold=True)
    assert seen(trigger, {1: (y, x + 5), 2: (y, x + 9)}, {1: (y, x + 9), 2: (y, x)}, {2: (y, x)}) == [1, 1, None]
    assert not trigger.check(frame_at(3), tracks_at({2: (y, x)}, ended=[1]))
    assert trigger.check(frame_at(4), tracks_at({2: (y, x)}))[0].particle == 2


def test_a_held_track_is_kept_while_it_is_in_place():
    y, x = MIDDLE
    run = {1: (y, x + 5), 2: (y, x + 9)}, {1: (y, x + 1), 2: (y, x)}, {1: (y, x + 5), 2: (y, x)}
    assert seen(prepared(hold=True, at_least_px=2), *run) == [1, None, 1]


def test_a_held_track_that_goes_too_far_is_let_go():
    y, x = MIDDLE
    trigger = prepared(hold=True, max_distance_px=10)
    assert seen(trigger, {1: (y, x + 5)}, {1: (y, x + 15), 2: (y, x + 8)}, {1: (y, x + 9), 2: (y, x + 8)}) == [
        1,
        None,
        2,
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"y_px": 300.0}, r"y_px is 300\.0: it must be in the image, which has 96 x 128 px"),
        ({"x_px": -5.0}, "x_px"),
        ({"x_px": float("nan")}, "x_px"),
        ({"max_distance_px": 0.0}, "max_distance_px"),
        ({"at_least_px": -1.0}, "at_least_px"),
        ({"at_least_px": 5.0, "max_distance_px": 5.0}, "at_least_px"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        prepared(**settings)
