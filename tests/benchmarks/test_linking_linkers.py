import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from benchmarks.linking import trials
from benchmarks.linking.linkers import NEEDS, OFFLINE, ONLINE, Ranges, _assign, missing
from benchmarks.linking.trials import live_ids, settled_ids, warm_up
from benchmarks.shared.particles import ParticleSettings, simulate
from streamtrack.testing.linkers import detections_at

N, FRAMES = 25, 12
METHODS = (*ONLINE, *OFFLINE)


@pytest.fixture(scope="module")
def apart():
    """Return detections, and whose they are, of slow particles that are 80 px apart; each is missed once."""
    rng = np.random.default_rng(8)
    start = np.stack(np.meshgrid(*2 * [np.arange(60, 460, 80)]), axis=-1).reshape(-1, 2)
    paths = start + np.cumsum(rng.normal(0, 1, (FRAMES, N, 2)), axis=0)
    frames, owners = [], []
    for k, positions in enumerate(paths):
        seen = rng.permutation(np.flatnonzero(np.arange(N) % 5 + 4 != k))
        frames.append(detections_at(positions[seen]))
        owners.append(seen)
    return frames, owners


def skip_if_missing(method):
    if reason := missing(method):
        pytest.skip(reason)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_follows_particles_that_are_apart(apart, method):
    skip_if_missing(method)
    frames, owners = apart
    if method in OFFLINE:
        ids = OFFLINE[method](frames, Ranges(8.0, 1))
    else:
        ids = settled_ids(list(ONLINE[method](frames, Ranges(8.0, 1))))
    pairs = set(zip(np.concatenate(ids).tolist(), np.concatenate(owners).tolist(), strict=True))
    assert len(pairs) == N
    assert -1 not in dict(pairs)


@pytest.mark.parametrize("method", ["trackpy", "lapmod", "laptrack"])
def test_without_memory_a_missed_particle_is_a_new_one(apart, method):
    skip_if_missing(method)
    link = ONLINE.get(method) or OFFLINE[method]
    ids = np.concatenate(live_ids(list(link(apart[0], Ranges(8.0, 0)))))
    assert len(np.unique(ids)) == 2 * N


def test_lapmod_links_as_trackpy_does():
    skip_if_missing("lapmod")
    frames = simulate(ParticleSettings("brownian", 300, 10, seed=5)).detections
    by = [np.concatenate(live_ids(list(ONLINE[name](frames, Ranges(7.0, 1))))) for name in ("lapmod", "trackpy")]
    pairs = np.unique(np.column_stack(by), axis=0)
    # A tie of costs, or the memory of a track that comes back, may be settled otherwise.
    assert len(pairs) < 1.01 * len(np.unique(by[0]))
    assert len(np.unique(by[0])) == pytest.approx(len(np.unique(by[1])), rel=0.01)


def test_the_sparse_assignment_is_the_cheapest():
    skip_if_missing("lapmod")
    rng = np.random.default_rng(6)
    for _ in range(30):
        tracks, detections = rng.uniform(0, 30, (rng.integers(1, 12), 2)), rng.uniform(0, 30, (rng.integers(1, 12), 2))
        squares = cdist(tracks, detections) ** 2
        track_of = _assign(tracks, detections, 9.0)
        linked = track_of >= 0
        assert len(np.unique(track_of[linked])) == linked.sum()
        cost = squares[track_of[linked], linked].sum() + 81.0 * (len(tracks) - linked.sum())
        alone = np.full((len(tracks), len(tracks)), 81.0)
        dense = np.concatenate((np.where(squares < 81, squares, 1e6), alone), axis=1)
        assert cost == pytest.approx(dense[linear_sum_assignment(dense)].sum())


def test_nothing_to_link_is_no_error():
    skip_if_missing("lapmod")
    frames = [detections_at(np.empty((0, 2))), detections_at([[5, 5]]), detections_at(np.empty((0, 2)))]
    assert [len(ids) for ids in ONLINE["lapmod"](frames, Ranges(5.0, 1))] == [0, 1, 0]


def test_a_method_whose_package_is_absent_is_named(monkeypatch):
    monkeypatch.setitem(NEEDS, "lapmod", "no_such_package")
    assert missing("lapmod") == "lapmod is skipped: no_such_package is not installed (pip install no_such_package)"
    assert missing("imm_lag2") is None


def test_a_method_whose_package_is_absent_is_not_warmed_up(monkeypatch):
    monkeypatch.setattr(trials, "ONLINE", {"lapmod": lambda *_: 1 / 0, "imm_lag0": ONLINE["imm_lag0"]})
    monkeypatch.setitem(NEEDS, "lapmod", "no_such_package")
    warm_up()
