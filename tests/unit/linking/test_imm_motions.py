"""Particles that blink, fields that move, and particles that outrun their gates."""

import numpy as np
import pytest
from linked_movies import accuracy, link, prepared

from streamtrack.testing.linkers import detections_at


def blinkers(gap, frames=60, n=25, step_px=0.0):
    """Frames of particles on a grid 80 px apart, each dark for ``gap`` frames of 20, with a phase of its own."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(40, 440, 80.0), np.arange(40, 440, 80.0)), axis=-1).reshape(-1, 2)[:n]
    phase = rng.integers(0, 20, n)
    for t in range(frames):
        lit = (t + phase) % 20 >= gap
        grid = grid + rng.normal(0, step_px, grid.shape)
        yield detections_at((grid + rng.normal(0, 0.3, grid.shape))[lit]), np.flatnonzero(lit)


def owners_of(linker, movie):
    """Return the set of tracks that each particle had."""
    tracks = {}
    for t, (detections, identity) in enumerate(movie):
        for k, particle in zip(identity, linker.update(detections, t, float(t)).particle, strict=True):
            tracks.setdefault(k, set()).add(particle)
    return tracks


@pytest.mark.parametrize("step_px", [0.0, 1.0])
def test_particles_known_to_blink_keep_their_tracks(step_px):
    tracks = owners_of(prepared(blinking=True), blinkers(8, step_px=step_px))
    assert sum(len(each) == 1 for each in tracks.values()) >= 22


def test_blinking_is_found_out_at_once_where_nobody_could_be_mistaken():
    """25 still particles, dark for longer than any track lives that knows of no blinking."""
    linker, movie = prepared(), list(blinkers(8, frames=100))
    started = [len(linker.update(detections, t, float(t)).started) for t, (detections, _) in enumerate(movie)]
    assert sum(started) <= 28
    assert linker.info["learnt_dark_frames"] > 4


def test_blinking_is_learnt_from_places_where_tracks_end_and_begin():
    """Of a linker that has begun without a thought of it: that others can be mistaken is not why it is learnt late."""
    linker, movie = prepared(), list(blinkers(8, frames=200))
    linker.begin_again()
    started = [len(linker.update(detections, t, float(t)).started) for t, (detections, _) in enumerate(movie)]
    assert sum(started[:100]) > 40
    assert sum(started[100:]) <= 10
    assert linker.info["learnt_dark_frames"] > 4


def test_tracks_without_blinking_end_as_fast_as_ever(simulate):
    linker = prepared()
    link(linker, simulate("brownian", n=200, frames=40))
    assert linker.info["learnt_dark_frames"] < 1.2


def jumping(n, jump_yx, *, at=20, frames=40, seed=6):
    """Frames of n particles that step by 1 px and all jump together once, 5 % missed, 5 % false; and whose they are."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(100, 400, (n, 2))
    for t in range(frames):
        place = place + rng.normal(0, 1, place.shape) + (np.asarray(jump_yx) if t == at else 0.0)
        seen = rng.random(n) < 0.95
        false = rng.uniform(0, 512, (rng.poisson(0.05 * n), 2))
        found = np.concatenate((place[seen] + rng.normal(0, 0.3, (seen.sum(), 2)), false))
        yield detections_at(found), np.concatenate((np.flatnonzero(seen), np.full(len(false), -1)))


@pytest.mark.parametrize("n", [4, 20, 60])
@pytest.mark.parametrize("jump_yx", [(30.0, 0.0), (-18.0, 24.0), (-70.0, -90.0)])
def test_ids_survive_a_jump_of_the_whole_field(n, jump_yx):
    linker = prepared()
    tracks = owners_of(linker, jumping(n, jump_yx))
    assert linker.info["shifts_found"] == 1
    assert sum(len(tracks[k]) == 1 for k in range(n)) >= 0.9 * n


def test_a_jump_at_the_beginning_is_found_too():
    tracks = owners_of(prepared(), jumping(40, (25.0, 10.0), at=1))
    assert sum(len(tracks[k]) == 1 for k in range(40)) >= 36


def test_what_jumps_with_the_field_does_not_move_by_itself():
    linker = prepared()
    for t, (detections, _) in enumerate(jumping(30, (40.0, 40.0), frames=24)):
        update = linker.update(detections, t, float(t))
    settled = update.existence > 0.95
    assert (update.motion.displacement_px[settled] < 25).all()
    assert np.median(update.motion.diffusion_px2_s[settled]) == pytest.approx(0.5, rel=0.3)


def test_two_particles_are_no_field():
    linker = prepared()
    for t in range(10):
        linker.update(detections_at([[50.0, 50.0], [90.0, 90.0]]), t, float(t))
    assert len(linker.update(detections_at([[110.0, 150.0], [150.0, 190.0]]), 10, 10.0).started) == 2
    assert linker.info["shifts_found"] == 0


@pytest.mark.parametrize("motion", ["brownian", "directed", "switching"])
def test_no_shift_is_found_where_nothing_is_shifted(simulate, motion):
    for n in (8, 100):
        linker = prepared()
        link(linker, simulate(motion, n=n, frames=60))
        assert linker.info["shifts_found"] == 0


def test_particles_that_all_vanish_and_come_back_elsewhere_are_not_taken_for_the_same():
    linker, rng = prepared(), np.random.default_rng(2)
    place = np.empty((0, 2))
    for t in range(30):
        place = rng.uniform(0, 512, (40, 2)) if t % 6 == 0 else place
        linker.update(detections_at(place), t, float(t))
    assert linker.info["shifts_found"] == 0


