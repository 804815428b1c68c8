import numpy as np
import pytest
import trackpy

from streamtrack.errors import LinkerError
from streamtrack.linking.trackpy_linker import TrackpyLinker
from streamtrack.testing.linkers import detections_at
from streamtrack.types import Detections


def prepared(**settings):
    linker = TrackpyLinker(**settings)
    linker.prepare((512, 512))
    return linker


@pytest.mark.parametrize("memory", [0, 3])
def test_same_tracks_as_trackpy_offline(simulate, memory):
    movie = simulate("brownian", n=150, frames=30)
    linker = prepared(search_range=6.0, memory=memory)
    ours = [linker.update(detections, t, t).particle for t, (detections, _) in enumerate(movie)]
    coordinates = [np.column_stack((d.y, d.x)).astype(float) for d, _ in movie]
    theirs = [np.array(ids) for _, ids in trackpy.link_iter(coordinates, 6.0, memory=memory)]
    pairs = np.unique(np.column_stack((np.concatenate(ours), np.concatenate(theirs))), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) > 150


@pytest.mark.parametrize(("lost", "survives"), [(2, True), (3, False), (10_000, False)])
def test_lost_frames_count_against_memory(lost, survives):
    linker = prepared(memory=2)
    still = detections_at([[50.0, 50.0]])
    before = linker.update(still, 0, 0.0).particle
    after = linker.update(still, 1 + lost, 1.0 + lost)
    assert (after.particle[0] == before[0]) == survives
    assert len(after.ended) == (0 if survives else 1)


def test_tracks_end_when_trackpy_forgets_them(simulate):
    linker = prepared(memory=2)
    for t, (detections, _) in enumerate(simulate("brownian", n=50, frames=30)):
        n_live = linker.update(detections, t, t).n_live
        remembered = {id(point.track) for point in [*linker._linker.hash.points, *linker._linker.mem_set]}
        assert n_live == len(remembered)


def test_starts_once_and_is_confirmed_at_the_third_detection():
    linker = prepared()
    still = detections_at([[50.0, 50.0]])
    updates = [linker.update(still, 2 * t, 2 * t) for t in range(4)]
    np.testing.assert_allclose([update.existence[0] for update in updates], [1 / 3, 2 / 3, 1, 1])
    assert [update.started.tolist() for update in updates] == [[0], [], [], []]
    assert [update.confirmed.tolist() for update in updates] == [[], [], [0], []]
    assert [update.final_index for update in updates] == [0, 2, 4, 6]


def test_a_search_range_too_large_for_the_crowd_names_frame_and_cure():
    crowd = detections_at(np.random.default_rng(0).uniform(0, 60, (200, 2)))
    linker = prepared(search_range=20.0)
    linker.update(crowd, 4, 4.0)
    with pytest.raises(LinkerError, match=r"frame 5 .* 20\.0 px.* smaller search_range.* imm"):
        linker.update(crowd, 5, 5.0)


def test_says_nothing(capfd, simulate):
    linker = prepared()
    for t, (detections, _) in enumerate(simulate("brownian", n=50, frames=5)):
        linker.update(detections, t, t)
    assert capfd.readouterr() == ("", "")


def test_begins_in_the_dark():
    linker = prepared()
    assert linker.update(Detections.empty(), 0, 0.0).n_live == 0
    assert linker.update(detections_at([[5.0, 5.0]]), 1, 1.0).n_live == 1


def test_info():
    linker = prepared(search_range=4.5, memory=1)
    linker.update(detections_at([[np.nan, 5.0]]), 0, 0.0)
    assert linker.info == {
        "linker": "trackpy",
        "trackpy": trackpy.__version__,
        "search_range": 4.5,
        "memory": 1,
        "ignored_detections": 1,
    }
