import numpy as np

from streamtrack.linking.imm import ImmLinker
from streamtrack.triggers.view import TrackViews
from streamtrack.types import CONFIRMED, Detections, TrackMotion, TrackUpdate


def ids(*values):
    return np.array(values, np.int64)


def detections(n):
    column = np.arange(n, dtype=np.float32)
    return Detections(column, column + 100, column, column, column)


def update(particle, existence, *, started=(), confirmed=(), ended=(), motion=None):
    column = np.array(existence, np.float32)
    return TrackUpdate(
        ids(*particle), column, ids(*started), ids(*confirmed), ids(*ended), len(particle), 0, motion=motion
    )


def test_only_detections_with_a_confirmed_track_are_shown():
    seen = TrackViews(confirmed=True).of(detections(4), update([7, -1, 5, 9], [0.95, 0, 0.94, 1.0]))
    assert seen.particle.tolist() == [7, 9]
    assert seen.y.tolist() == [0, 3]
    assert seen.x.tolist() == [100, 103]
    np.testing.assert_array_equal(seen.existence, np.float32([0.95, 1.0]))
    assert seen.motion is None


def test_all_tracks_are_shown_where_that_is_wanted():
    given = update([7, -1, 5], [0.95, 0, 0.01], started=[5], ended=[3])
    seen = TrackViews(confirmed=False).of(detections(3), given)
    assert seen.particle.tolist() == [7, 5]
    assert (seen.appeared.tolist(), seen.ended.tolist()) == ([5], [3])


def test_motion_belongs_to_the_tracks_that_are_shown():
    column = np.arange(3, dtype=np.float32)
    motion = TrackMotion(ids(10, 11, 12), column, np.stack((column, -column), 1), np.stack([column] * 3, 1), column)
    seen = TrackViews(confirmed=True).of(detections(3), update([7, 8, 9], [1, 0.5, 1], motion=motion))
    assert seen.motion.age_frames.tolist() == [10, 12]
    assert seen.motion.displacement_px.tolist() == [0, 2]
    assert seen.motion.velocity_px_s.tolist() == [[0, 0], [2, -2]]
    assert seen.motion.modes.tolist() == [[0, 0, 0], [2, 2, 2]]
    assert seen.motion.diffusion_px2_s.tolist() == [0, 2]


def test_confirmed_tracks_appear_when_they_are_confirmed_and_end_if_they_ever_were():
    views = TrackViews(confirmed=True)
    seen = [
        views.of(detections(2), update([1, 2], [0.5, 0.5], started=[1, 2])),
        views.of(detections(2), update([1, 2], [0.97, 0.6], confirmed=[1])),
        views.of(detections(1), update([1], [0.7])),  # not sure any more
        views.of(detections(0), update([], [], ended=[1, 2])),
        views.of(detections(0), update([], [], ended=[1])),
    ]
    assert [each.appeared.tolist() for each in seen] == [[], [1], [], [], []]
    assert [len(each) for each in seen] == [0, 1, 0, 0, 0]
    assert [each.ended.tolist() for each in seen] == [[], [], [], [1], []]


def test_a_track_confirmed_and_ended_at_once_is_not_remembered():
    views = TrackViews(confirmed=True)
    assert views.of(detections(0), update([], [], confirmed=[4], ended=[4])).ended.tolist() == [4]
    assert views.of(detections(0), update([], [], ended=[4])).ended.tolist() == []


def test_with_the_linker_of_streamtrack_the_books_balance(simulate_tracks):
    """Also while it revises what it said: every id appears once, before it is shown, and ends once."""
    linker, views = ImmLinker(), {confirmed: TrackViews(confirmed=confirmed) for confirmed in (True, False)}
    known = {True: set(), False: set()}
    n_revised = 0
    linker.prepare((512, 512))
    for index, found in enumerate(simulate_tracks(n=200, frames=60)):
        linked = linker.update(found, index, float(index))
        n_revised += len(linked.revised)
        for confirmed, view in views.items():
            seen = view.of(found, linked)
            assert known[confirmed].isdisjoint(seen.appeared.tolist())
            known[confirmed].update(seen.appeared.tolist())
            assert known[confirmed].issuperset([*seen.particle.tolist(), *seen.ended.tolist()])
            assert len(seen.motion.modes) == len(seen)
            assert not confirmed or (seen.existence >= np.float32(CONFIRMED)).all()
            known[confirmed].difference_update(seen.ended.tolist())
    assert n_revised > 5
    assert 100 < len(known[True]) <= len(known[False]) == linked.n_live
    assert views[True]._seen == known[True]


def test_memory_is_that_of_the_living():
    views = TrackViews(confirmed=True)
    for first in range(0, 100_000, 10):
        new = range(first, first + 10)
        views.of(detections(10), update(new, [1.0] * 10, confirmed=new, ended=range(first - 10, first)))
    assert len(views._seen) == 10
