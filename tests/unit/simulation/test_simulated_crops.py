import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from streamtrack.simulation.crops import CropRanges, sample_crops

CHALLENGE = CropRanges(camera_fraction=0.0)
CAMERA = CropRanges(camera_fraction=1.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def per_crop(batch):
    return np.bincount(batch.points[:, 0].astype(int), minlength=len(batch.noisy))


def test_shapes_and_types():
    batch = sample_crops(rng(), 5, 48)
    for images in (batch.noisy, batch.signal, batch.background):
        assert images.shape == (5, 48, 48)
        assert images.dtype == np.float32
        assert np.isfinite(images).all()
    assert batch.points.shape[1:] == (3,)
    assert batch.points.dtype == np.float32
    assert (batch.noisy == np.rint(batch.noisy)).all()
    assert batch.noisy.min() >= 0


def test_points_lie_on_the_crop_or_up_to_two_px_outside():
    points = sample_crops(rng(), 200, 64, replace(CropRanges(), density=(800.0, 1200.0))).points
    assert (np.diff(points[:, 0]) >= 0).all()
    assert points[:, 1:].min() == pytest.approx(-2.5, abs=0.05)
    assert points[:, 1:].max() == pytest.approx(65.5, abs=0.05)


def test_same_generator_state_same_crops():
    one, two, other = (sample_crops(rng(seed), 6, 64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.noisy, two.noisy)
    np.testing.assert_array_equal(one.points, two.points)
    assert not np.array_equal(one.noisy, other.noisy)


def test_noise_of_challenge_crops_is_poisson():
    batch = sample_crops(rng(), 150, 64, CHALLENGE)
    assert (batch.background == 16).all()
    mean = batch.signal + batch.background
    deviation = batch.noisy - mean
    assert deviation.mean() == pytest.approx(0, abs=0.02)
    assert np.mean(deviation**2 / mean) == pytest.approx(1, abs=0.01)


def test_camera_crops_have_gain_offset_read_noise_and_rounding():
    ranges = replace(
        CAMERA, gain=(2.0, 2.0), offset_counts=(100.0, 100.0), read_noise_e=(3.0, 3.0), background_contrast=(1.0, 1.0),
        background_e=(50.0, 50.0), empty_fraction=1.0,
    )  # fmt: skip
    batch = sample_crops(rng(), 40, 64, ranges)
    np.testing.assert_allclose(batch.background, 2 * 50 + 100, rtol=1e-5)
    assert batch.noisy.mean() == pytest.approx(200, abs=0.3)
    assert batch.noisy.var() == pytest.approx(2**2 * (50 + 3**2) + 1 / 12, rel=0.02)


def test_background_of_camera_crops_is_uneven_but_smooth():
    ranges = replace(CAMERA, offset_counts=(0.0, 0.0), background_contrast=(3.0, 3.0))
    background = sample_crops(rng(), 100, 128, ranges).background
    contrast = background.max((1, 2)) / background.min((1, 2))
    assert contrast.max() == pytest.approx(3, abs=0.1)
    assert np.median(contrast) > 1.3
    step = np.abs(np.diff(background, axis=2)) / background[:, :, 1:]
    assert step.max() < 0.04


def test_peak_gives_the_snr_that_was_asked_for():
    ranges = replace(CHALLENGE, snr=(4.0, 4.0), density=(60.0, 60.0))
    batch = sample_crops(rng(), 300, 64, ranges)
    single = np.flatnonzero(per_crop(batch) == 1)
    points = batch.points[np.isin(batch.points[:, 0], single)]
    centred = points[(np.abs(points[:, 1:] - np.rint(points[:, 1:])) < 0.25).all(1) & (points[:, 1:] > 1).all(1)]
    centred = centred[(centred[:, 1:] < 62).all(1)]
    index, y, x = np.rint(centred).astype(int).T
    peak = batch.signal[index, y, x]
    assert len(peak) > 10
    assert peak.max() == pytest.approx(25.9, rel=0.1)  # spots
    assert peak.min() > 0.42 * 25.9  # the darkest comets


def test_the_brightest_place_of_a_crop_is_a_point():
    batch = sample_crops(rng(), 300, 96, replace(CropRanges(), density=(60.0, 60.0)))
    off = []
    for crop, signal in enumerate(batch.signal):
        brightest = np.array(np.unravel_index(signal.argmax(), signal.shape))
        if 4 <= brightest.min() and brightest.max() < 92 and signal.any():
            points = batch.points[batch.points[:, 0] == crop, 1:]
            off.append(np.hypot(*(points - brightest).T).min(initial=np.inf))
    assert len(off) > 150
    assert np.mean(np.array(off) < 1.5) > 0.9  # the others: tails that cross, heads far outside


def test_shares_of_empty_and_crowded_crops():
    counts = per_crop(sample_crops(rng(), 800, 64)) * (512 / 69) ** 2
    assert 0.03 < np.mean(per_crop(sample_crops(rng(3), 600, 128)) == 0) < 0.11
    assert 0.2 < np.mean(counts < 150) < 0.5
    assert 0.1 < np.mean(counts > 800) < 0.35


def test_only_empty_crops():
    batch = sample_crops(rng(), 4, 64, replace(CropRanges(), empty_fraction=1.0))
    assert batch.points.shape == (0, 3)
    assert not batch.signal.any()


def test_ranges_are_plain_numbers_for_the_model_card():
    for value in asdict(CropRanges()).values():
        assert isinstance(value, float) or (len(value) == 2 and value[0] <= value[1])


def test_fast_enough_to_feed_training():
    generator, seconds = rng(), []
    sample_crops(generator, 16, 128)
    for _ in range(3):
        start = time.process_time()
        sample_crops(generator, 64, 128)
        seconds.append(time.process_time() - start)
    assert 64 / min(seconds) > 200
