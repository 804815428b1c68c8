from dataclasses import replace

import numpy as np
import pytest

from streamtrack.simulation.smfish import SmfishRanges, draw_smfish, fractal_noise, perlin_noise

FIXED, VARIABLE = (SmfishRanges(variable_fraction=share, background=(2.0, 3.0)) for share in (0.0, 1.0))


def image(ranges, seed=0, size_px=128, **settings):
    return draw_smfish(np.random.default_rng(seed), size_px, ranges, **settings)


def heights(ranges):
    """Return the levels in the middle of spots far from each other, on next to no background."""
    peaks = []
    for seed in range(8):
        pixels, spots = image(ranges, seed, n_spots=12)
        away = np.hypot(*(spots[:, None] - spots).transpose(2, 0, 1)) + 99 * np.eye(12)
        row, column = spots[away.min(1) > 12].astype(int).T
        peaks += list(pixels[row, column])
    return np.array(peaks)


def test_the_same_seed_gives_the_same_image():
    (one, spots), (other, same) = image(SmfishRanges()), image(SmfishRanges())
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(spots, same)


def test_levels_are_whole_from_0_to_255_and_spots_where_they_are_said_to_be():
    pixels, spots = image(VARIABLE, n_spots=20)
    assert (pixels.dtype, pixels.min(), pixels.max()) == (np.float32, 0, 255)
    np.testing.assert_array_equal(pixels, np.rint(pixels))
    assert (spots >= 2).all()
    assert (spots <= 125).all()
    assert len(np.unique(spots, axis=0)) == 20
    for y, x in spots.astype(int):
        assert pixels[y, x] > np.median(pixels) + 100


@pytest.mark.parametrize(("size_px", "n"), [(256, 40), (128, 10)])
def test_a_smaller_image_has_as_many_spots_in_its_area(size_px, n):
    assert len(image(SmfishRanges(spots=(40.0, 40.0)), size_px=size_px)[1]) == n


def test_spots_of_variable_intensity_are_nearly_as_bright_as_each_other_and_others_differ_by_their_width():
    """Peaks from 160 to 220, against widths that differ by 2.8 and with the same light in each."""
    fixed, variable = heights(FIXED), heights(VARIABLE)
    assert variable.min() > 0.6 * variable.max()
    assert 3 * fixed.min() < fixed.max()


def test_spots_may_lie_between_pixels_and_beyond_the_border():
    spots = image(replace(VARIABLE, subpixel_fraction=1.0), edge_px=-2, n_spots=400)[1]
    assert (spots != np.rint(spots)).all()
    assert spots.min() < -1
    assert spots.max() > 128


def test_perlin_noise_is_0_at_the_points_of_its_lattice_and_smooth_between():
    noise = perlin_noise(np.random.default_rng(1), 128, 16.0)
    np.testing.assert_allclose(noise[::16, ::16], 0, atol=1e-6)
    assert 0.3 < np.abs(noise).max() <= 1 / np.sqrt(2) + 1e-6
    assert np.abs(np.diff(noise, axis=0)).max() < 0.15


def test_finer_octaves_are_lower():
    noise = fractal_noise(np.random.default_rng(1), 256, 64.0)
    power = np.abs(np.fft.rfft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    coarse, fine = (power[(frequency > low) & (frequency < 2 * low)].sum() for low in (1 / 96, 1 / 12))
    assert coarse > 8 * fine > 0
