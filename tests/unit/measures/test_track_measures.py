import numpy as np
import pytest

from streamtrack.errors import MeasureError
from streamtrack.measures.tracks import TrackMeasures
from streamtrack.types import Column, Detections, TrackUpdate

NAN = np.nan
NONE = np.empty(0, np.int64)
PIXELS = np.zeros((32, 32), np.uint8)


class Mass:
    """Measures again what the engine said, and remembers of whom."""

    columns = (Column("again", "counts"),)
    info = {}  # noqa: RUF012

    def __init__(self, most_per_frame=None, averages=False, shape=None):
        self.most_per_frame, self.averages, self._shape = most_per_frame, averages, shape

    def prepare(self, shape, dtype):
        pass

    def measure(self, pixels, found, rows):
        return found.mass[rows, None] if self._shape is None else np.zeros(self._shape, np.float32)

    def values(self, seen):
        return seen


class Frames:
    """Hands frames of tracks with masses to one measure."""

    def __init__(self, **settings):
        self.measures = TrackMeasures({"mass": Mass(**settings)})

    def __call__(self, particle, mass, ended=NONE):
        ones = np.ones(len(particle), np.float32)
        detections = Detections(ones, ones, ones, np.array(mass, np.float32), ones, {"fret": ones}, {"focus": 0.5})
        particle = np.array(particle, np.int64)
        update = TrackUpdate(particle, ones, NONE, NONE, np.array(ended, np.int64), len(particle), 0)
        added = self.measures.add(PIXELS, detections, update)
        assert set(added.extra) == {"fret", "again"}
        assert added.frame_values == {"focus": 0.5}
        return added.extra["again"].tolist()


def test_each_frame_has_its_own_values_in_the_detections_order():
    frames = Frames()
    assert frames([3, -1, 5], [10, 20, 30]) == [10, 20, 30]
    assert frames([5, 3], [1, 2]) == [1, 2]
    assert frames([], []) == []


def test_new_tracks_come_first_then_those_that_have_waited_longest_and_single_detections_last():
    frames = Frames(most_per_frame=2)
    np.testing.assert_array_equal(frames([-1, 1, 2, 3], [0, 1, 2, 3]), [NAN, 1, 2, NAN])
    np.testing.assert_array_equal(frames([1, 2, 3, 4], [1, 2, 3, 4]), [NAN, NAN, 3, 4])
    np.testing.assert_array_equal(frames([4, 3, 2, 1], [4, 3, 2, 1]), [NAN, NAN, 2, 1])
    np.testing.assert_array_equal(frames([1, 2, 3, 4], [1, 2, 3, 4]), [NAN, NAN, 3, 4])
    assert frames([1, -1], [1, 9]) == [1, 9], "there is time for all"


def test_the_mean_is_over_the_frames_of_a_track_in_which_it_was_measured():
    frames = Frames(averages=True)
    assert frames([1, 2, -1], [10, 100, 7]) == [10, 100, 7]
    assert frames([2, 1, -1], [200, 20, 9]) == [150, 15, 9]
    assert frames([1, 2], [NAN, 300]) == [15, 200]
    np.testing.assert_array_equal(frames([8], [NAN]), [NAN])
    assert frames([1], [60], ended=[2]) == [30]
    assert frames([2], [5]) == [5], "a track that ended is forgotten"


def test_a_track_keeps_its_mean_in_frames_in_which_it_is_not_its_turn():
    frames = Frames(most_per_frame=1, averages=True)
    np.testing.assert_array_equal(frames([1, 2], [10, 20]), [10, NAN])
    np.testing.assert_array_equal(frames([1, 2], [30, 40]), [10, 40])
    np.testing.assert_array_equal(frames([1, 2], [30, 50]), [20, 40])


def test_memory_is_that_of_the_living():
    frames = Frames(most_per_frame=3, averages=True)
    for index in range(300):
        particles = np.arange(index, index + 6)
        frames(particles, particles, ended=[index - 1] if index else NONE)
    (one,) = frames.measures._measures
    assert len(one._means._memory) <= 7
    assert len(one._measured) <= 7


@pytest.mark.parametrize("shape", [(3, 2), (2, 1), (3,)])
def test_a_measure_that_gives_something_else_than_its_columns_is_named(shape):
    with pytest.raises((MeasureError, IndexError, ValueError), match=r"measure 'mass'|"):
        Frames(shape=shape)([1, 2, 3], [1, 2, 3])
