import numpy as np
import pytest

from streamtrack.simulation.backgrounds import Background, haze, random_waves

SIZE_PX = 512
PIXEL = np.arange(SIZE_PX, dtype=np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def contrast(background):
    image = background.at(PIXEL[:, None], PIXEL)
    return image.max() / image.min()


def test_background_without_waves_is_flat():
    image = Background(16.0).at(PIXEL[:, None], PIXEL)
    assert image.shape == (SIZE_PX, SIZE_PX)
    assert image.dtype == np.float32
    assert (image == 16).all()


def test_places_are_broadcast():
    background = Background(20.0, random_waves(rng(), 4, 3.0, (24.0, 768.0)))
    image = background.at(PIXEL[:, None], PIXEL)
    y, x = rng(1).integers(0, SIZE_PX, (2, 50))
    np.testing.assert_allclose(background.at(y.astype(float), x.astype(float)), image[y, x], rtol=1e-4)


def test_single_wave_reaches_its_contrast():
    assert contrast(Background(5.0, random_waves(rng(), 1, 4.0, (24.0, 60.0)))) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_waves_never_exceed_their_contrast(seed):
    background = Background(5.0, random_waves(rng(seed), 4, 4.0, (24.0, 120.0)))
    assert 1.5 < contrast(background) <= 4 * (1 + 1e-5)
    assert contrast(Background(5.0, random_waves(rng(seed), 4, 1.0, (24.0, 120.0)))) == 1


def test_waves_have_all_lengths_and_directions():
    _, per_y, per_x, phase = np.array(random_waves(rng(), 2000, 2.0, (24.0, 768.0))).T
    length_px, direction = 1 / np.hypot(per_y, per_x), np.arctan2(per_y, per_x)
    assert length_px.min() == pytest.approx(24, rel=0.02)
    assert length_px.max() == pytest.approx(768, rel=0.02)
    assert np.median(length_px) == pytest.approx((24 * 768) ** 0.5, rel=0.1)
    for angle in (direction, phase):
        assert abs(np.exp(1j * angle).mean()) < 0.06


def test_haze_is_broad_light():
    image = haze(rng(), 128, 20, (4.0, 20.0), 50.0)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert 10 < image.max() <= 20 * 50
    assert np.abs(np.diff(image, axis=0)).max() < 0.2 * image.max()


def test_no_haze_is_dark():
    assert not haze(rng(), 64, 0, (4.0, 20.0), 50.0).any()
