import numpy as np
import pytest

from streamtrack.linking.calibration import MotionCalibration
from streamtrack.linking.imm_filter import POSITION, VELOCITY
from streamtrack.linking.track_table import TrackTable

MOTION = MotionCalibration(2.0, 0.3).motion


@pytest.fixture
def table():
    return TrackTable()


def start(table, n, at=0.0):
    return table.start(np.arange(n) + at, np.arange(n) + at + 0.5, MOTION, 0.3)


def test_new_tracks_are_where_they_were_seen(table):
    np.testing.assert_array_equal(start(table, 3), [0, 1, 2])
    np.testing.assert_array_equal(table.live["mean"][:, 1, :, POSITION], [[0, 0.5], [1, 1.5], [2, 2.5]])
    assert (table.live["mean"][..., VELOCITY] == 0).all()
    assert (table.live["hits"] == 1).all()


def test_growth_keeps_what_was_there(table):
    start(table, 10, at=7.0)
    before = table.live.copy()
    start(table, 5000)
    np.testing.assert_array_equal(table.live[:10], before)
    np.testing.assert_array_equal(table.live["particle"], np.arange(5010))


@pytest.mark.parametrize("ending", [[], [0], [4], [0, 1, 2, 3, 4], [1, 3], [3, 4]])
def test_the_others_stay_as_they_are(table, ending):
    start(table, 5)
    before = table.live.copy()
    marked = np.isin(np.arange(5), ending)
    assert sorted(table.end(marked)) == ending
    after = table.live[np.argsort(table.live["particle"])]
    np.testing.assert_array_equal(after, before[~marked])


def test_ids_are_not_used_again(table):
    start(table, 4)
    table.end(np.ones(4, bool))
    np.testing.assert_array_equal(start(table, 2), [4, 5])


def test_a_place_used_again_carries_nothing_over(table):
    start(table, 1)
    fresh = table.live.copy()
    for name in table.live.dtype.names[1:]:
        table.live[name] = 77
    table.end(np.ones(1, bool))
    start(table, 1)
    for name in table.live.dtype.names[1:]:
        np.testing.assert_array_equal(table.live[name], fresh[name])
