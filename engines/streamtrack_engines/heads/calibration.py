"""From sums of presence to probabilities: logistic regression on simulated frames (Platt, 1999).

What the network says of a pixel is right on average over its training, but a doubtful peak among many particles is more
often right than the same peak in a frame that shows nothing else. Its surroundings, all that a convolution sees, hardly
tell which it is: the frame does.
"""

from collections.abc import Callable, Iterator
from math import log
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamtrack.metrics.detection import match
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData, Truth, seeded

GATE_PX = 5.0
"""A detection is right if its partner in an optimal matching is nearer than this (Chenouard et al. 2014)."""

GATE_RADII = 2 / 3
"""So it is if that is nearer than this share of the typical radius in its frame, where radii are known."""

SPARSE_PER_PX = 7.5e-5
"""20 particles in 512x512 px."""

SPARSEST_PER_PX = 4.2e-5
"""11 particles in 512x512 px. With fewer, scores fall no further: a single bright particle must still be found."""

UNKNOWN_ERROR_PX = 0.5
"""Of positions of which nobody knows how right they are."""

_SEED = 3_000_017
_ERROR_SEED = 4_000_037
_NEWTON_STEPS = 40
_LEAST = 1e-6  # a probability of 1 has no logit

Values = NDArray[np.float64]

Scored = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From what is found (1, C, H, W) in a frame (1, 1, H, W) to y, x and sum of its peaks, (N, 3), and the density that
they tell of, a scalar."""


class Calibration(NamedTuple):
    """How a sum of presence around a peak becomes the probability that a particle is there.

    The logit of the sum times ``slope``, plus ``shift``, plus ``sparse`` times what the logarithm of the density that
    is expected (taken to be at least `SPARSEST_PER_PX`) is below that of `SPARSE_PER_PX`: a doubtful peak is worth less
    in a frame in which next to nothing is expected. Found by `calibrated`.
    """

    slope: float
    sparse: float
    shift: float

    def probability(self, total: Tensor, density: Tensor) -> Tensor:
        """Return the probability, 0 to 1, for sums of presence (any shape) in a frame of some density (scalar)."""
        logit, below = calibration_terms(total, density)
        return torch.sigmoid(self.slope * logit + (self.sparse * below + self.shift))


def calibration_terms(total: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``slope`` multiplies, as many as ``total``, and what ``sparse`` does, a scalar."""
    p = total.clamp(_LEAST, 1 - _LEAST)
    below = torch.log(density.clamp(SPARSEST_PER_PX, SPARSE_PER_PX)) - log(SPARSE_PER_PX)
    return torch.log(p) - torch.log(1 - p), below


UNCALIBRATED = Calibration(1.0, 0.0, 0.0)


@torch.inference_mode()
def calibrated(network: Network, data: TrainingData, scored: Scored, *, n_frames: int, size_px: int) -> Calibration:
    """Return the calibration of a trained network, on frames like those of its training but as large as a camera's.

    Every frame counts the same, however many peaks it has.
    """
    columns, right, weight = zip(*_frames(network, data, scored, n_frames, size_px), strict=True)
    weights = _logistic_regression(np.hstack(columns), np.concatenate(right), np.concatenate(weight))
    return Calibration(*map(float, weights))


def _frames(
    network: Network, data: TrainingData, scored: Scored, n_frames: int, size_px: int
) -> Iterator[tuple[Values, ...]]:
    """Yield the columns of the regression (3, N) for the N peaks of a frame, which are right (N,), and weights (N,)."""
    for index in range(n_frames):
        truth = seeded(data, (_SEED, index), 1, size_px, network.n_frames - 1)
        frames = torch.from_numpy(truth.noisy)
        peaks, density = scored(network.find(network.see(frames)), frames[:, -1:])
        right = np.zeros(len(peaks))
        right[match(truth.points[:, 1:], peaks[:, :2].numpy(), _gate_px(truth))[1]] = 1.0
        terms = calibration_terms(peaks[:, 2].double(), density.double())
        columns = np.stack([np.broadcast_to(term, len(peaks)) for term in (*terms, np.ones(1))])
        yield columns, right, np.full(len(peaks), 1 / max(len(peaks), 1))


def calibrated_with_error(
    network: Network, data: TrainingData, scored: Scored, *, n_frames: int, size_px: int
) -> tuple[float, ...]:
    """Return the factors of `calibrated`, and the standard deviation of the positions that are right, px.

    For heads that do not say of each position how right it is.
    """
    factors = calibrated(network, data, scored, n_frames=n_frames, size_px=size_px)
    return (*factors, _error_px(network, data, scored, n_frames=max(1, n_frames // 10), size_px=size_px))


@torch.inference_mode()
def _error_px(network: Network, data: TrainingData, scored: Scored, *, n_frames: int, size_px: int) -> float:
    """Return the root mean square error per axis, px, of the detections that are more likely right than wrong."""
    errors = [np.empty(0)]
    for index in range(n_frames):
        truth = seeded(data, (_ERROR_SEED, index), 1, size_px, network.n_frames - 1)
        frames = torch.from_numpy(truth.noisy)
        peaks, _ = scored(network.find(network.see(frames)), frames[:, -1:])
        sure = peaks[peaks[:, 2] > 0.5, :2].numpy()
        errors.append(match(truth.points[:, 1:], sure, GATE_PX)[2])
    distances = np.concatenate(errors)
    return float(np.sqrt(np.mean(distances**2) / 2)) if len(distances) else UNKNOWN_ERROR_PX


def _gate_px(truth: Truth) -> float:
    radii = truth.known.get("radius_px", np.empty(0))
    known = radii[np.isfinite(radii)]
    return max(GATE_PX, GATE_RADII * float(np.median(known))) if len(known) else GATE_PX


def _logistic_regression(columns: Values, right: Values, weight: Values) -> Values:
    """Return the factors of the columns (C, N) for which the weighted likelihood of ``right`` (N,) is highest."""
    factors = np.zeros(len(columns))
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-(factors @ columns)))
        curvature = (columns * (weight * p * (1 - p))) @ columns.T + 1e-9 * np.eye(len(factors))
        factors += np.linalg.solve(curvature, columns @ (weight * (right - p)))
    return factors
