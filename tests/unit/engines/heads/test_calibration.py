"""Scores become probabilities, also those of a network that is wrong about itself."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from streamtrack_engines.heads.calibration import Calibration, _logistic_regression
from streamtrack_engines.heads.presence import Presence
from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.training_data.crops import Crops


def test_regression_finds_the_factors_that_made_the_data():
    rng = np.random.default_rng(0)
    columns = np.stack([rng.normal(0, 2, 40_000), rng.normal(-1, 1, 40_000), np.ones(40_000)])
    right = (rng.random(40_000) < expit(np.array([1.4, -0.5, 0.3]) @ columns)).astype(float)

    factors = _logistic_regression(columns, right, np.ones(40_000))

    assert factors == pytest.approx([1.4, -0.5, 0.3], abs=0.06)


def test_weights_are_those_of_repeated_rows():
    rng = np.random.default_rng(1)
    columns = np.stack([rng.normal(0, 1, 300), np.ones(300)])
    right = rng.integers(0, 2, 300).astype(float)
    weight = rng.integers(1, 4, 300)

    repeated = _logistic_regression(np.repeat(columns, weight, 1), np.repeat(right, weight), np.ones(weight.sum()))

    assert _logistic_regression(columns, right, weight.astype(float)) == pytest.approx(repeated, abs=1e-6)


class Overconfident(Denodet):
    """Sees particles with probability 0.8 in one pixel of a hundred, wherever they are."""

    def find(self, x):
        found = super().find(x)
        rng = np.random.default_rng(int(x.abs().sum()))
        seen = torch.from_numpy(rng.random(x.shape[-2:]) < 0.01)
        found[:, 0] = torch.where(seen, 1.386, -12.0)
        return found


def test_calibrated_scores_say_how_often_they_are_right():
    data = Crops(density=(60.0, 60.0), low_density_fraction=0.0, empty_fraction=0.0, camera_fraction=0.0)

    network = Overconfident(head_bias=Presence.bias).eval()
    calibration = Presence().calibrate(network, data, n_frames=4, size_px=128)

    score = float(Calibration(*calibration).probability(torch.tensor(0.8), torch.tensor(0.008)))
    assert score < 0.1  # a particle within 5 px of any place is rare: 60 x 79 / 512^2
