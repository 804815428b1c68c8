import tracemalloc

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from streamtrack.errors import ConfigError, LinkerError
from streamtrack.linking import calibration
from streamtrack.linking.imm import ImmLinker
from streamtrack.testing.linkers import detections_at
from streamtrack.types import CONFIRMED, Detections

SHAPE = (512, 512)


def prepared(**settings):
    linker = ImmLinker(**settings)
    linker.prepare(SHAPE)
    return linker


def link(linker, movie):
    return [linker.update(detections, index, float(index)).particle for index, (detections, _) in enumerate(movie)]


def links(ids_by_frame, longest_gap=4):
    """Pairs of detections that follow each other in a track, each as ((frame, place), (frame, place))."""
    last, found = {}, set()
    for frame, ids in enumerate(ids_by_frame):
        for place, identity in enumerate(ids.tolist()):
            if identity >= 0:
                if identity in last and frame - last[identity][0] <= longest_gap:
                    found.add((last[identity], (frame, place)))
                last[identity] = (frame, place)
    return found


def accuracy(found, movie):
    """Share of the links that are in both truth and result (Jaccard): 1 is perfect."""
    true, found = links([identity for _, identity in movie]), links(found)
    return len(true & found) / len(true | found)


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
    ended = [len(linker.update(Detections.empty(), t, t).ended) for t in range(1, 10)]
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
        existence[name] = linker._tracks.live["existence"][0]
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
    assert memory[1] - memory[0] < 10_000


def test_info_tells_what_was_learnt_and_ignored(simulate):
    linker = prepared()
    link(linker, simulate("directed", n=100, frames=30))
    linker.update(detections_at([[np.nan, 1.0], [1.0, np.inf], [1.0, 1.0]]), 30, 30.0)
    info = linker.info
    assert info["ignored_detections"] == 2
    assert info["learnt_motion"]["directed"] > 0.9
    assert info["learnt_speed_px"] == pytest.approx(3.0, abs=0.5)
    assert info["max_misses"] == 3


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


@pytest.mark.parametrize(
    "settings",
    [
        {"detection_probability": 1.0},
        {"detection_probability": 0.0},
        {"localisation_px": 0.0},
        {"localisation_px": float("nan")},
        {"step_px": -1.0},
        {"step_px": float("inf")},
        {"max_misses": -1},
    ],
)
def test_settings_out_of_range(settings):
    (name, value), *_ = settings.items()
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        ImmLinker(**settings)
