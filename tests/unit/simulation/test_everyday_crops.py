from dataclasses import replace

import numpy as np
import pytest

from streamtrack.simulation.backgrounds import Background, random_discs, random_slope
from streamtrack.simulation.crop_ranges import CropRanges
from streamtrack.simulation.crops import sample_crops
from streamtrack.simulation.everyday import cut_history, enlarge

PLAIN = CropRanges(
    camera_fraction=1.0, camera_comet_fraction=0.0, empty_fraction=0.0, first_frame_fraction=0.0,
    density=(400.0, 400.0), snr=(8.0, 8.0), amplitude_log_sd=(0.0, 0.0), flicker_log_sd=(0.0, 0.0),
    background_e=(50.0, 50.0), background_contrast=(1.0, 1.0), haze_fraction=0.0, cell_fraction=0.0,
    faulty_fraction=0.0, saturated_fraction=0.0, smoothed_fraction=0.0, electron_multiplying_fraction=0.0,
    gain=(1.0, 1.0), offset_counts=(0.0, 0.0), read_noise_e=(0.0, 0.0), memoryless_fraction=0.0,
)  # fmt: skip
"""Round spots on a flat background, seen by a camera without faults."""


def crops(n=20, size_px=96, seed=0, **changes):
    return sample_crops(np.random.default_rng(seed), n, size_px, replace(PLAIN, **changes), n_before=2)


def peaks(batch):
    """Return the brightest pixel near each point that is well inside, less the background (M,)."""
    heights = []
    for crop, y, x in batch.points:
        row, column = round(float(y)), round(float(x))
        if 2 <= min(row, column) and max(row, column) < batch.signal.shape[-1] - 2:
            heights.append(batch.signal[int(crop), row - 1 : row + 2, column - 1 : column + 2].max())
    return np.array(heights)


def test_a_slope_takes_from_one_side_what_it_adds_to_the_other():
    pixel = np.arange(64.0)
    for seed in range(20):
        slope = random_slope(np.random.default_rng(seed), 64, 0.6)
        image = Background(10.0, slope=slope).at(pixel[:, None], pixel)
        assert image.mean() == pytest.approx(10.0, rel=1e-4)
        assert image.max() <= 16.001
        assert image.max() + image.min() == pytest.approx(20.0, rel=1e-4)


def test_a_disc_is_as_much_brighter_as_it_says():
    ((y, x, radius, _, contrast),) = random_discs(np.random.default_rng(1), 200, 1, (30.0, 30.0), (5.0, 5.0))
    disc = Background(10.0, discs=[(y, x, radius, 0.5, contrast)])
    assert disc.at(np.array(y), np.array(x)) == pytest.approx(50.0)
    assert disc.at(np.array(y), np.array(x + radius + 10)) == pytest.approx(10.0, rel=1e-3)
    assert disc.at(np.array(y), np.array(x + radius)) == pytest.approx(30.0)


def test_outliers_are_few_and_far_brighter():
    heights = peaks(crops(outlier_fraction=1.0, outlier_ratio=(100.0, 100.0)))
    assert 0 < np.mean(heights > 20 * np.quantile(heights, 0.2)) < 0.7


def test_of_two_kinds_or_of_many_the_faintest_have_the_snr():
    heights = peaks(crops(population_fraction=1.0, population_ratio=(20.0, 20.0)))
    usual = np.median(peaks(crops()))
    assert heights.min() == pytest.approx(usual, rel=0.4)
    assert np.mean(heights > 15 * usual) > 0.1


def test_nothing_is_said_to_be_in_a_frame_that_went_dark():
    histories = [cut_history(np.random.default_rng(seed), 2, 3, (4.0, 4.0)) for seed in range(100)]
    dark = [history for history in histories if history.spots[-1] == 0]
    assert 15 < len(dark) < 50
    assert all(history.spots[0] == 1 for history in dark)
    batch = crops(200, cut_fraction=1.0, shift_px=(4.0, 4.0))
    gone = [k for k in range(200) if not batch.signal[k].any()]
    assert len(gone) > 20
    assert not np.isin(batch.points[:, 0], gone).any()


def test_a_field_that_moves_takes_its_background_along():
    ranges = {"cut_fraction": 1.0, "background_contrast": (4.0, 4.0), "empty_fraction": 1.0, "shift_px": (20.0, 20.0)}
    batch = crops(100, **ranges)
    smooth = batch.noisy.reshape(100, 3, 12, 8, 12, 8).mean((3, 5))
    moved = np.abs(smooth[:, 0] - smooth[:, 2]).mean((1, 2)) > 3
    assert 0.2 < moved.mean() < 0.6  # jumps, drifts, and light that changes


def test_a_border_is_one_value_and_holds_no_particles():
    batch = crops(border_fraction=1.0)
    assert all((frames == 0).all(0).any() for frames in batch.noisy)
    for crop, y, x in batch.points:
        if 0 <= min(y, x) and max(y, x) <= 94:
            assert batch.noisy[int(crop), -1, round(float(y)), round(float(x))] > 0


def test_points_of_an_enlarged_crop_lie_on_its_spots():
    batch = crops(enlarged_fraction=1.0, enlarged=(2.0, 2.0), spot_sigma_px=(2.0, 2.0), snr=(60.0, 60.0))
    assert batch.noisy.shape == (20, 3, 96, 96)
    heights = peaks(batch)
    assert heights.min() > 0.8 * np.median(heights)
    neighbours = np.corrcoef(np.diff(batch.noisy[0, 2])[:, :-1].ravel(), np.diff(batch.noisy[0, 2])[:, 1:].ravel())
    assert neighbours[0, 1] > 0  # of independent pixels -1/2


@pytest.mark.parametrize("order", [1, 2, 3])
def test_an_enlarged_place_keeps_its_centre(order):
    image = np.zeros((21, 21), np.float32)
    image[10, 4] = 1.0
    large = enlarge(image, 63, order)
    assert np.unravel_index(large.argmax(), large.shape) == (31, 13)
    assert large.sum() == pytest.approx(9.0, rel=0.02)


def test_noise_free_crops_are_the_mean_itself():
    batch = crops(bright_fraction=1.0, noise_free_fraction=1.0, bright_snr=(20.0, 20.0))
    np.testing.assert_allclose(batch.noisy[:, -1], batch.signal + batch.background, atol=0.51)


def test_fast_particles_are_elsewhere_in_the_frame_before():
    batch = crops(fast_fraction=1.0, fast_px=(20.0, 30.0), density=(20.0, 20.0), bright_fraction=1.0)
    both = np.minimum(batch.noisy[:, 1] - 50, batch.noisy[:, 2] - 50)
    assert (both.max((1, 2)) < 0.5 * batch.signal.max((1, 2))).mean() > 0.6
