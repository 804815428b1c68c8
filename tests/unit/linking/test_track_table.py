import numpy as np
import pytest

from streamtrack.linking.track_table import TrackTable


@pytest.fixture
def table():
    table = TrackTable(depth=3)
    table.next_frame(0)
    return table


def test_tracks_get_ids_in_order(table):
    slots = table.add(3)
    np.testing.assert_array_equal(table.particle[slots], [0, 1, 2])
    np.testing.assert_array_equal(table.live, slots)
    assert (table.born[slots] == table.update).all()


def test_growth_keeps_what_was_there(table):
    slots = table.add(10)
    table.states["existence"][slots] = np.arange(30).reshape(10, 3)
    before = table.states[slots].copy()
    more = table.add(5000)
    np.testing.assert_array_equal(table.states[slots], before)
    np.testing.assert_array_equal(table.particle[np.concatenate((slots, more))], np.arange(5010))
    assert len(np.unique(table.live)) == 5010


@pytest.mark.parametrize("ending", [[], [0], [4], [0, 1, 2, 3, 4], [1, 3], [3, 4]])
def test_the_others_stay_as_they_are(table, ending):
    slots = table.add(5)
    np.testing.assert_array_equal(table.end(slots[ending]), ending)
    np.testing.assert_array_equal(table.particle[table.live], np.setdiff1d(np.arange(5), ending))


def test_ids_are_not_used_again_but_slots_are(table):
    slots = table.add(4)
    table.confirmed[slots] = True
    table.end(slots)
    table.next_frame(0)
    again = table.add(2)
    np.testing.assert_array_equal(table.particle[again], [4, 5])
    assert set(again) <= set(slots)
    assert not table.confirmed[again].any()
    assert (table.born[again] == 1).all()


def test_a_crowded_frame_makes_room_and_keeps_the_frames_before(table):
    table.measured[table.now, 0] = 7.0
    table.labels[table.now, 0] = 5
    table.next_frame(10_000)
    assert table.labels.shape == table.places.shape == table.measured.shape[:2]
    assert table.labels.shape[1] >= 10_000
    assert (table.measured[0, 0] == 7.0).all()
    assert table.labels[0, 0] == 5
    assert (table.labels[table.now] == -1).all()


def test_places_in_the_ring_repeat(table):
    places = [table.now]
    for _ in range(5):
        table.next_frame(0)
        places.append(table.now)
    assert places == [0, 1, 2, 0, 1, 2]
