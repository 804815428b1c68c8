import tracemalloc

import numpy as np
import pytest
from linked_movies import accuracy, link, prepared
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from streamtrack.errors import LinkerError
from streamtrack.linking import (
    assignment,
    calibration,
    common_motion,
    exchange,
    fast_starts,
    gating,
    imm,
    imm_filter,
    measurement,
    places,
    readout,
    revision,
)
from streamtrack.linking.imm import ImmLinker
from streamtrack.testing.linkers import detections_at
from streamtrack.types import CONFIRMED, MOTION_MODES, Detections


def nearest_neighbours(movie, reach):
    """Link from each frame to the next, up to a reach, so that the sum of squared distances is least."""
    ids, next_id, previous, labels = [], 0, np.empty((0, 2)), np.empty(0, int)
    for detections, _ in movie:
        position = np.column_stack((detections.y, detections.x))
        current = np.full(len(position), -1)
        cost = np.minimum(cdist(previous, position) ** 2, reach**2) if len(previous) else np.empty((0, len(position)))
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < reach**2:
                current[j] = labels[i]
        new = current < 0
        current[new] = np.arange(next_id, next_id + new.sum())
        next_id += new.sum()
        ids.append(current)
        previous, labels = position, current
    return ids


@pytest.mark.parametrize(("motion", "least"), [("brownian", 0.9), ("directed", 0.95), ("switching", 0.9)])
def test_links_a_crowd_better_than_nearest_neighbours(simulate, motion, least):
    movie = simulate(motion)
    ours = accuracy(link(prepared(), movie), movie)
    nearest = max(accuracy(nearest_neighbours(movie, reach), movie) for reach in (5, 8))
    assert ours > least
    assert 1 - ours < 0.75 * (1 - nearest)


@pytest.mark.parametrize("first_step_px", [0.5, 8.0])
def test_a_step_unknown_by_a_factor_of_four_is_found(simulate, monkeypatch, first_step_px):
    movie = simulate("brownian")
    known = accuracy(link(prepared(step_px=2.0), movie)[20:], movie[20:])
    monkeypatch.setattr(calibration, "FIRST_STEP_PX", first_step_px)
    linker = prepared()
    learnt = accuracy(link(linker, movie)[20:], movie[20:])
    assert linker.info["learnt_step_px"] == pytest.approx(2.0, rel=0.1)
    assert learnt > known - 0.02


@pytest.mark.parametrize("step_px", [0.5, 2.0, 5.0])
def test_one_default_serves_slow_and_fast(simulate, step_px):
    movie = simulate("brownian", n=80, step_px=step_px)
    assert accuracy(link(prepared(), movie), movie) > accuracy(link(prepared(step_px=step_px), movie), movie) - 0.02


def test_straight_fast_particles_that_pass_each_other():
    start = np.array([[100.0, 100.0], [101.5, 300.0], [150.0, 203.0]])
    velocity = np.array([[0.0, 5.0], [0.0, -5.0], [-2.4, 0.0]])
    linker = prepared()
    tracks = [linker.update(detections_at(start + t * velocity), t, t).particle for t in range(60)]
    np.testing.assert_array_equal(tracks, np.tile(tracks[0], (60, 1)))


def test_lost_frames_are_predicted_across():
    """After 3 lost frames at 6 px/frame a particle is 24 px on, and another stands where it was expected at rest."""
    linker = prepared()
    for t in range(10):
        before = linker.update(detections_at([[50.0, 50.0 + 6 * t]]), t, t).particle
    after = linker.update(detections_at([[50.0, 104.0], [50.0, 128.0]]), 13, 13.0)
    assert after.particle[1] == before[0]
    assert after.particle[0] != before[0]


@pytest.mark.parametrize(("lost", "survives"), [(2, True), (3, False)])
def test_lost_frames_count_as_misses(lost, survives):
    linker = prepared(max_misses=2)
    still = detections_at([[50.0, 50.0]])
    for t in range(10):
        before = linker.update(still, t, t).particle
    after = linker.update(still, 10 + lost, 10.0 + lost)
    assert (after.particle[0] == before[0]) == survives
    assert len(after.ended) == (0 if survives else 1)


