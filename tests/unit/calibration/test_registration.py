import numpy as np
import pytest

from streamtrack.calibration.registration import shift_between

SIZE = 128
SPOTS = np.random.default_rng(3).uniform(-SIZE, 2 * SIZE, (1500, 2))


def view(dx, dy, rng, height=200.0):
    """Return an image (SIZE, SIZE) of spots that were shifted by so much, as a camera counts photons."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.full((SIZE, SIZE), 100.0)
    for spot_y, spot_x in SPOTS + np.array((dy, dx)):
        if -8 < spot_y < SIZE + 8 and -8 < spot_x < SIZE + 8:
            image += height * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 4.5)
    return rng.poisson(image).astype(np.uint16)


@pytest.mark.parametrize("shift", [(0, 0), (0.3, -0.7), (5.25, 10.5), (-16.4, 16.2), (0, 32), (40, -40)])
def test_a_shift_is_found_to_a_fraction_of_a_pixel(shift):
    rng = np.random.default_rng(1)
    found = shift_between(view(0, 0, rng), view(*shift, rng))
    assert found.is_clear
    np.testing.assert_allclose((found.x, found.y), shift, atol=0.15)


def test_single_hot_pixels_do_not_hold_the_image_fast():
    rng = np.random.default_rng(1)
    hot = rng.random((SIZE, SIZE)) < 0.005
    first, second = (np.where(hot, 60_000, view(dx, 0, rng)) for dx in (0, 12.5))
    found = shift_between(first, second)
    assert (found.x, found.y) == pytest.approx((12.5, 0), abs=0.2)


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_noise_is_no_shift(size):
    rng = np.random.default_rng(5)
    assert not shift_between(rng.poisson(100, (size, size)), rng.poisson(100, (size, size))).is_clear


def test_nothing_to_see_is_no_shift():
    assert not shift_between(np.ones((64, 64)), np.ones((64, 64))).is_clear


def test_another_place_is_no_shift():
    rng = np.random.default_rng(1)
    assert not shift_between(view(0, 0, rng), view(SIZE + 5, 0, rng)).is_clear
