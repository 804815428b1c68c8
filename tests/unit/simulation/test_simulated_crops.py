import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from streamtrack.simulation.crop_ranges import CropRanges
from streamtrack.simulation.crops import sample_crops

CHALLENGE = CropRanges(camera_fraction=0.0)
CAMERA = CropRanges(camera_fraction=1.0)
PLAIN_CAMERA = replace(
    CAMERA, gain=(1.0, 1.0), offset_counts=(100.0, 100.0), read_noise_e=(0.0, 0.0), background_e=(50.0, 50.0),
    background_contrast=(1.0, 1.0), haze_fraction=0.0, cell_fraction=0.0, faulty_fraction=0.0, saturated_fraction=0.0,
    smoothed_fraction=0.0,
    electron_multiplying_fraction=0.0, first_frame_fraction=0.0,
)  # fmt: skip
"""A flat background and a camera without faults."""

EMPTY = replace(PLAIN_CAMERA, empty_fraction=1.0)


def rng(seed=0):
    return np.random.default_rng(seed)


def per_crop(batch):
    return np.bincount(batch.points[:, 0].astype(int), minlength=len(batch.noisy))


def is_known(batch):
    """Whether each frame of each crop (B, T) is known: not all zeros."""
    return batch.noisy.any((2, 3))


def test_shapes_and_types():
    batch = sample_crops(rng(), 5, 48, CropRanges(), n_before=2, n_after=1)
    assert batch.noisy.shape == (5, 4, 48, 48)
    assert batch.signal.shape == batch.background.shape == (5, 48, 48)
    for images in (batch.noisy, batch.signal, batch.background):
        assert images.dtype == np.float32
        assert np.isfinite(images).all()
    assert batch.points.shape[1:] == (3,)
    assert batch.points.dtype == np.float32
    assert (batch.noisy == np.rint(batch.noisy)).all()
    assert batch.noisy.min() >= 0


@pytest.mark.parametrize(("n_before", "n_after"), [(0, 0), (2, 0), (1, 1)])
def test_truth_is_that_of_the_current_frame(n_before, n_after):
    """The frames around it show the same background, and other signal."""
    ranges = replace(CHALLENGE, density=(800.0, 1200.0), snr=(4.0, 8.0), first_frame_fraction=0.0)
    batch = sample_crops(rng(), 100, 64, ranges, n_before=n_before, n_after=n_after)
    mean = (batch.signal + batch.background)[:, None]
    excess = np.mean((batch.noisy - mean) ** 2 / mean, axis=(0, 2, 3))
    assert excess[n_before] == pytest.approx(1, abs=0.02)
    assert (np.delete(excess, n_before) > 1.5).all()
    np.testing.assert_allclose(batch.noisy.mean((0, 2, 3)), mean.mean(), rtol=0.05)


def test_points_lie_on_the_crop_or_up_to_two_px_outside():
    points = sample_crops(rng(), 200, 64, replace(CropRanges(), density=(800.0, 1200.0))).points
    assert (np.diff(points[:, 0]) >= 0).all()
    assert points[:, 1:].min() == pytest.approx(-2.5, abs=0.05)
    assert points[:, 1:].max() == pytest.approx(65.5, abs=0.05)


