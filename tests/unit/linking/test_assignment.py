import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from streamtrack.linking.assignment import NONE, assign


def listed_pairs(gain):
    """Candidate pairs in compressed rows: all finite entries of a dense (rows, columns) table."""
    rows, columns = np.nonzero(np.isfinite(gain))
    start = np.searchsorted(rows, np.arange(len(gain) + 1))
    return start, columns, gain[rows, columns]


def greatest_total(gain):
    """The same problem with a private dummy per row, solved densely."""
    n_rows = len(gain)
    dummies = np.where(np.eye(n_rows, dtype=bool), 0.0, -1e9)
    table = np.hstack((np.where(np.isfinite(gain), gain, -1e9), dummies))
    return table[linear_sum_assignment(table, maximize=True)].sum()


def check(gain):
    column_of = assign(*listed_pairs(gain), gain.shape[1])
    taken = column_of[column_of != NONE]
    assert len(np.unique(taken)) == len(taken)
    chosen = gain[np.flatnonzero(column_of != NONE), taken]
    assert np.isfinite(chosen).all(), "took a pair that was not a candidate"
    assert chosen.sum() == pytest.approx(greatest_total(gain), abs=1e-6)


gains = st.one_of(st.just(-np.inf), st.floats(-20, 20), st.integers(-3, 3).map(float))
tables = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=gains)
)


@settings(deadline=None)  # the first call compiles
@given(tables)
def test_total_gain_is_the_greatest(gain):
    check(gain)


@pytest.mark.parametrize("share", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_total_gain_is_the_greatest_in_large_problems(share, seed):
    rng = np.random.default_rng(seed)
    gain = np.where(rng.random((200, 180)) < share, rng.normal(3, 5, (200, 180)), -np.inf)
    check(gain)


def test_a_late_row_moves_a_whole_chain():
    n = 50
    gain = np.full((n + 1, n + 1), -np.inf)
    gain[np.arange(n), np.arange(n)] = 2.0
    gain[np.arange(n), np.arange(1, n + 1)] = 1.99
    gain[n, 0] = 2.0
    column_of = assign(*listed_pairs(gain), n + 1)
    np.testing.assert_array_equal(column_of, [*range(1, n + 1), 0])


def test_losses_are_not_taken():
    column_of = assign(np.array([0, 1, 2]), np.array([0, 1]), np.array([-0.1, 0.1]), 2)
    np.testing.assert_array_equal(column_of, [NONE, 1])


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_assign(rows, columns):
    column_of = assign(np.zeros(rows + 1, np.int64), np.empty(0, np.int64), np.empty(0), columns)
    np.testing.assert_array_equal(column_of, np.full(rows, NONE))
