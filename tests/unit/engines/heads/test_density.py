"""The map of particles that are known counts these particles, whatever part of a frame they lie in."""

import numpy as np
import pytest
import torch

from streamtrack_engines.heads.density import STEP_PX, Density
from streamtrack_engines.heads.head import Points
from streamtrack_engines.training_data.truth import Truth

PLACES = torch.tensor([[0.0, 20.0, 24.3], [0.0, 50.4, 90.0], [1.0, 90.5, 30.5]])
CHANNEL = torch.zeros(2, 1, 64, 64)


def test_a_gaussian_counts_as_much_as_lies_in_the_crop():
    head = Density(spread_px=4.0)
    places = torch.tensor([[0.0, 64.0, 64.0], [0.0, 64.0, -0.5], [1.0, 127.5, 127.5], [1.0, 64.0, 140.0]])
    np.testing.assert_allclose(head.counts(places, CHANNEL), [1.5, 0.25], atol=2e-3)
    y, x = np.indices((128, 128))
    gaussian = np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / 32) / (2 * np.pi * 16)
    cells = gaussian.reshape(64, 2, 64, 2).mean((1, 3)) * 1000
    np.testing.assert_allclose(head.render(places[:1], CHANNEL)[0, 0], cells, atol=0.05)


@pytest.mark.parametrize("shape", [(128, 128), (127, 101), (513, 40)])
def test_count_and_picture_agree_for_frames_of_any_size(shape):
    head = Density()
    places = torch.tensor([[0.0, 20.0, 24.3], [0.0, 50.4, 90.0], [0.0, 400.0, 20.0]])
    found = head.render(places, torch.zeros(1, 1, 272, 64))
    frame = torch.rand(1, 1, *shape)
    table = head.table(found, frame, k=2, calibration=(1.5, 0.5))
    n_tiles = 2 if shape[0] > 512 else 1
    assert table.shape == (2 * n_tiles, 7)
    assert not table[1::2].any()
    tiles = table[::2].double()
    picture = head.picture(found, frame, calibration=(1.5, 0.5))
    assert picture.shape == frame.shape
    assert float(tiles[:, 5].sum()) == pytest.approx(float(picture.sum()), rel=1e-4)
    np.testing.assert_allclose(tiles[:, 6], 0.5 * torch.sqrt(tiles[:, 5] + 1), rtol=1e-4)
    assert float(tiles[:, 3].sum()) == pytest.approx(float((frame - frame.min()).sum()), rel=1e-4)


def test_a_row_is_the_middle_of_what_it_counts():
    head = Density(spread_px=3.0)
    frame = torch.zeros(1, 1, 128, 128)
    (row,) = head.table(head.render(PLACES[:2], CHANNEL[:1]), frame, k=1, calibration=head.uncalibrated)
    np.testing.assert_allclose(row[:2], PLACES[:2, 1:].mean(0), atol=0.02)
    np.testing.assert_allclose(row[[2, 5, 6]], [1, 2, 0], atol=1e-3)
    assert not head.table(CHANNEL[:1], frame, k=1, calibration=head.uncalibrated).any()


def test_the_loss_is_least_for_the_truth():
    head = Density()
    true = head.render(PLACES, CHANNEL)
    assert all(float(term) == 0 for term in head.loss(true, Points(PLACES), 0.5).values())
    wrong = head.loss(1.1 * true, Points(PLACES), 0.5)
    n = head.counts(PLACES, CHANNEL)
    assert float(wrong["count"]) == pytest.approx(float((0.1 * n / torch.sqrt(n + 1)).mean()), rel=1e-3)
    assert float(wrong["density"]) == pytest.approx(0.1 * float(true.mean()), rel=1e-3)


class _Half:
    """Training data and network: frames that show a map, of which the network sees one half."""

    n_frames = 1

    def held_out(self, seed, n, size_px, n_before):
        yield "own", self._crops(np.random.default_rng(seed), n, size_px)
        yield "others", None

    def _crops(self, rng, n, size_px):
        points = np.column_stack([np.arange(8) % n, rng.uniform(0, size_px, (8, 2))]).astype(np.float32)
        channel = torch.zeros(n, 1, size_px // STEP_PX, size_px // STEP_PX)
        shown = Density().render(torch.from_numpy(points), channel)
        return Truth(shown.repeat_interleave(2, 2).repeat_interleave(2, 3).numpy(), points)

    def see(self, frames):
        return frames

    def find(self, seen):
        return seen[..., ::2, ::2] / 2


def test_counts_are_right_on_average_once_calibrated():
    half = _Half()
    scale, spread = Density().calibrate(half, half, n_frames=3, size_px=64)
    assert scale == pytest.approx(2, rel=1e-4)
    assert spread == pytest.approx(0, abs=1e-3)
