import numpy as np
import pytest

from streamtrack.simulation.camera import CHALLENGE_CAMERA, Camera, hot_pixels

SHAPE = (400, 400)


def expose(camera, mean_e, seed=0, shape=SHAPE):
    return camera.expose(np.random.default_rng(seed), np.full(shape, mean_e, np.float32))


def test_counts_are_whole_and_not_negative():
    frame = expose(Camera(gain=0.7, read_noise_e=3.0), 2.0)
    assert frame.dtype == np.float32
    assert (frame == np.rint(frame)).all()
    assert frame.min() == 0


def test_challenge_camera_has_shot_noise_alone():
    frame = expose(CHALLENGE_CAMERA, 16.0)
    assert frame.mean() == pytest.approx(16, abs=0.05)
    assert frame.var() == pytest.approx(16, rel=0.02)


def test_gain_offset_and_read_noise():
    frame = expose(Camera(gain=2.0, offset_counts=100.0, read_noise_e=3.0), 50.0)
    assert frame.mean() == pytest.approx(2 * 50 + 100, abs=0.2)
    assert frame.var() == pytest.approx(2**2 * (50 + 3**2) + 1 / 12, rel=0.02)


@pytest.mark.parametrize("mean_e", [1.0, 30.0, 500.0])
def test_electron_multiplication_doubles_the_variance_of_the_shot_noise(mean_e):
    gain = 10.0  # so that rounding and the cut at 0 do not matter
    frame = expose(Camera(gain=gain, electron_multiplying=True), mean_e)
    assert frame.mean() == pytest.approx(gain * mean_e, rel=0.02)
    assert frame.var() == pytest.approx(2 * gain**2 * mean_e, rel=0.03)


def test_electron_multiplication_makes_no_light():
    assert not expose(Camera(electron_multiplying=True), 0.0).any()


def test_pixels_never_show_more_than_full_scale():
    frame = expose(Camera(offset_counts=10.0, full_scale_counts=60.0), 50.0)
    assert frame.max() == 60
    assert np.mean(frame == 60) == pytest.approx(0.5, abs=0.05)
    assert expose(Camera(gain=4.0), 50_000.0).max() == 65_535


def test_faults_are_the_same_in_every_frame():
    columns = np.linspace(0, 20, SHAPE[1], dtype=np.float32)[None]
    hot = np.zeros(SHAPE, np.float32)
    hot[7, 9] = 400.0
    camera = Camera(gain=2.0, dark_e=columns + hot)
    for seed in range(3):
        added = expose(camera, 30.0, seed) - 2.0 * 30.0
        np.testing.assert_allclose(added.mean(0), 2.0 * columns[0], atol=4.5)  # 4.5 is 8 standard errors
        assert added[7, 9] == pytest.approx(800, abs=100)


def test_hot_pixels_are_a_share_of_all_and_log_uniform():
    dark = hot_pixels(np.random.default_rng(0), SHAPE, 0.01, 100.0)
    hot = dark[dark > 0]
    assert dark.dtype == np.float32
    assert dark.min() == 0
    assert len(hot) / dark.size == pytest.approx(0.01, rel=0.1)
    assert hot.min() >= 100 / 50
    assert hot.max() <= 100
    assert np.median(hot) == pytest.approx(100 / 50**0.5, rel=0.15)


def test_no_pixel_is_hot_at_share_zero():
    assert not hot_pixels(np.random.default_rng(0), SHAPE, 0.0, 100.0).any()