def test_a_track_ends_after_its_misses():
    linker = prepared(detection_probability=0.5, max_misses=4)
    for t in range(10):
        particle = linker.update(detections_at([[50.0, 50.0]]), t, t).particle
    dark = [linker.update(Detections.empty(), t, t) for t in range(10, 16)]
    assert [update.n_live for update in dark] == [1, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(dark[4].ended, particle)


def test_an_improbable_track_ends_sooner():
    linker = prepared(max_misses=1000)
    linker.update(detections_at([[50.0, 50.0]]), 0, 0.0)
    ended = [len(linker.update(Detections.empty(), t, t).ended) for t in range(1, 30)]
    assert sum(ended) == 1


def test_misses_and_lost_frames_add_up():
    linker = prepared(max_misses=2)
    still = detections_at([[50.0, 50.0]])
    for t in range(10):
        linker.update(still, t, t)
    assert linker.update(Detections.empty(), 10, 10.0).n_live == 1
    assert len(linker.update(still, 13, 13.0).ended) == 1


def test_lost_frames_cast_no_doubt_on_a_particle():
    """Not seen because nobody looked is not the same as not seen."""
    still = detections_at([[50.0, 50.0]])
    existence = {}
    for name, indices in {"looked": (10, 11), "lost": (11,)}.items():
        linker = prepared()
        for t in range(10):
            linker.update(still, t, t)
        for t in indices[:-1]:
            linker.update(Detections.empty(), t, t)
        linker.update(Detections.empty(), indices[-1], float(indices[-1]))
        existence[name] = linker.update(still, indices[-1] + 1, indices[-1] + 1.0).existence[0]
    assert existence["looked"] < existence["lost"]


def test_false_detections_are_not_confirmed(simulate):
    movie = simulate("brownian", n=200)
    linker = prepared()
    confirmed = {True: 0, False: 0}
    for t, (detections, identity) in enumerate(movie):
        existence = linker.update(detections, t, t).existence
        for real in confirmed:
            confirmed[real] += (existence[(identity >= 0) == real] >= CONFIRMED).sum()
    n_real = sum((identity >= 0).sum() for _, identity in movie)
    n_false = sum((identity < 0).sum() for _, identity in movie)
    assert confirmed[True] > 0.85 * n_real
    assert confirmed[False] < 0.15 * n_false


def test_crowds_come_and_go():
    rng = np.random.default_rng(0)
    linker = prepared()
    crowds = {n: rng.uniform(0, 512, (n, 2)) for n in (10, 5000)}
    particles = []
    for t, n in enumerate([10, 10, 5000, 5000, 5000, 10, 10]):
        particles.append(linker.update(detections_at(crowds[n]), t, t).particle)
        assert len(np.unique(particles[-1])) == n
    for t in (1, 4, 6):
        np.testing.assert_array_equal(particles[t], particles[t - 1])


def test_memory_does_not_grow(simulate):
    movie = simulate("switching", n=20, frames=100)
    linker = prepared()
    memory = []
    tracemalloc.start()
    for t in range(700):
        linker.update(movie[t % 100][0], t, t)
        if t in (99, 699):
            memory.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert memory[1] - memory[0] < 20_000


def test_info_tells_what_was_learnt_and_ignored(simulate):
    linker = prepared()
    link(linker, simulate("directed", n=100, frames=30))
    linker.update(detections_at([[np.nan, 1.0], [1.0, np.inf], [1.0, 1.0]]), 30, 30.0)
    info = linker.info
    assert info["ignored_detections"] == 2
    assert info["learnt_motion"]["directed"] > 0.9
    assert info["learnt_speed_px"] == pytest.approx(3.0, abs=0.5)
    assert (info["max_misses"], info["blinking"]) == (15, "auto")


def test_has_to_be_prepared():
    with pytest.raises(LinkerError, match="prepare"):
        ImmLinker().update(Detections.empty(), 0, 0.0)


@pytest.mark.parametrize("shape", [(32, 32), (33, 1027), (4096, 4096)])
def test_images_of_any_size(shape):
    linker = ImmLinker()
    linker.prepare(shape)
    corners = detections_at([[0, 0], [0, shape[1] - 1], [shape[0] - 1, 0], [shape[0] - 1, shape[1] - 1]])
    first = linker.update(corners, 0, 0.0).particle
    np.testing.assert_array_equal(linker.update(corners, 1, 1.0).particle, first)


def with_lag(movie, lag):
    return accuracy(link(prepared(lag=lag), movie), movie)


def test_two_frames_of_patience_pay(simulate):
    movie = simulate("switching", n=800)
    assert with_lag(movie, 2) > with_lag(movie, 0) + 0.005


def check_update(update, known, gone, final):
    """The books of one update: ``known`` and ``gone`` are sets of ids, ``final`` the index that was final before."""
    assert set(update.particle.tolist()) <= known
    assert set(update.revised.particle.tolist()) <= known - gone
    assert set(update.ended.tolist()) <= known - gone
    assert set(update.confirmed.tolist()) <= known - gone
    assert (update.revised.frame_index > final).all()
    assert update.n_live == len(known) - len(gone | set(update.ended.tolist()))


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
def test_the_books_balance_also_with_revisions(simulate, lag):
    known, gone, confirmed, final = set(), set(), set(), -1
    linker, n_revised = prepared(lag=lag), 0
    for t, (detections, _) in enumerate(simulate("switching", n=400, frames=40)):
        update = linker.update(detections, t, float(t))
        assert not known & set(update.started.tolist())
        known |= set(update.started.tolist())
        check_update(update, known, gone, final)
        assert not confirmed & set(update.confirmed.tolist())
        confirmed |= set(update.confirmed.tolist())
        gone |= set(update.ended.tolist())
        final, n_revised = update.final_index, n_revised + len(update.revised)
        assert final == max(t - lag, -1)
    assert (n_revised > 0) == (lag > 0)
    assert linker.info["revised_detections"] == n_revised


def test_no_track_ever_has_two_detections_of_a_frame(simulate):
    for ids in link(prepared(), simulate("switching", n=800, frames=30)):
        assert len(np.unique(ids)) == len(ids)


def test_revisions_name_the_place_among_all_detections(simulate):
    """Detections without a place in the image change nothing but the counting."""
    movie = simulate("switching", n=300, frames=25)
    bad = detections_at([[np.nan, 1.0], [-50.0, 1.0]])
    names = ("y", "x", "score", "mass", "sigma")
    mixed = [
        (Detections(*(np.concatenate([getattr(d, name) for d in (bad, good)]) for name in names)), identity)
        for good, identity in movie
    ]
    linker = prepared()
    for ids, expected in zip(link(linker, mixed), link(prepared(), movie), strict=True):
        assert (ids[:2] == -1).all()
        np.testing.assert_array_equal(ids[2:], expected)
    assert linker.info["ignored_detections"] == 50


def test_a_budget_bounds_what_is_looked_at_again(simulate, monkeypatch):
    movie = simulate("brownian", n=800, frames=12)
    monkeypatch.setattr(imm, "MOST_REVISIONS", 5)
    linker = prepared()
    link(linker, movie)
    assert linker.info["decisions_beyond_budget"] > 100
    assert 0 < linker.info["revised_detections"] < 5 * 2 * 2 * 12


@pytest.mark.parametrize("at", [0, 1, 2, 17])
def test_a_saved_linker_goes_on_as_if_nothing_had_happened(simulate, tmp_path, at):
    movie = simulate("switching", n=300, frames=30)
    one, other = prepared(), prepared()
    link(one, movie[:at])
    np.savez(tmp_path / "linker.npz", **one.state())
    with np.load(tmp_path / "linker.npz") as state:
        other.restore(state)
    for t, (detections, _) in enumerate(movie[at:], at):
        updates = [linker.update(detections, t, float(t)) for linker in (one, other)]
        for name in ("particle", "existence", "started", "confirmed", "ended"):
            np.testing.assert_array_equal(*(getattr(update, name) for update in updates))
        np.testing.assert_array_equal(*(update.revised.particle for update in updates))
        np.testing.assert_array_equal(*(update.motion.diffusion_px2_s for update in updates))
    assert one.info == other.info


def test_a_state_is_not_shared(simulate):
    """What one linker does after its state was restored elsewhere does not reach the other."""
    movie = simulate("brownian", n=50, frames=10)
    one, other = prepared(), prepared()
    link(one, movie[:5])
    other.restore(one.state())
    link(one, movie[5:], first=5)
    alone = prepared()
    expected = link(alone, movie)[5:]
    for ids, wanted in zip(link(other, movie[5:], first=5), expected, strict=True):
        np.testing.assert_array_equal(ids, wanted)


@pytest.mark.parametrize("spoil", [lambda s: s.pop("born"), lambda s: s.update(lag=np.array(5)), lambda s: s.clear()])
def test_a_state_of_something_else_is_refused(simulate, spoil):
    linker = prepared()
    link(linker, simulate("brownian", n=20, frames=5))
    state = linker.state()
    spoil(state)
    other = prepared()
    with pytest.raises(LinkerError, match="not a state of the linker imm with lag 2"):
        other.restore(state)
    assert other.update(detections_at([[5.0, 5.0]]), 0, 0.0).n_live == 1


def test_a_late_frame_finds_particles_further_on():
    """At 5 px per interval, after three intervals but no lost frame, it is the one 15 px on."""
    linker = prepared()
    for t in range(10):
        before = linker.update(detections_at([[50.0, 50.0 + 5 * t]]), t, 0.1 * t).particle
    after = linker.update(detections_at([[50.0, 100.0], [50.0, 110.0]]), 10, 0.1 * 12)
    assert after.particle[1] == before[0]
    assert after.particle[0] != before[0]


def test_a_doubtful_detection_is_rather_left_alone():
    """Between a sure and a doubtful detection equally far from the prediction, the track takes the sure one."""
    linker = prepared()
    for t in range(10):
        before = linker.update(detections_at([[50.0, 50.0]]), t, float(t)).particle
    two = detections_at([[50.0, 48.5], [50.0, 51.5]])
    score = np.array([0.5, 0.95], np.float32)
    after = linker.update(Detections(two.y, two.x, score, two.mass, two.sigma), 10, 10.0)
    assert after.particle[1] == before[0]
    assert after.existence[0] < 0.1 < after.existence[1]


def test_a_precise_detection_counts_for_more():
    """The track's estimate of where a resting particle is follows precise detections and hardly the vague ones."""
    linker, positions = prepared(), np.tile([[50.0, 50.0]], (12, 1))
    for t, (y, x) in enumerate(positions):
        linker.update(detections_at([[y, x]]), t, float(t))
    moved = detections_at([[50.0, 51.0]])
    estimate = {}
    for sigma in (0.05, 3.0):
        other = prepared()
        other.restore(linker.state())
        vague = Detections(moved.y, moved.x, moved.score, moved.mass, np.full(1, sigma, np.float32))
        other.update(vague, 12, 12.0)
        track = other.state()["states"][0, 12 % 4]
        estimate[sigma] = track["probability"] @ track["mean"][:, 1, 0]
    assert estimate[0.05] > 50.7
    assert estimate[3.0] < 50.2


def motion_of(path, interval_s=0.1):
    linker = prepared()
    for t, yx in enumerate(path):
        update = linker.update(detections_at([yx]), t, interval_s * t)
    return update.motion


def test_motion_of_a_straight_particle():
    motion = motion_of([[100.0 + 2 * t, 200.0 - 3 * t] for t in range(30)])
    assert motion.age_frames[0] == 29
    assert motion.displacement_px[0] == pytest.approx(29 * np.hypot(2, 3), rel=1e-3)
    np.testing.assert_allclose(motion.velocity_px_s[0], [20.0, -30.0], rtol=0.02)
    assert motion.modes[0].argmax() == MOTION_MODES.index("directed")


def test_motion_of_a_diffusing_particle():
    """Steps of 2 px per axis each 0.1 s: D = 2² / 2 / 0.1 = 20 px²/s, to 7 % from 400 steps."""
    rng = np.random.default_rng(8)
    path = 256 + np.clip(np.cumsum(rng.normal(0, 2, (401, 2)), axis=0), -200, 200) + rng.normal(0, 0.3, (401, 2))
    motion = motion_of(path)
    assert motion.diffusion_px2_s[0] == pytest.approx(20.0, rel=0.2)
    assert motion.modes[0].argmax() == MOTION_MODES.index("brownian")


def test_the_motion_of_a_new_track_is_not_known():
    motion = motion_of([[5.0, 5.0]])
    assert np.isnan(motion.diffusion_px2_s[0])
    assert (motion.age_frames[0], motion.displacement_px[0]) == (0, 0)


def compiled_versions():
    """How many versions of each compiled function there are, one per combination of argument types."""
    modules = (
        assignment,
        common_motion,
        exchange,
        fast_starts,
        gating,
        imm_filter,
        measurement,
        places,
        readout,
        revision,
    )
    functions = [each for module in modules for each in vars(module).values() if hasattr(each, "signatures")]
    assert len(functions) > 20
    return {function.__qualname__: len(function.signatures) for function in functions}


def test_nothing_is_left_to_compile_after_prepare(simulate):
    """Read-only arrays are another type to numba, as are those that are not contiguous."""
    linker = prepared()
    before = compiled_versions()
    for t, (detections, _) in enumerate(simulate("switching", n=400, frames=20)):
        for name in ("y", "x", "score", "mass", "sigma"):
            getattr(detections, name).setflags(write=bool(t % 2))
        linker.update(detections, t, float(t))
    assert linker.info["revised_detections"] > 0
    assert compiled_versions() == before


def test_a_saved_linker_remembers_the_usual_interval(simulate):
    """After a pause, too, which would be taken for the usual interval by a new linker."""
    one, other = prepared(), prepared()
    still = detections_at([[50.0, 50.0]])
    for t in range(5):
        one.update(still, t, 0.1 * t)
    other.restore(one.state())
    for linker in (one, other):
        linker.update(still, 5, 9.0)
        assert linker.state()["pace"][0] == pytest.approx(0.1, rel=0.05)
