import numpy as np
import pytest

from streamtrack.view.pictures import MOST_PX, Contrast


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_black_and_white_are_those_of_the_image(dtype):
    image = np.linspace(10, 200, 64 * 48).reshape(48, 64).astype(dtype)
    shown, n, (low, high) = Contrast()(image)
    assert n == 1
    assert shown.dtype == np.uint8
    assert shown.shape == (48, 64)
    assert 10 <= low < 14
    assert 196 < high <= 200
    assert (shown[0, 0], shown[-1, -1]) == (0, 255)
    assert abs(int(shown[24, 0]) - 127) < 6


def test_what_is_chosen_holds():
    contrast = Contrast()
    contrast.chosen = (0.0, 1000.0)
    shown, _, span = contrast(np.full((8, 8), 500, np.uint16))
    assert span == (0.0, 1000.0)
    assert shown[0, 0] == 127


def test_a_little_more_light_is_followed_slowly_and_another_scene_at_once():
    rng = np.random.default_rng(0)
    contrast = Contrast()
    before = contrast(rng.normal(100, 10, (64, 64)).astype(np.float32))[2]
    brighter = contrast(rng.normal(110, 10, (64, 64)).astype(np.float32))[2]
    assert before[0] < brighter[0] < before[0] + 5
    lit = contrast(rng.normal(5000, 10, (64, 64)).astype(np.float32))[2]
    assert lit[0] > 4900


def test_a_large_image_is_made_smaller_and_what_is_no_number_is_black():
    image = np.full((2 * MOST_PX + 2, 20), np.nan, np.float32)
    image[::3] = 5.0
    shown, n, _ = Contrast()(image)
    assert n == 3
    assert max(shown.shape) <= MOST_PX
    assert np.isfinite(shown).all()
