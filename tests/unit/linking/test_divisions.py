"""Particles that divide: online, at the linker's lag."""

import numpy as np
import pytest
from linked_movies import DIVIDING_FRAMES, DIVISION, dividing, prepared

from streamtrack.errors import ConfigError
from streamtrack.testing.linkers import detections_at


def linked(linker, movie):
    """Return tracks and parents of each frame's detections, revisions included, and all updates."""
    ids, updates = [], []
    for t, detections in enumerate(movie):
        updates.append(linker.update(detections, t, float(t)))
        ids.append(updates[-1].particle.copy())
        revised = updates[-1].revised
        for frame, place, particle in zip(revised.frame_index, revised.detection, revised.particle, strict=True):
            ids[frame][place] = particle
    return ids, updates


@pytest.mark.parametrize("both_new", [False, True])
def test_a_particle_that_divides_ends_and_its_halves_begin(both_new):
    ids, updates = linked(prepared(divisions=True), dividing(both_new=both_new, apart_px=8.0 + 10.0 * both_new))
    assert (updates[-1].parent[:8] == np.tile(ids[DIVISION - 1][:4], 2)).all()
    assert (updates[-1].parent[8:] == -1).all()
    halves = {int(each) for each in ids[-1][:8]}
    assert len(halves) == 8
    for t in range(DIVISION):
        assert not halves & set(ids[t].tolist())
    for t in range(DIVISION, DIVIDING_FRAMES):
        assert (ids[t] == ids[-1]).all()
    assert (ids[-1][8:] == ids[0][4:]).all()


def test_the_books_balance():
    seen, gone, linker = set(), set(), prepared(divisions=True)
    for t, detections in enumerate(dividing()):
        update = linker.update(detections, t, float(t))
        seen |= set(update.started.tolist())
        assert {*update.particle.tolist(), *update.confirmed.tolist()} <= seen - gone
        gone |= set(update.ended.tolist())
        assert update.n_live == len(seen) - len(gone)
    assert len(gone) >= 4


def test_daughters_are_confirmed_and_young():
    _, updates = linked(prepared(divisions=True), dividing())
    daughters = np.unique(updates[-1].particle[:8])
    assert np.isin(daughters, np.concatenate([update.confirmed for update in updates[DIVISION:]])).all()
    assert (updates[-1].motion.age_frames[:8] == DIVIDING_FRAMES - 1 - DIVISION).all()
    assert (updates[-1].motion.displacement_px[:8] < 10).all()


def test_a_neighbour_that_appears_is_no_daughter():
    """It stands beside a particle that stays where it is, which is not in the middle of the two."""

    def movie():
        for t, detections in enumerate(dividing(n_dividing=0)):
            yx = np.column_stack((detections.y, detections.x))
            yield detections_at(np.concatenate((yx, yx[:1] + np.array([0.0, 25.0]))) if t >= DIVISION else yx)

    _, updates = linked(prepared(divisions=True), movie())
    assert all((update.parent == -1).all() for update in updates)


def test_without_it_nobody_has_a_parent_and_tracks_go_on():
    ids, updates = linked(prepared(), dividing())
    assert all(update.parent is None for update in updates)
    assert np.isin(ids[0], ids[-1]).all()


def test_a_movie_goes_on_from_a_saved_state():
    movie = list(dividing())
    linker = prepared(divisions=True)
    for t in range(DIVISION + 1):
        linker.update(movie[t], t, float(t))
    other = prepared(divisions=True)
    other.restore({name: np.array(each) for name, each in linker.state().items()})
    for t in range(DIVISION + 1, DIVIDING_FRAMES):
        one, again = (each.update(movie[t], t, float(t)) for each in (linker, other))
        np.testing.assert_array_equal(one.particle, again.particle)
        np.testing.assert_array_equal(one.parent, again.parent)


def test_no_division_without_a_look_back():
    with pytest.raises(ConfigError, match="lag of 1"):
        prepared(divisions=True, lag=0)
