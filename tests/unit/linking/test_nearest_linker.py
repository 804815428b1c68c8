import numpy as np
import pytest
import scipy

from streamtrack.config import PluginConfig
from streamtrack.errors import LinkerError
from streamtrack.linking.nearest import NearestLinker
from streamtrack.linking.trackpy_linker import TrackpyLinker
from streamtrack.registry import build
from streamtrack.testing.linkers import detections_at
from streamtrack.types import Detections


def prepared(**settings):
    linker = NearestLinker(**settings)
    linker.prepare((512, 512))
    return linker


@pytest.mark.parametrize(("memory", "lost"), [(0, ()), (3, ()), (3, (7, 8, 15, 16, 17, 18))])
def test_same_tracks_as_trackpy(simulate, memory, lost):
    settings = {"search_range": 6.0, "memory": memory}
    ours, theirs = prepared(**settings), TrackpyLinker(**settings)
    theirs.prepare((512, 512))
    ids, n_checked = {}, 0
    for t, (detections, _) in enumerate(simulate("brownian", n=150, frames=30)):
        if t in lost:
            continue
        one, other = (linker.update(detections, t, t) for linker in (ours, theirs))
        for a, b in zip(one.particle.tolist(), other.particle.tolist(), strict=True):
            assert ids.setdefault(a, b) == b
        np.testing.assert_array_equal(one.existence, other.existence)
        for field in ("started", "confirmed", "ended"):
            assert sorted(ids[a] for a in getattr(one, field)) == sorted(getattr(other, field))
        assert (one.n_live, one.final_index) == (other.n_live, t)
        n_checked += len(one.particle)
    assert len(set(ids.values())) == len(ids) > 150
    assert n_checked > 3000


def test_the_sum_of_squares_counts_not_the_single_link():
    linker = prepared(search_range=5.0)
    before = linker.update(detections_at([[0.0, 0.0], [0.0, 3.0]]), 0, 0.0).particle
    after = linker.update(detections_at([[0.0, 2.0], [0.0, 6.0]]), 1, 1.0).particle
    np.testing.assert_array_equal(after, before)  # 4 + 9; the nearest pair first would make 1 and a lost track, 25


def test_what_moved_farther_than_the_search_range_is_new():
    linker = prepared(search_range=5.0)
    before = linker.update(detections_at([[50.0, 50.0]]), 0, 0.0)
    near = linker.update(detections_at([[50.0, 54.9]]), 1, 1.0)
    far = linker.update(detections_at([[50.0, 60.0]]), 2, 2.0)
    assert before.particle == near.particle != far.particle
    assert (far.started, far.n_live) == (far.particle, 2)


def test_a_crowd_that_trackpy_gives_up_on():
    crowd = np.random.default_rng(0).uniform(0, 60, (2000, 2))
    linker = prepared(search_range=20.0)
    before = linker.update(detections_at(crowd), 0, 0.0).particle
    np.testing.assert_array_equal(linker.update(detections_at(crowd), 1, 1.0).particle, before)


@pytest.mark.parametrize(("lost", "survives"), [(2, True), (3, False), (10_000, False)])
def test_lost_frames_count_against_memory(lost, survives):
    linker = prepared(memory=2)
    still = detections_at([[50.0, 50.0]])
    before = linker.update(still, 0, 0.0).particle
    after = linker.update(still, 1 + lost, 1.0 + lost)
    assert (after.particle[0] == before[0]) == survives
    assert after.ended.tolist() == ([] if survives else before.tolist())


def test_a_track_ends_in_the_frame_in_which_it_is_missed_once_too_often():
    linker = prepared(memory=1)
    particle = linker.update(detections_at([[50.0, 50.0]]), 0, 0.0).particle
    dark = [linker.update(Detections.empty(), t, t) for t in (1, 2)]
    assert [update.ended.tolist() for update in dark] == [[], particle.tolist()]
    assert [update.n_live for update in dark] == [1, 0]


def test_starts_once_and_is_confirmed_once():
    linker = prepared()
    still = detections_at([[50.0, 50.0]])
    updates = [linker.update(still, t, t) for t in range(5)]
    np.testing.assert_allclose([update.existence[0] for update in updates], [1 / 3, 2 / 3, 1, 1, 1])
    assert [len(update.started) for update in updates] == [1, 0, 0, 0, 0]
    assert [len(update.confirmed) for update in updates] == [0, 0, 1, 0, 0]


def test_a_run_finds_it_by_name():
    plugin = build("linkers", PluginConfig.model_validate({"kind": "nearest", "memory": 1}))
    assert plugin.instance.info == {
        "linker": "nearest",
        "scipy": scipy.__version__,
        "search_range": 7.0,
        "memory": 1,
        "ignored_detections": 0,
    }


def test_without_the_size_of_the_frames_it_does_not_begin():
    with pytest.raises(LinkerError, match=r"call prepare\(shape\)"):
        NearestLinker().update(detections_at([[5.0, 5.0]]), 0, 0.0)
