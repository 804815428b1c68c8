"""Peaks of heat maps whose peaks are known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamtrack_engines.peaks import NOTHING, is_peak, peak_table, spot_intensity

BACKGROUND_LOGIT = -9.0


def heat_map(spots, shape=(48, 64), sigma_px=1.0, top=4.0):
    """Logits whose softmax is a Gaussian at each spot: log-Gaussian, the nearest spot counts."""
    y, x = torch.meshgrid(*(torch.arange(float(size)) for size in shape), indexing="ij")
    squared = [(y - spot_y) ** 2 + (x - spot_x) ** 2 for spot_y, spot_x in spots]
    logits = torch.full(shape, BACKGROUND_LOGIT)
    for each in squared:
        logits = torch.maximum(logits, top - each / (2 * sigma_px**2))
    return logits[None, None]


def find(logits, frame=None, k=64, radius_px=1, min_score=0.5):
    frame = torch.zeros_like(logits) if frame is None else frame
    table = peak_table(logits, frame, k=k, nms_radius_px=radius_px, window_px=5)
    assert table.shape == (k, 4)
    return table[table[:, 2] > min_score].numpy()


def sorted_positions(table):
    return sorted(map(tuple, table[:, :2].tolist()))


@pytest.mark.parametrize("phase_y", [-0.5, -0.3, 0.0, 0.25, 0.49])
@pytest.mark.parametrize("phase_x", [-0.4, 0.1])
@pytest.mark.parametrize("sigma_px", [0.6, 0.7])
def test_position_is_subpixel(phase_y, phase_x, sigma_px):
    spot = (20 + phase_y, 31 + phase_x)
    (row,) = find(heat_map([spot], sigma_px=sigma_px))
    np.testing.assert_allclose(row[:2], spot, atol=0.02)


def test_softmax_window_is_what_it_says():
    """The position is the centre of mass of exp(logit) in the 5x5 window, which a training of that window presumes."""
    logits = heat_map([(20.3, 30.8)], sigma_px=1.0)
    window = torch.exp(logits[0, 0, 18:23, 29:34])
    steps = torch.arange(-2.0, 3.0)
    expected = (
        20 + float((window.sum(1) * steps).sum() / window.sum()),
        31 + float((window.sum(0) * steps).sum() / window.sum()),
    )
    (row,) = find(logits)
    np.testing.assert_allclose(row[:2], expected, atol=1e-5)


def test_score_is_the_sigmoid_of_the_peak():
    (row,) = find(heat_map([(20, 30)], top=2.0))
    assert row[2] == pytest.approx(1 / (1 + np.exp(-2.0)))


@pytest.mark.parametrize(("distance_px", "sigma_px"), [(2, 0.5), (3, 0.6), (4, 1.0)])
@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1), (-1, 1)])
def test_close_spots_stay_two(distance_px, sigma_px, direction):
    """The window of one sees the other, so that the positions move together; they stay nearer to their own spot."""
    first = np.array([20.0, 30.0])
    second = first + np.array(direction) * distance_px
    found = find(heat_map([first, second], sigma_px=sigma_px))
    assert len(found) == 2
    if distance_px > 2:
        np.testing.assert_allclose(sorted_positions(found), sorted(map(tuple, (first, second))), atol=0.4)


def test_radius_2_merges_what_is_2_px_apart():
    spots = [(20, 30), (20, 32)]
    assert len(find(heat_map(spots, sigma_px=0.6), radius_px=1)) == 2
    assert len(find(heat_map(spots, sigma_px=0.6), radius_px=2)) == 1


@pytest.mark.parametrize(
    "pixels", [[(20, 30), (20, 31)], [(20, 30), (21, 30)], [(20, 30), (21, 31)], [(20, 31), (21, 30)]]
)
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_equal_neighbours_are_one_peak(pixels, shift):
    """In any place relative to the 2x2 blocks."""
    logits = torch.full((1, 1, 48, 64), BACKGROUND_LOGIT)
    places = np.array(pixels) + shift
    for y, x in places:
        logits[..., y, x] = 3.0
    (row,) = find(logits)
    np.testing.assert_allclose(row[:2], places.mean(0), atol=0.01)


def test_plateau_is_one_peak():
    logits = torch.full((1, 1, 48, 64), BACKGROUND_LOGIT)
    logits[..., 20:24, 30:35] = 3.0
    assert len(find(logits)) == 1


@given(arrays(np.int8, (9, 11), elements=st.integers(0, 3)), st.integers(1, 2))
def test_peaks_are_apart_and_every_maximum_has_one_near(values, radius_px):
    """With few different values, so that ties are everywhere."""
    logits = torch.from_numpy(values.astype("f4"))[None, None]
    peaks = is_peak(logits, radius_px)[0, 0].numpy()
    y, x = np.nonzero(peaks)
    apart = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x))
    assert np.all(apart[~np.eye(len(y), dtype=bool)] > radius_px)
    assert peaks.reshape(-1)[values.argmax()]  # the first of the largest values
    for row, column in zip(y, x, strict=True):
        near = values[
            max(row - radius_px, 0) : row + radius_px + 1, max(column - radius_px, 0) : column + radius_px + 1
        ]
        assert values[row, column] == near.max()


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (48, 33)])
def test_spots_on_the_border_stay_in_the_frame(shape):
    bottom, right = shape[0] - 1, shape[1] - 1
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    sides = [(0, 15), (15, 0), (bottom, 15), (15, right)]
    found = find(heat_map(corners + sides, shape))
    np.testing.assert_allclose(sorted_positions(found), sorted(corners + sides), atol=0.01)


@pytest.mark.parametrize("distance_px", [0, 1, 2, 3])
def test_no_pull_away_from_the_border(distance_px):
    """Averaged over the sub-pixel phase, spots near the border are where they would be anywhere else."""
    phases = np.linspace(-0.45, 0.45, 19)
    errors = [find(heat_map([(distance_px + phase, 30)]))[0, 0] - distance_px - phase for phase in phases]
    assert abs(np.mean(errors)) < 0.02


def test_no_peaks():
    assert len(find(torch.full((1, 1, 32, 32), NOTHING), min_score=0.0)) == 0


def test_flat_map_is_one_peak_at_most():
    assert len(find(torch.zeros(1, 1, 33, 32), min_score=0.0)) == 1


def test_the_best_of_more_than_k_come_first():
    spots = [(4 * i + 2, 4 * j + 2) for i in range(8) for j in range(8)]
    order = np.random.default_rng(0).permutation(len(spots))
    logits = torch.full((1, 1, 32, 32), BACKGROUND_LOGIT)
    for rank, index in enumerate(order):
        logits[..., spots[index][0], spots[index][1]] = 3.0 - 0.05 * rank
    found = find(logits, k=10, min_score=0.0)
    assert len(found) == 10
    np.testing.assert_allclose(found[:, :2], np.array(spots)[order[:10]], atol=0.01)
    assert np.all(np.diff(found[:, 2]) < 0)


def test_k_may_exceed_the_pixels():
    table = peak_table(heat_map([(5, 6)], (32, 32)), torch.zeros(1, 1, 32, 32), k=2048, nms_radius_px=1, window_px=5)
    assert table.shape == (2048, 4)
    assert (table[:, 2] > 0.5).sum() == 1
    assert torch.all(table[(table[:, 2] == 0).nonzero()[:, 0]] == 0)


def photons(spots, shape=(64, 64), background=16.0, amplitude=50.0, sigma_px=1.2):
    y, x = np.indices(shape)
    signal = sum(amplitude * np.exp(-((y - sy) ** 2 + (x - sx) ** 2) / (2 * sigma_px**2)) for sy, sx in spots)
    return torch.from_numpy((background + signal).astype("f4"))[None, None]


TOTAL = 50.0 * 2 * np.pi * 1.2**2


def intensities(frame, spots):
    y, x = torch.tensor(spots).round().long().T
    return spot_intensity(frame, y, x).numpy()


def test_intensity_is_the_light_of_the_spot():
    spots = [(20.2, 20.4), (40.0, 41.7)]
    np.testing.assert_allclose(intensities(photons(spots), spots), TOTAL, rtol=0.02)


def test_intensity_does_not_depend_on_the_background():
    spots = [(20.2, 20.4)]
    y = np.linspace(0, 500, 64, dtype="f4")[None, None, :, None]  # a slope: no flat background either
    np.testing.assert_allclose(
        intensities(photons(spots) + torch.from_numpy(y), spots), intensities(photons(spots), spots), rtol=0.02
    )


def test_intensity_of_a_neighbour_in_the_ring_is_not_background():
    spots = [(20.0, 20.0), (20.0, 26.0)]
    np.testing.assert_allclose(intensities(photons(spots), spots), TOTAL, rtol=0.05)


@pytest.mark.parametrize("spot", [(0, 0), (0, 30), (63, 63), (30, 63)])
def test_intensity_on_the_border_counts_the_missing_half(spot):
    np.testing.assert_allclose(intensities(photons([spot]), [tuple(map(float, spot))]), TOTAL, rtol=0.02)


def test_intensity_of_noise_is_0_on_average():
    frame = torch.from_numpy(np.random.default_rng(0).poisson(16, (1, 1, 256, 256)).astype("f4"))
    y, x = torch.meshgrid(torch.arange(8, 248, 8), torch.arange(8, 248, 8), indexing="ij")
    found = spot_intensity(frame, y.flatten(), x.flatten())
    assert abs(float(found.mean())) < 3 * float(found.std()) / len(found) ** 0.5
    assert float(found.std()) < 1.3 * 28 * (1 + 49 / 72) ** 0.5  # 28: shot noise of 49 pixels; the rest: of the ring
