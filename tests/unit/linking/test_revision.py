import numpy as np
import pytest

from streamtrack.linking.records import NONE, STATE
from streamtrack.linking.revision import CLOSE, ambiguous_pairs, due, owners, relabel


def calls(candidates, detection_of, owner):
    """``candidates``: for each row, {detection: gain}. Row n has slot 10 n and id 100 n; others are new tracks."""
    start = np.cumsum([0] + [len(row) for row in candidates])
    detection = np.array([d for row in candidates for d in row], np.int64)
    gain = np.array([g for row in candidates for g in row.values()], float)
    slots, particle = 10 * np.arange(len(candidates)), 10 * np.arange(100)
    return ambiguous_pairs(slots, start, detection, gain, np.array(detection_of), np.array(owner), particle)


def test_owners():
    np.testing.assert_array_equal(owners(np.array([7, 3, 5]), np.array([2, NONE, 0]), 4), [5, NONE, 7, NONE])


def test_two_that_could_be_exchanged_are_listed_once_with_the_cost():
    pairs, costs = calls([{0: 5.0, 1: 4.0}, {0: 4.5, 1: 6.0}], [0, 1], [0, 10])
    np.testing.assert_array_equal(pairs, [[0, 10, 0, 100]])
    np.testing.assert_allclose(costs, [5.0 + 6.0 - 4.0 - 4.5])


def test_one_sided_wishes_count_too():
    """Row 0 got nothing, though it could have had the detection of row 1; row 1 would then have nothing."""
    pairs, costs = calls([{0: 4.0}, {0: 5.0}], [NONE, 0], [10])
    np.testing.assert_array_equal(pairs[:, :2], [[0, 10]])
    np.testing.assert_allclose(costs, [1.0])


def test_a_new_track_is_a_rival():
    """Row 0 took detection 0; with detection 1, nearly as good, a track began in slot 42."""
    pairs, costs = calls([{0: 5.0, 1: 4.5}], [0], [0, 42])
    np.testing.assert_array_equal(pairs, [[0, 42, 0, 420]])
    np.testing.assert_allclose(costs, [0.5])


@pytest.mark.parametrize("gain", [5.0 - CLOSE - 0.1, -1.0])
def test_clear_cases_are_not_listed(gain):
    assert len(calls([{0: 5.0, 1: gain}], [0], [0, 42])[0]) == 0


def test_what_is_due_is_what_still_lives():
    particle = np.array([100, 101, 102, 103])
    early = np.array([[0, 1, 100, 101], [2, 3, 102, 999]])
    late = np.array([[1, 2, 101, 102], [2, 3, 102, 103]])
    pairs, costs = due(particle, early, np.array([0.5, 0.1]), 8, late, np.array([2.0, 0.2]), 7)
    np.testing.assert_array_equal(pairs, [[0, 1, 8], [1, 2, 7], [2, 3, 7]])  # that with 999 has ended
    np.testing.assert_allclose(costs, [0.5, 2.0, 0.2])


def test_relabel_tells_what_changed_and_writes_it_down():
    states = np.zeros((2, 4), STATE)
    states["detection"] = [[0, 1, NONE, 1], [1, 0, 0, 0]]
    born, particle = np.array([0, 5]), np.array([70, 71])
    labels = np.full((4, 2), 71)
    labels[0] = 70, 70
    changed = relabel(states, np.arange(2), born, particle, 4, 6, labels)  # updates 4 to 6 have places 0 to 2
    np.testing.assert_array_equal(changed, [[5, 1, 0]])
    np.testing.assert_array_equal(labels[:2], [[70, 70], [71, 70]])
    assert len(relabel(states, np.arange(2), born, particle, 4, 6, labels)) == 0