def runners(speed_px, n=40, frames=60):
    """Frames of particles that run straight on through an image without borders to them, and whose they are."""
    rng = np.random.default_rng(9)
    angle = rng.uniform(0, 2 * np.pi, n)
    velocity = speed_px * np.column_stack((np.sin(angle), np.cos(angle)))
    place, identity = rng.uniform(0, 512, (n, 2)), np.arange(n)
    for _ in range(frames):
        yield detections_at(place + rng.normal(0, 0.3, place.shape)), identity
        place = place + velocity
        gone = ((place < 0) | (place > 511)).any(axis=1)
        place[gone] %= 512
        identity = np.where(gone, identity.max() + 1 + np.arange(n), identity)


@pytest.mark.parametrize("speed_px", [5.0, 25.0, 40.0])
def test_particles_that_outrun_every_gate_are_caught_up_with(speed_px):
    linker = prepared()
    movie = list(runners(speed_px))
    ids = link(linker, movie)
    assert linker.info["learnt_speed_px"] == pytest.approx(speed_px / np.sqrt(2), rel=0.25)
    assert accuracy(ids[20:], movie[20:]) > 0.8


def test_detections_without_particles_tell_of_no_speed():
    linker, rng = prepared(), np.random.default_rng(3)
    before = linker.info["learnt_speed_px"]
    for t in range(60):
        linker.update(detections_at(rng.uniform(0, 512, (60, 2))), t, float(t))
    assert linker.info["learnt_speed_px"] == pytest.approx(before, rel=0.5)


def apart(n, rng):
    """Places some 60 px apart, but on no grid."""
    grid = np.stack(np.meshgrid(np.arange(100, 400, 60.0), np.arange(100, 430, 60.0)), axis=-1).reshape(-1, 2)
    return (grid + rng.uniform(-20, 20, grid.shape))[:n]


def moved_stage(n, jump_px=40.0, every=5, frames=40, seed=8):
    """Frames of n particles that step by 1 px, on a stage that jumps every so often; and the shift into each."""
    rng = np.random.default_rng(seed)
    place = apart(n, rng)
    for t in range(frames):
        shift = jump_px * np.array(((0, 1), (1, 0), (0, -1), (-1, 0))[t // every % 4]) * (t % every == 0 and t > 0)
        place = place + shift + rng.normal(0, 1, place.shape)
        yield detections_at(place + rng.normal(0, 0.3, place.shape)), np.arange(n), shift


@pytest.mark.parametrize("n", [1, 2, 30])
def test_tracks_go_on_through_moves_that_are_told(n):
    """However few there are: of one or two particles nobody could tell."""
    linker, owners = prepared(), {}
    for t, (detections, identity, shift) in enumerate(moved_stage(n)):
        linker.expect_shift(tuple(shift))
        for k, particle in zip(identity, linker.update(detections, t, float(t)).particle, strict=True):
            owners.setdefault(k, set()).add(particle)
    assert all(len(each) == 1 for each in owners.values())
    assert (linker.info["shifts_told"], linker.info["shifts_found"]) == (7, 0)


@pytest.mark.parametrize("shown", ["at once", "late", "half, then whole"])
@pytest.mark.parametrize("n", [1, 30])
def test_a_frame_that_may_show_a_move_is_seen_either_way(n, shown):
    """The move is possible in one frame and sure in the next, and counted once."""
    if shown.startswith("half") and n == 1:
        pytest.skip("one particle does not tell how far the field went")
    rng = np.random.default_rng(9)
    place, move = apart(n, rng), np.array((30.0, -20.0))
    shares = {"at once": (1, 0), "late": (0, 1), "half, then whole": (0.5, 0.5)}[shown]
    linker, ids = prepared(), []
    for t in range(30):
        place = place + rng.normal(0, 1, place.shape) + (shares[t - 20] * move if t in (20, 21) else 0)
        sure, possible = tuple(move * (t == 21)), tuple(move) if t == 20 else None
        linker.expect_shift(sure, possible)
        ids.append(linker.update(detections_at(place), t, float(t)).particle)
    np.testing.assert_array_equal(ids, np.tile(ids[0], (30, 1)))


def test_a_wrong_shift_that_is_told_is_found_out():
    """Where there are particles enough to tell: a stage that runs the other way, for example."""
    linker, owners = prepared(), {}
    for t, (detections, identity, shift) in enumerate(moved_stage(30)):
        linker.expect_shift(tuple(-shift))
        for k, particle in zip(identity, linker.update(detections, t, float(t)).particle, strict=True):
            owners.setdefault(k, set()).add(particle)
    assert sum(len(each) == 1 for each in owners.values()) >= 29


def test_a_linker_saved_before_a_possible_move_is_sure_counts_it_once():
    linker, other, place, move = prepared(), prepared(), np.array([[100.0, 100.0]]), (30.0, -20.0)
    for t in range(22):
        linker.expect_shift(move if t == 21 else (0.0, 0.0), move if t == 20 else None)
        if t == 21:
            other.restore(linker.state())
            other.expect_shift(move)
        place = place + np.array(move) * (t == 20)
        particle = linker.update(detections_at(place), t, float(t)).particle
    assert other.update(detections_at(place), 21, 21.0).particle == particle == 0
    assert other.info == linker.info
