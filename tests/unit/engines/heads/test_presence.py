"""Peaks of maps whose particles are known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit, ndtr

from streamtrack_engines.heads.calibration import SPARSE_PER_PX, SPARSEST_PER_PX, Calibration
from streamtrack_engines.heads.head import COLUMNS
from streamtrack_engines.heads.peaks import NOTHING, REACH_PX, SIGMA_LIMITS_PX, is_peak, spot_intensity
from streamtrack_engines.heads.presence import LEAST_SUM, peak_table

UNLIKELY = -9.0


def found_map(presence, dy=0.0, dx=0.0, log_sigma=-1.0):
    """What a network might say: (1, 4, H, W) of four maps (H, W) or numbers, the first of them logits."""
    presence = np.asarray(presence)
    maps = [np.broadcast_to(each, presence.shape) for each in (presence, dy, dx, log_sigma)]
    return torch.from_numpy(np.stack(maps).astype("f4"))[None]


def particles_at(spots, shape=(48, 64), sure=0.95, sigma_px=0.3):
    """What a perfect network says of particles (y, x) whose position it knows to `sigma_px`.

    Each pixel holds its share of the probability and points at the middle of what lies in it.
    """
    rows, columns = (np.arange(size) for size in shape)
    presence, dy, dx = (np.zeros(shape) for _ in range(3))
    for y, x in spots:
        share_y, mean_y = share_and_mean(rows - y, sigma_px)
        share_x, mean_x = share_and_mean(columns - x, sigma_px)
        share = sure * share_y[:, None] * share_x
        nearest = share > presence
        dy[nearest] = np.broadcast_to((mean_y + y - rows)[:, None], shape)[nearest]
        dx[nearest] = np.broadcast_to(mean_x + x - columns, shape)[nearest]
        presence = np.maximum(presence, share)
    return found_map(np.maximum(logit(presence), UNLIKELY), dy, dx)


def share_and_mean(distance, sigma_px):
    """Of a Gaussian: how much of it lies in the pixels at these distances, and where that part has its middle."""
    ends = np.stack([distance - 0.5, distance + 0.5]) / sigma_px
    share = np.diff(ndtr(ends), axis=0)[0]
    density = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
    return share, -sigma_px * np.diff(density, axis=0)[0] / share.clip(1e-30)


def find(found, k=64, min_score=0.5):
    table = peak_table(found, torch.zeros_like(found[:, :1]), k=k)
    assert table.shape == (k, len(COLUMNS))
    return table[table[:, 2] > min_score].numpy()


def sorted_positions(table):
    return sorted(map(tuple, table[:, :2].round(2).tolist()))


def peaks_of(logits):
    return is_peak(F.pad(logits[None, None], (REACH_PX,) * 4, value=NOTHING))[0, 0].numpy()


def slow_table(found):
    """Rows of y, x, score and sigma as the docstring has them, pixel by pixel."""
    presence, dy, dx, log_sigma = found[0].numpy().astype("f8")
    presence, sigma = expit(presence), np.exp(log_sigma).clip(*SIGMA_LIMITS_PX)
    places = np.moveaxis(np.indices(presence.shape) + np.stack([dy, dx]), 0, 2)
    rows = []
    for y, x in np.argwhere(peaks_of(found[0, 0])):
        near = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        total = presence[near].sum()
        beside = presence[near].copy()
        beside[presence[near] == presence[y, x]] = 0
        if total > 1.5 and beside.max() > 0.4:
            ((other_y, other_x),) = np.argwhere(presence == beside.max())
            rows.append([*places[y, x], 1.0, sigma[y, x]])
            rows.append([*places[other_y, other_x], min(total - 1, 1.0), sigma[other_y, other_x]])
        else:
            position = (presence[near][..., None] * places[near]).sum((0, 1)) / total
            rows.append([*position, min(total, 1.0), sigma[y, x]])
    rows = np.array(rows)
    rows[:, :2] = rows[:, :2].clip(-0.5, np.array(presence.shape) - 0.5)
    return rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (48, 33)])
def test_table_is_what_it_says(shape, seed):
    """Maps of noise: peaks everywhere, also on the border, and offsets that point out of the frame."""
    rng = np.random.default_rng(seed)
    found = found_map(*rng.normal([[[-3]], [[0]], [[0]], [[-1]]], [[[2]], [[1]], [[1]], [[4]]], (4, *shape)))
    table = peak_table(found, torch.zeros(1, 1, *shape), k=512).numpy()
    wanted = slow_table(found)
    assert 60 < len(wanted) < 512
    assert not table[len(wanted) :].any()
    table = table[: len(wanted)]
    assert np.all(np.diff(table[:, 2]) <= 0)
    table, wanted = (rows[np.lexsort(rows[:, [2, 0, 1]].round(3).T)] for rows in (table[:, [0, 1, 2, 4]], wanted))
    np.testing.assert_allclose(table, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phase_y", [-0.5, -0.3, 0.0, 0.25, 0.49])
@pytest.mark.parametrize("phase_x", [-0.4, 0.1])
@pytest.mark.parametrize("sigma_px", [0.1, 0.3])
def test_position_is_subpixel(phase_y, phase_x, sigma_px):
    spot = (20 + phase_y, 31 + phase_x)
    (row,) = find(particles_at([spot], sigma_px=sigma_px))
    np.testing.assert_allclose(row[:2], spot, atol=0.02)


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5])
def test_score_is_the_probability_wherever_in_the_pixel(phase):
    (row,) = find(particles_at([(20 + phase, 30 + phase)], sure=0.8))
    assert row[2] == pytest.approx(0.8, abs=0.02)


def test_score_is_at_most_1():
    """Of three by three pixels that are each likely, the best two are taken: one a peak, one beside it."""
    row, _ = find(found_map(np.where(np.indices((40, 40)).max(0) == 0, 5.0, 4.0) * corner_of(3, (40, 40))))
    assert row[2] == pytest.approx(1, abs=1e-5)


def corner_of(size, shape):
    """1 in the first `size` rows and columns, -9 elsewhere."""
    return np.where(np.indices(shape).max(0) < size, 1.0, UNLIKELY)


def test_order_is_that_of_scores_not_of_peaks():
    """One on the border of two pixels is likelier than each of them says."""
    presence = np.full((40, 40), UNLIKELY)
    presence[10, 10] = logit(0.6)
    presence[30, 30], presence[30, 31] = logit(0.5), logit(0.4)
    found = find(found_map(presence))
    np.testing.assert_allclose(found[:, 2], [0.9, 0.6], atol=0.01)
    (best,) = find(found_map(presence), k=1)
    assert best[0] == pytest.approx(30, abs=0.01)


@pytest.mark.parametrize("log_sigma", [-np.inf, -100.0, -1.2, 2.0, 100.0])
def test_sigma_is_that_of_the_peak_within_limits(log_sigma):
    presence = np.full((40, 40), UNLIKELY)
    presence[10, 10] = 2.0
    maps = found_map(presence, log_sigma=np.where(presence > 0, log_sigma, -0.5))
    (row,) = find(maps)
    assert row[4] == pytest.approx(np.exp(log_sigma).clip(*SIGMA_LIMITS_PX), rel=1e-5)


@pytest.mark.parametrize("other", [(20, 31), (21, 30), (21, 31), (19, 30)])
def test_two_in_neighbouring_pixels_are_two(other):
    presence = np.full((40, 40), UNLIKELY)
    presence[20, 30], presence[other] = logit(0.9), logit(0.8)
    frame = torch.zeros(1, 1, 40, 40)
    frame[..., 20, 30] = 100.0
    table = peak_table(found_map(presence, dy=0.1, dx=-0.2), frame, k=8).numpy()
    np.testing.assert_allclose(table[:2, :2], np.add([(20, 30), other], (0.1, -0.2)), atol=1e-4)
    np.testing.assert_allclose(table[:2, 2], [1.0, 0.7], atol=0.01)
    np.testing.assert_allclose(table[:2, 3], [50.0, 50.0], rtol=1e-4)
    assert table[2:, 2].max() < 0.01


def test_one_between_two_pixels_is_one():
    presence = np.full((40, 40), UNLIKELY)
    presence[20, 30], presence[20, 31] = logit(0.55), logit(0.5)
    (row,) = find(found_map(presence))
    np.testing.assert_allclose(row[:2], (20, 30.48), atol=0.01)


def test_calibration_moves_scores_and_nothing_else():
    presence = np.full((48, 64), UNLIKELY)
    presence[10, 10], presence[30, 40], presence[40, 8] = logit(0.9), logit(0.5), logit(0.3)
    found, frame = found_map(presence), torch.zeros(1, 1, 48, 64)
    raw = peak_table(found, frame, k=3)
    scaled = peak_table(found, frame, k=3, calibration=Calibration(slope=1.5, sparse=9.0, shift=0.4))
    torch.testing.assert_close(scaled[:, [0, 1, 3, 4]], raw[:, [0, 1, 3, 4]])
    wanted = expit(1.5 * logit(raw[:, 2].double().numpy()) + 0.4)
    np.testing.assert_allclose(scaled[:, 2], wanted, atol=1e-4)  # far more than SPARSE_PER_PX are expected here


@pytest.mark.parametrize("n_others", [0, 13, 40])
def test_doubtful_peaks_count_less_where_little_else_is(n_others):
    presence = np.full((512, 512), -20.0)
    presence[100, 100] = logit(0.5)
    presence[200, 10 : 10 + 10 * n_others : 10] = logit(0.999)
    calibration = Calibration(slope=1.0, sparse=6.0, shift=0.0)
    table = peak_table(found_map(presence), torch.zeros(1, 1, 512, 512), k=64, calibration=calibration)
    expected = (n_others * (0.999 - LEAST_SUM) + 0.5 - LEAST_SUM) / (1 - LEAST_SUM) / 512**2
    below = np.log(np.clip(expected, SPARSEST_PER_PX, SPARSE_PER_PX) / SPARSE_PER_PX)
    assert float(table[n_others, 2]) == pytest.approx(expit(6.0 * below), rel=1e-3)


def test_a_single_bright_particle_is_sure():
    presence = np.full((512, 512), -20.0)
    presence[100, 100] = logit(0.999)
    calibration = Calibration(slope=1.0, sparse=6.0, shift=0.0)
    table = peak_table(found_map(presence), torch.zeros(1, 1, 512, 512), k=1, calibration=calibration)
    assert float(table[0, 2]) > 0.95


@pytest.mark.parametrize("distance_px", [2, 3])
@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1), (-1, 1)])
def test_close_spots_stay_two(distance_px, direction):
    first = np.array([20.0, 30.0])
    second = first + np.array(direction) * distance_px
    found = find(particles_at([first, second]))
    np.testing.assert_allclose(sorted_positions(found), sorted(map(tuple, (first, second))), atol=0.1)


@pytest.mark.parametrize(
    "pixels", [[(20, 30), (20, 31)], [(20, 30), (21, 30)], [(20, 30), (21, 31)], [(20, 31), (21, 30)]]
)
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_equal_neighbours_are_one_peak(pixels, shift):
    """In any place relative to the 2x2 blocks."""
    places = np.array(pixels) + shift
    presence = np.full((48, 64), UNLIKELY)
    presence[tuple(places.T)] = 0.0
    (row,) = find(found_map(presence))
    np.testing.assert_allclose(row[:2], places.mean(0), atol=0.01)


def test_plateau_is_a_peak_and_one_beside_it():
    presence = np.full((48, 64), UNLIKELY)
    presence[20:24, 30:35] = 3.0
    assert len(find(found_map(presence))) == 2


@given(arrays(np.int8, (9, 11), elements=st.integers(0, 3)))
def test_peaks_are_apart_and_every_maximum_has_one_near(values):
    """With few different values, so that ties are everywhere."""
    peaks = peaks_of(torch.from_numpy(values.astype("f4")))
    y, x = np.nonzero(peaks)
    apart = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x))
    assert np.all(apart[~np.eye(len(y), dtype=bool)] > REACH_PX)
    assert peaks.reshape(-1)[values.argmax()]  # the first of the largest values
    for row, column in zip(y, x, strict=True):
        assert values[row, column] == values[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].max()


@pytest.mark.parametrize("shape", [(32, 32), (33, 47), (48, 33)])
def test_spots_on_the_border_stay_in_the_frame(shape):
    bottom, right = shape[0] - 1, shape[1] - 1
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    sides = [(0, 15), (15, 0), (bottom, 15), (15, right)]
    found = find(particles_at(corners + sides, shape, sigma_px=0.1))
    np.testing.assert_allclose(sorted_positions(found), sorted(corners + sides), atol=0.02)


@pytest.mark.parametrize("offset", [-3.0, 3.0])
def test_no_position_beyond_the_frame(offset):
    presence = np.full((33, 40), UNLIKELY)
    presence[0, 0] = presence[32, 39] = 3.0
    found = find(found_map(presence, offset, offset))
    assert np.all((found[:, :2] >= -0.5) & (found[:, :2] <= (32.5, 39.5)))
    assert (-0.5, -0.5) in sorted_positions(found) or (32.5, 39.5) in sorted_positions(found)


def test_no_peaks():
    assert len(find(found_map(np.full((32, 32), NOTHING)), min_score=0.0)) == 0


def test_flat_map_is_a_peak_and_one_beside_it():
    assert len(find(found_map(np.zeros((33, 32))), min_score=0.0)) == 2


def test_the_best_of_more_than_k_come_first():
    spots = np.array([(4 * i + 2, 4 * j + 2) for i in range(8) for j in range(8)])
    order = np.random.default_rng(0).permutation(len(spots))
    presence = np.full((32, 32), UNLIKELY)
    presence[tuple(spots[order].T)] = 3.0 - 0.05 * np.arange(len(spots))
    found = find(found_map(presence), k=10, min_score=0.0)
    assert len(found) == 10
    np.testing.assert_allclose(found[:, :2], spots[order[:10]], atol=0.01)
    assert np.all(np.diff(found[:, 2]) < 0)


def test_k_may_exceed_the_pixels():
    table = peak_table(particles_at([(5, 6)], (32, 32)), torch.zeros(1, 1, 32, 32), k=2048)
    assert table.shape == (2048, 5)
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
