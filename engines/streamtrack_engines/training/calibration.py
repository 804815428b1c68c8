"""From sums of presence to probabilities: logistic regression on simulated frames (Platt, 1999).

What the network says of a pixel is right on average over its training, but a doubtful peak among many particles is more
often right than the same peak in a frame that shows nothing else. Its surroundings, all that a convolution sees, hardly
tell which it is: the frame does.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from streamtrack.metrics.detection import match
from streamtrack.simulation.crops import CropRanges, sample_crops
from streamtrack_engines.networks import Network
from streamtrack_engines.peaks import LEAST_SUM, Calibration, calibration_terms, expected_density, peak_sums, peak_table

GATE_PX = 5.0
"""A detection is right if its partner in an optimal matching is nearer than this (Chenouard et al. 2014)."""

_SEED = 3_000_017
_MAX_DETECTIONS = 4000
_NEWTON_STEPS = 40

Values = NDArray[np.float64]


@torch.inference_mode()
def calibrate(network: Network, ranges: CropRanges, *, n_frames: int, size_px: int) -> Calibration:
    """Return the calibration of a trained network, on frames like those of its training but as large as a camera's.

    Every frame counts the same, however many peaks it has.
    """
    columns, right, weight = zip(*_frames(network, ranges, n_frames, size_px), strict=True)
    weights = _logistic_regression(np.hstack(columns), np.concatenate(right), np.concatenate(weight))
    return Calibration(*map(float, weights))


def _frames(network: Network, ranges: CropRanges, n_frames: int, size_px: int) -> Iterator[tuple[Values, ...]]:
    """Yield the columns of the regression (3, N) for the N peaks of a frame, which are right (N,), and weights (N,)."""
    for index in range(n_frames):
        rng = np.random.default_rng((_SEED, index))
        crops = sample_crops(rng, 1, size_px, ranges, n_before=network.n_frames - 1)
        frames = torch.from_numpy(crops.noisy)
        found = network.find(network.see(frames))
        table = peak_table(found, frames[:, -1:], k=_MAX_DETECTIONS)
        table = table[table[:, 2] > LEAST_SUM]
        right = np.zeros(len(table))
        right[match(crops.points[:, 1:], table[:, :2].numpy(), GATE_PX)[1]] = 1.0
        terms = calibration_terms(table[:, 2].double(), expected_density(peak_sums(found)).double())
        columns = np.stack([np.broadcast_to(term, len(table)) for term in (*terms, np.ones(1))])
        yield columns, right, np.full(len(table), 1 / max(len(table), 1))


def _logistic_regression(columns: Values, right: Values, weight: Values) -> Values:
    """Return the factors of the columns (C, N) for which the weighted likelihood of ``right`` (N,) is highest."""
    factors = np.zeros(len(columns))
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(factors @ columns)))
        curvature = (columns * (weight * p * (1 - p))) @ columns.T + 1e-9 * np.eye(len(factors))
        factors += np.linalg.solve(curvature, columns @ (weight * (right - p)))
    return factors
