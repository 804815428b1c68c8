import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from streamtrack.simulation.spot_images import GROUNDS, HEIGHT, SPOTS, draw_light, spot_image


def rng(seed=7):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("ground", GROUNDS)
def test_the_same_seed_gives_the_same_image(ground):
    (one, places), (other, others) = (spot_image(rng(), ground, 4.0) for _ in range(2))
    assert (one.shape, one.dtype, len(places)) == ((256, 256), np.uint8, SPOTS)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(places, others)
    assert (places >= 0).all()
    assert (places <= 255).all()


@pytest.mark.parametrize("snr", [10.0, 2.0])
def test_snr_is_the_height_of_a_spot_over_the_noise(snr):
    light, _ = draw_light(rng(), "A")
    image, _ = spot_image(rng(), "A", snr)
    assert (image - light).std() == pytest.approx(HEIGHT / snr, rel=0.02)


def test_spots_stand_out_by_their_height_from_an_even_ground():
    light, places = draw_light(rng(), "A", spots=5)
    row, column = places.round().astype(int).T
    np.testing.assert_allclose(light[row, column], 100 + HEIGHT, atol=2.5)
    assert np.median(light) == 100


def test_there_are_as_many_spots_to_the_area_in_any_image():
    assert len(draw_light(rng(), "A", spots=48, size_px=128)[1]) == 12


@pytest.mark.parametrize("ground", ["B1", "B2"])
def test_textures_have_twenty_levels_and_hide_no_spot_behind_steps(ground):
    light, _ = draw_light(rng(), ground, spots=0)
    assert light.min() == pytest.approx(100)
    assert light.max() == pytest.approx(120)
    fine = light - gaussian_filter(light, 1.75)
    assert fine.std() < 0.25 * light.std()