def test_same_generator_state_same_crops():
    one, two, other = (sample_crops(rng(seed), 6, 64, CropRanges(), n_before=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.noisy, two.noisy)
    np.testing.assert_array_equal(one.points, two.points)
    assert not np.array_equal(one.noisy, other.noisy)


def test_share_of_crops_without_the_frames_before():
    known = is_known(sample_crops(rng(), 2000, 8, replace(CHALLENGE, density=(20.0, 30.0)), n_before=2))
    assert known[:, 2].all()
    assert (known[:, 1] >= known[:, 0]).all()
    assert np.mean(~known[:, 1]) == pytest.approx(0.10, abs=0.025)
    assert np.mean(known[:, 1] & ~known[:, 0]) == pytest.approx(0.05, abs=0.02)


def test_frames_after_the_current_one_are_always_known():
    known = is_known(sample_crops(rng(), 100, 8, replace(CHALLENGE, first_frame_fraction=1.0), n_before=1, n_after=1))
    assert not known[:, 0].any()
    assert known[:, 1:].all()


def test_frames_before_show_the_same_particles_unless_motion_is_memoryless():
    """Correlation of the frame before with the current signal, for particles that hardly move."""
    still = replace(
        PLAIN_CAMERA, brownian_sigma_px=(0.05, 0.05), speed_px=(0.0, 0.1), death=(0.01, 0.01), flicker_log_sd=(0, 0),
        snr=(8.0, 8.0), density=(600.0, 600.0), empty_fraction=0.0, low_density_fraction=0.0,
    )  # fmt: skip

    def likeness(memoryless):
        batch = sample_crops(rng(), 20, 96, replace(still, memoryless_fraction=memoryless), n_before=1)
        return np.mean(
            [np.corrcoef(a.ravel(), b[0].ravel())[0, 1] for a, b in zip(batch.signal, batch.noisy, strict=True)]
        )

    assert likeness(0.0) > 0.6
    assert abs(likeness(1.0)) < 0.1


def test_noise_of_challenge_crops_is_poisson():
    batch = sample_crops(rng(), 150, 64, CHALLENGE)
    assert (batch.background == 16).all()
    mean = batch.signal + batch.background
    deviation = batch.noisy[:, 0] - mean
    assert deviation.mean() == pytest.approx(0, abs=0.02)
    assert np.mean(deviation**2 / mean) == pytest.approx(1, abs=0.01)


def test_camera_crops_have_gain_offset_and_read_noise():
    batch = sample_crops(rng(), 40, 64, replace(EMPTY, gain=(2.0, 2.0), read_noise_e=(3.0, 3.0)))
    np.testing.assert_allclose(batch.background, 2 * 50 + 100, rtol=1e-5)
    assert batch.noisy.mean() == pytest.approx(200, abs=0.3)
    assert batch.noisy.var() == pytest.approx(2**2 * (50 + 3**2) + 1 / 12, rel=0.02)


def test_electron_multiplying_cameras_have_twice_the_variance():
    batch = sample_crops(rng(), 40, 64, replace(EMPTY, electron_multiplying_fraction=1.0))
    assert batch.noisy.var() == pytest.approx(2 * 50 + 1 / 12, rel=0.02)


def test_hot_pixels_stay_for_the_whole_crop_and_are_no_background():
    ranges = replace(EMPTY, faulty_fraction=1.0, hot_share=(0.01, 0.01), column_noise=(0.0, 0.0))
    batch = sample_crops(rng(), 20, 64, ranges, n_before=2)
    hot = batch.noisy > 150 + 12 * 50**0.5
    assert hot.mean() == pytest.approx(0.01 * np.log(100 / 12) / np.log(50), rel=0.15)
    assert hot.all(1).sum() > 0.9 * hot[:, 0].sum()
    np.testing.assert_allclose(batch.background, 150)
    assert len(batch.points) == 0


def test_uneven_columns_stay_for_the_whole_crop():
    ranges = replace(EMPTY, faulty_fraction=1.0, hot_share=(1e-9, 1e-9), column_noise=(1.0, 1.0))
    columns = sample_crops(rng(), 20, 64, ranges, n_before=1).noisy.mean(2)
    assert columns[:, 0].std() == pytest.approx((50 + 50 / 64) ** 0.5, rel=0.1)
    assert np.corrcoef(columns[:, 0].ravel(), columns[:, 1].ravel())[0, 1] > 0.95


def test_saturated_crops_are_cut_off_between_background_and_peak():
    ranges = replace(PLAIN_CAMERA, saturated_fraction=1.0, snr=(10.0, 10.0), density=(1000.0, 1000.0), empty_fraction=0)
    noisy = sample_crops(rng(), 30, 96, replace(ranges, low_density_fraction=0.0, amplitude_log_sd=(0.0, 0.0))).noisy
    brightest = noisy.max((1, 2, 3))
    peak = 10 * (10 + (10**2 + 4 * 50) ** 0.5) / 2
    assert ((brightest > 150 + 0.19 * peak) & (brightest < 150 + 1.01 * peak)).all()
    assert np.median((noisy == brightest[:, None, None, None]).sum((1, 2, 3))) > 50


def test_smoothed_crops_have_noise_in_common_with_their_neighbours():
    sharp, smooth = (
        sample_crops(rng(), 40, 64, replace(EMPTY, smoothed_fraction=share, smoothing_sigma_px=(0.7, 0.7))).noisy - 150
        for share in (0.0, 1.0)
    )
    common = [(noise[..., 1:] * noise[..., :-1]).mean() / (noise**2).mean() for noise in (sharp, smooth)]
    assert common[0] == pytest.approx(0.0, abs=0.01)
    assert common[1] == pytest.approx(np.exp(-1 / (4 * 0.7**2)), abs=0.05)
    assert smooth.mean() == pytest.approx(0.0, abs=0.1)


def test_background_of_camera_crops_is_uneven_but_smooth():
    ranges = replace(EMPTY, offset_counts=(0.0, 0.0), background_contrast=(3.0, 3.0), background_wave_px=(96.0, 768.0))
    background = sample_crops(rng(), 100, 128, ranges).background
    contrast = background.max((1, 2)) / background.min((1, 2))
    assert 2 < contrast.max() < 3 + 1e-3
    assert np.median(contrast) > 1.3
    assert (np.abs(np.diff(background, axis=2)) / background[:, :, 1:]).max() < 0.04


def test_haze_is_background_without_points():
    batch = sample_crops(rng(), 30, 96, replace(EMPTY, haze_fraction=1.0, haze_spots=(12.0, 12.0), snr=(10.0, 10.0)))
    assert batch.background.min() == pytest.approx(150, abs=0.5)
    assert np.median(batch.background.max((1, 2))) > 180
    assert not batch.signal.any()
    assert len(batch.points) == 0


def test_particles_lie_in_cells():
    """At 1500 particles per 512x512 px, a block of 32x32 px is empty in 0.3 % of the cases, were they uniform."""

    def share_of_empty_blocks(cell_fraction):
        ranges = replace(PLAIN_CAMERA, density=(1500.0, 1500.0), empty_fraction=0.0, low_density_fraction=0.0)
        points = sample_crops(rng(), 60, 128, replace(ranges, cell_fraction=cell_fraction)).points
        crop, y, x = points[(points[:, 1:].min(1) >= 0) & (points[:, 1:].max(1) < 128)].astype(int).T
        return 1 - len(np.unique((crop * 4 + y // 32) * 4 + x // 32)) / (60 * 16)

    assert share_of_empty_blocks(0.0) < 0.02
    assert 0.15 < share_of_empty_blocks(1.0) < 0.5


def test_flicker_changes_the_brightness_from_frame_to_frame():
    ranges = replace(
        PLAIN_CAMERA, brownian_sigma_px=(0.05, 0.05), speed_px=(0.0, 0.1), death=(1e-6, 1e-6), memoryless_fraction=0.0,
        snr=(12.0, 12.0), density=(1000.0, 1000.0), empty_fraction=0.0, low_density_fraction=0.0,
        camera_comet_fraction=0.0,
    )  # fmt: skip

    def change(log_sd):
        noisy = sample_crops(rng(), 20, 64, replace(ranges, flicker_log_sd=(log_sd, log_sd)), n_before=1).noisy
        return np.diff(noisy, axis=1).std()

    assert change(0.5) > 2 * change(0.0)


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
    batch = sample_crops(rng(), 300, 96, replace(CropRanges(), density=(60.0, 60.0)), n_before=1, n_after=1)
    off = []
    for crop, signal in enumerate(batch.signal):
        brightest = np.array(np.unravel_index(signal.argmax(), signal.shape))
        if 4 <= brightest.min() and brightest.max() < 92 and signal.any():
            points = batch.points[batch.points[:, 0] == crop, 1:]
            off.append(np.hypot(*(points - brightest).T).min(initial=np.inf))
    assert len(off) > 150
    assert np.mean(np.array(off) < 1.5) > 0.9  # the others: tails that cross, heads far outside


def test_shares_of_empty_and_crowded_crops():
    counts = per_crop(sample_crops(rng(), 500, 96, CHALLENGE)) * (512 / 101) ** 2
    assert 0.17 < np.mean(counts == 0) < 0.32  # 20 %, and a few of the sparse ones
    assert 0.3 < np.mean(counts < 150) < 0.6
    assert 0.15 < np.mean(counts > 800) < 0.35


def test_only_empty_crops():
    batch = sample_crops(rng(), 4, 64, replace(CropRanges(), empty_fraction=1.0), n_before=2)
    assert batch.points.shape == (0, 3)
    assert not batch.signal.any()


def test_ranges_are_plain_numbers_for_the_model_card():
    for value in asdict(CropRanges()).values():
        assert isinstance(value, float) or (len(value) == 2 and value[0] <= value[1])


@pytest.mark.timing
@pytest.mark.parametrize("n_before", [0, 2])
def test_fast_enough_to_feed_training(n_before):
    generator, seconds = rng(), []
    sample_crops(generator, 16, 128, CropRanges(), n_before=n_before)
    for _ in range(3):
        start = time.process_time()
        sample_crops(generator, 64, 128, CropRanges(), n_before=n_before)
        seconds.append(time.process_time() - start)
    assert 64 / min(seconds) > 200
