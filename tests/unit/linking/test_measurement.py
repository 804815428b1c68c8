import numpy as np
import pytest

from streamtrack.linking.measurement import LEAST_SCORE, MOST_SCORE, measure
from streamtrack.linking.records import CLUTTER, N_MEASURED, VAR, X, Y

HEIGHT, WIDTH = 50, 80


def take(*rows):
    """Return what is measured of detections y, x, score, sigma, their places, and how many are expected to be real."""
    measured, places = np.zeros((len(rows) + 2, N_MEASURED)), np.zeros(len(rows) + 2, np.int64)
    n, expected = measure(
        np.insert(np.array(rows, float).reshape(-1, 4), 4, 100.0, axis=1).T.copy(), HEIGHT, WIDTH, measured, places
    )
    return measured[:n], places[:n], expected


def test_a_detection_as_it_is():
    measured, places, expected = take((3.0, 70.0, 0.8, 0.5))
    np.testing.assert_allclose(measured[0, [Y, X, VAR, CLUTTER]], [3.0, 70.0, 0.25, 0.25])
    assert (list(places), expected) == ([0], 0.8)


@pytest.mark.parametrize("yx", [(-1.5, 0.0), (HEIGHT + 0.5, 3.0), (3.0, WIDTH + 0.5), (3.0, -1.5)])
def test_a_pixel_beyond_the_border_still_counts(yx):
    assert len(take((*yx, 1.0, 0.3))[0]) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(4))
def test_what_is_no_number_is_left_out(column, bad):
    rows = np.tile([5.0, 6.0, 0.9, 0.3], (3, 1))
    rows[1, column] = bad
    measured, places, expected = take(*rows)
    assert (len(measured), list(places)) == (2, [0, 2])
    assert expected == pytest.approx(1.8)


@pytest.mark.parametrize("yx", [(-1.6, 5.0), (5.0, WIDTH + 0.6), (HEIGHT + 0.6, 5.0), (5.0, -1e6)])
def test_what_lies_outside_the_image_is_left_out(yx):
    assert len(take((*yx, 1.0, 0.3))[0]) == 0


def test_nothing_is_certain_and_nothing_is_exact():
    measured, _, expected = take((5.0, 5.0, 1.0, 0.0), (5.0, 5.0, 0.0, 100.0))
    assert expected == pytest.approx(LEAST_SCORE + MOST_SCORE)
    assert (measured[:, CLUTTER] > 0).all()
    assert np.isfinite(measured).all()
    assert measured[0, VAR] > 0
    assert measured[1, VAR] <= 9.0
