import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrack.linking.gating import EMPTY, candidates, empty_grid


def inside(box, y, x):
    low_y, high_y, low_x, high_x = box
    return np.flatnonzero((low_y <= y) & (y <= high_y) & (low_x <= x) & (x <= high_x))


def check(shape, boxes, y, x):
    cells = empty_grid(shape)
    start, detection = candidates(boxes, y, x, cells)
    assert len(start) == len(boxes) + 1
    for i, box in enumerate(boxes):
        np.testing.assert_array_equal(np.sort(detection[start[i] : start[i + 1]]), inside(box, y, x))
    assert (cells == EMPTY).all()


@settings(deadline=None)  # the first call compiles
@given(
    shape=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    n_boxes=st.integers(0, 20),
    n_detections=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_lists_what_lies_in_each_box(shape, n_boxes, n_detections, seed):
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(-0.5, 1.5, (2, n_detections)) * np.array(shape)[:, None]
    centre, reach = rng.uniform(-0.6, 1.6, (2, n_boxes)) * np.array(shape)[:, None], rng.uniform(0, 40, n_boxes)
    boxes = np.column_stack((centre[0] - reach, centre[0] + reach, centre[1] - reach, centre[1] + reach))
    check(shape, boxes, y, x)


def test_box_that_holds_nothing():
    check((32, 32), np.array([[np.inf, -np.inf, np.inf, -np.inf]]), np.array([0.0]), np.array([0.0]))


def test_every_box_may_hold_every_detection():
    y, x = np.random.default_rng(0).uniform(0, 64, (2, 300))
    check((64, 64), np.tile([-1e30, 1e30, -1e30, 1e30], (50, 1)), y, x)


def test_positions_that_no_integer_can_hold():
    y = x = np.array([1e300, -1e300, 5.0])
    check((64, 64), np.array([[1e299, 1e301, 1e299, 1e301], [0.0, 10.0, 0.0, 10.0]]), y, x)
