from dataclasses import replace

import pytest

from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.life import Appears, Disappears, Divides, Older


def prepared(trigger):
    trigger.prepare(SOURCE)
    return trigger


def seen(trigger, run):
    """Return what is seen in a run: frame and track; of a run by frame index: places by track, and tracks that end."""
    events = []
    for index, (places, ended) in run.items():
        for event in trigger.check(frame_at(index), tracks_at(places, ended=ended)):
            events.append((index, event.particle, event.y, event.x))
    return events


def test_a_new_track_appears_once_where_it_is():
    run = {0: ({1: (5, 6)}, ()), 1: ({1: (5, 7), 2: (8, 9)}, ()), 2: ({2: (8, 10)}, ()), 3: ({1: (5, 8)}, ())}
    assert seen(prepared(Appears(after_frames=0)), run) == [(0, 1, 5, 6), (1, 2, 8, 9)]


def test_what_was_there_before_the_run_is_not_new():
    run = {n: ({k: (k, k) for k in range(n)}, ()) for n in range(100, 108)}
    assert [(index, particle) for index, particle, *_ in seen(prepared(Appears(after_frames=5)), run)] == [
        (105, 104),
        (106, 105),
        (107, 106),
    ]


def test_an_id_may_come_again_after_its_end():
    run = {0: ({1: (5, 6)}, ()), 1: ({}, (1,)), 2: ({1: (7, 7)}, ())}
    assert seen(prepared(Appears(after_frames=0)), run) == [(0, 1, 5, 6), (2, 1, 7, 7)]


def test_an_ended_track_disappears_where_it_was_seen_last():
    run = {
        0: ({1: (5, 6), 2: (8, 9)}, ()),
        1: ({1: (5, 7), 2: (8, 8)}, ()),
        2: ({2: (8, 7)}, ()),
        3: ({}, ()),
        4: ({}, (1,)),
        5: ({2: (9, 9)}, (2,)),
        6: ({}, (77,)),
    }
    assert seen(prepared(Disappears()), run) == [(4, 1, 5, 7), (5, 2, 9, 9)]


def test_a_track_is_old_once():
    run = {n: ({1: (5, n)}, ()) for n in range(10)}
    assert seen(prepared(Older(frames=4)), run) == [(4, 1, 5, 4)]


def test_lost_frames_count_and_a_missed_track_is_seen_when_it_is_found_again():
    run = {0: ({1: (5, 5), 2: (6, 6)}, ()), 8: ({2: (6, 6)}, ()), 12: ({1: (9, 9)}, ())}
    trigger = prepared(Older(frames=8))
    assert seen(trigger, run) == [(8, 2, 6, 6), (12, 1, 9, 9)]
    assert prepared(trigger).check(frame_at(0), tracks_at({1: (5, 5)})) == []
    assert trigger.check(frame_at(9), tracks_at({1: (5, 5)}))[0].values == {"age_frames": 9}


def test_a_track_that_ended_in_time_never_gets_old():
    run = {0: ({1: (5, 5)}, ()), 3: ({}, (1,)), 4: ({1: (5, 5)}, ()), 8: ({1: (5, 5)}, ()), 9: ({1: (5, 5)}, ())}
    assert seen(prepared(Older(frames=5)), run) == [(9, 1, 5, 5)]


def test_a_particle_divides_once_whenever_its_halves_come_into_view():
    trigger = prepared(Divides())
    frames = [{1: -1, 2: -1}, {3: 1, 2: -1}, {4: 1, 3: 1, 5: 2}, {6: 2, 4: 1}, {3: 1, 4: 1, 5: 2}]
    events = []
    for index, parents in enumerate(frames):
        tracks = tracks_at({each: (each, 2 * each) for each in parents}, values={"parent": list(parents.values())})
        events += [(index, e.particle, e.y, e.values["parent"]) for e in trigger.check(frame_at(index), tracks)]
    assert events == [(1, 3, 3, 1), (2, 5, 5, 2)]


def test_a_half_that_comes_into_view_when_the_other_has_ended_is_no_other_division():
    trigger, told = prepared(Divides()), []
    for index, (parents, ended) in enumerate([({3: 1}, ()), ({}, (3,)), ({4: 1, 7: 2}, ())]):
        places = {each: (each, each) for each in parents}
        tracks = tracks_at(places, values={"parent": list(parents.values())}, ended=ended)
        told += [event.values["parent"] for event in trigger.check(frame_at(index), tracks)]
    assert told == [1, 2]


def test_divisions_need_a_linker_that_knows_of_them():
    with pytest.raises(ConfigError, match="divisions = true"):
        Divides().prepare(replace(SOURCE, columns=()))
