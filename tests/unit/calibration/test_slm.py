"""From spots on a modulator to spots in an image."""

import numpy as np
import pytest

from streamtrack.calibration.slm import LEAST_SPOTS, find_spot, fit, measure_slm
from streamtrack.errors import MicroscopeError

RNG = np.random.default_rng(0)
MATRIX = np.array([[1.9, 0.3, 10.0], [0.25, -2.0, 110.0]])
"""From the modulator, (x, y, 1), to the image."""


def image(*spots, shape=(120, 150), height=300.0, sigma=2.5, level=100.0, rng=RNG):
    y, x = np.indices(shape)
    light = sum(height * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2)) for at_x, at_y in spots)
    return rng.poisson(level + light * np.ones(shape)).astype(float)


@pytest.mark.parametrize("place", [(40.0, 30.0), (71.3, 80.8), (12.5, 100.25)])
def test_a_spot_is_found_where_it_is(place):
    found = find_spot(image(), image(place))
    assert found == pytest.approx(place, abs=0.15)


def test_what_was_bright_before_is_no_spot():
    before = image((60, 60), height=3000)
    assert find_spot(before, image((60, 60), (100, 40), height=3000)) == pytest.approx((100, 40), abs=0.3)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_spot(seed):
    rng = np.random.default_rng(seed)
    assert find_spot(image(rng=rng), image(rng=rng)) is None


@pytest.mark.parametrize(
    "lit",
    [
        image((1.0, 50.0)),  # at the border
        image((75.0, 60.0), sigma=45.0),  # everywhere
        image(level=300.0),  # a lamp
        image(height=0.0),
    ],
)
def test_what_is_not_wholly_in_view_or_everywhere_is_no_spot(lit):
    assert find_spot(image(), lit) is None


def test_two_equal_images_have_no_spot():
    still = np.full((50, 60), 7.0)
    assert find_spot(still, still) is None


def grid(n=5):
    x, y = np.meshgrid(np.linspace(6, 57, n), np.linspace(5, 43, n))
    return np.column_stack((x.ravel(), y.ravel()))


def in_image(points, noise=0.05, rng=RNG):
    return np.hstack((points, np.ones((len(points), 1)))) @ MATRIX.T + rng.normal(0, noise, points.shape)


def test_the_transform_and_what_it_leaves():
    points = grid()
    found = fit(points, in_image(points))
    back = np.linalg.inv(np.vstack((MATRIX, (0, 0, 1))))[:2]
    np.testing.assert_allclose(found.camera_to_slm, back, atol=0.1)
    np.testing.assert_allclose(found.camera_to_slm[:, :2], back[:, :2], atol=0.002)
    assert 0.03 < found.residual_px < 0.09
    assert found.worst_px < 0.3
    assert found.residual_slm_px == pytest.approx(found.residual_px / 2, rel=0.2)
    assert (found.seen, found.shown, found.is_mirrored) == (25, 25, True)


@pytest.mark.parametrize("outlier_px", [10.0, 40.0])
def test_a_spot_that_lies_elsewhere_is_a_reason_to_refuse(outlier_px):
    points = grid()
    places = in_image(points)
    places[7] += outlier_px
    with pytest.raises(MicroscopeError, match=r"the spots do not lie as on the SLM, .* px are left"):
        fit(points, places)


def test_too_few_spots_and_spots_on_a_line_are_refused():
    points = grid()
    for n in range(LEAST_SPOTS):
        with pytest.raises(MicroscopeError, match=f"{n} of 25 spots of the SLM are seen, {LEAST_SPOTS} are needed"):
            fit(points[:n], in_image(points[:n]))
    row = np.column_stack((np.linspace(5, 50, 10), np.full(10, 20.0)))
    with pytest.raises(MicroscopeError, match="on one line only"):
        fit(row, in_image(row))
    flat = in_image(points)
    flat[:, 1] = 60 + 0.001 * flat[:, 0]
    with pytest.raises(MicroscopeError, match=r"on one line only|do not lie"):
        fit(points, flat)


def test_it_is_dark_after_each_spot_whatever_happens_and_spots_keep_the_limits():
    shown = []

    def look():
        if len(shown) == 7:
            raise KeyboardInterrupt
        return image()

    with pytest.raises(KeyboardInterrupt):
        measure_slm((480, 640), 30.0, 99, shown.append, look)
    assert shown[-1] is None
    lit = [each for each in shown if each is not None]
    assert len(lit) == 4
    for each in lit:
        assert 0 < np.count_nonzero(each) <= 30
        assert each.max() == 99
