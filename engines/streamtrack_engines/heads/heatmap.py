"""The head ``heatmap``: a heat map with a Gaussian on each particle, and coordinates by its soft-argmax.

What DENODET is printed with (Yao et al., section III.B): the differentiable spatial to numerical transform (DSNT,
Nibali et al., arXiv:1801.07372), which is made for one point. How it is read for a frame full of them:
``docs/decisions/0003-denodet-loss.md``.
"""

from collections.abc import Mapping
from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack.settings import NotNegative
from streamtrack_engines.heads.calibration import UNCALIBRATED, UNKNOWN_ERROR_PX, Calibration, calibrated_with_error
from streamtrack_engines.heads.head import Head, Points
from streamtrack_engines.heads.peaks import (
    NOTHING,
    REACH_PX,
    best,
    is_peak,
    mean_place,
    offsets,
    spot_intensity,
    table_rows,
    windows,
)
from streamtrack_engines.heads.presence_loss import gathered
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

SIGMA_PX = 1.0
"""Of the Gaussian that the map shows at each particle (the paper's, and DSNT's)."""

WINDOW_REACH_PX = 2
"""The softmax over the pixels this near to a peak along each axis, 5x5, gives its position."""

FOREGROUND_WEIGHT = 9.0
"""A pixel at a particle's centre counts 1 + this times as much as one of the background: there are so few of them."""

_RENDER_REACH_PX = 4  # the Gaussian is 3e-4 there
_LEAST_SCORE = 0.05
_EPSILON = 1e-6


class HeatMap(Head):
    """A heat map with a Gaussian on each particle, and coordinates by its soft-argmax, as DENODET is printed.

    Parameters
    ----------
    coordinate
        Weight of the distance between coordinates found and true.
    divergence
        Weight of the Jensen-Shannon divergence between map and Gaussians: 1 in the paper. The mean over all pixels,
        as it is here, is small: 1 in 500 holds a particle.
    """

    bias = (-2.0,)
    uncalibrated = (*UNCALIBRATED, UNKNOWN_ERROR_PX)

    def __init__(self, *, coordinate: NotNegative = 1.0, divergence: NotNegative = 20.0) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"coordinate": coordinate, "divergence": divergence}

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the mean distance of the coordinates, and the divergence of the map."""
        heat = render_heat(points.places, len(found), *found.shape[-2:])
        return {"coordinate": coordinate_loss(found, points.places), "divergence": divergence_loss(found, heat)}

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the peaks of the map, moved to the soft-argmax of the pixels nearby."""
        heat = torch.sigmoid(found)
        peaks = torch.where(is_peak(F.pad(found, (REACH_PX,) * 4, value=NOTHING)), heat, 0.0)
        y, x, height = best(peaks, k)
        reach = WINDOW_REACH_PX
        (near,) = windows(F.pad(found, (reach,) * 4, value=NOTHING), y + reach, x + reach, reach)
        shift = mean_place(torch.softmax(near, 1), offsets(near, reach).expand(near.shape[0], -1, -1))
        score = Calibration(*calibration[:3]).probability(height, _density(heat))
        log_sigma = torch.full_like(height, log(calibration[3]))
        place = torch.stack([y, x], 1) + shift
        rows = table_rows(place, score, spot_intensity(frame, y, x, self.ring), log_sigma, frame)
        return torch.where((height > 0)[:, None], rows, 0.0)

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the scores, and the standard deviation of the positions that are right."""
        return calibrated_with_error(network, data, self._scored, n_frames=n_frames, size_px=size_px)

    def _scored(self, found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table(found, frame, k=2000, calibration=self.uncalibrated)[:, :3]
        return table[table[:, 2] > _LEAST_SCORE], _density(torch.sigmoid(found))


def _density(heat: Tensor) -> Tensor:
    """Return how many particles per pixel a map tells of, a scalar."""
    return heat.mean() / (2 * pi * SIGMA_PX**2)


def render_heat(points: Tensor, n_frames: int, height: int, width: int) -> Tensor:
    """Return Gaussians of `SIGMA_PX` with peak 1 at sub-pixel points (M, 3), (B, 1, H, W); the brightest wins."""
    steps = torch.arange(-_RENDER_REACH_PX, _RENDER_REACH_PX + 1, device=points.device)
    frame, position = points[:, 0].long(), points[:, 1:]
    pixels = position.round().long()[:, None, :] + steps[None, :, None]  # (M, 9, 2): rows and columns near each point
    profile = torch.exp(-((pixels - position[:, None, :]) ** 2) / (2 * SIGMA_PX**2))
    values = profile[:, :, None, 0] * profile[:, None, :, 1]
    rows, columns = pixels[:, :, None, 0], pixels[:, None, :, 1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = ((frame[:, None, None] * height + rows) * width + columns)[inside]
    heat = torch.zeros(n_frames * height * width, device=points.device)
    return heat.scatter_reduce_(0, places, values[inside], "amax").view(n_frames, 1, height, width)


def coordinate_loss(logit: Tensor, points: Tensor) -> Tensor:
    """Return the mean distance between soft-argmax and truth, in half windows.

    Parameters
    ----------
    logit
        (B, 1, H, W). The window lies on the strongest pixel within 1 px of the true one, as it does in deployment,
        where the truth is not known.
    points
        (M, 3): crop, y, x. Those beyond the frame are left out.
    """
    reach = WINDOW_REACH_PX
    border = reach + 1
    padded = F.pad(logit, (border,) * 4, value=NOTHING)
    rounded = points[:, 1:].round().long()
    inside = ((rounded >= 0) & (rounded < rounded.new_tensor(logit.shape[-2:]))).all(1)
    frame, rounded, true = points[inside, 0].long(), rounded[inside], points[inside, 1:]
    beside = offsets(logit, 1).long()
    centre = rounded + beside[gathered(padded.detach(), frame, rounded, beside, border)[:, 0].argmax(1)]
    window = offsets(logit, reach)
    near = gathered(padded, frame, centre, window.long(), border)[:, 0]
    found = centre + torch.softmax(near, 1) @ window
    distance = torch.sqrt(((found - true) ** 2).sum(1) + _EPSILON)
    return distance.sum() / max(len(found), 1) / (reach + 0.5)


def divergence_loss(logit: Tensor, heat: Tensor) -> Tensor:
    """Return the mean `bernoulli_jsd` of heat map and reference, centres weighted by 1 + `FOREGROUND_WEIGHT`."""
    return ((1 + FOREGROUND_WEIGHT * heat) * bernoulli_jsd(torch.sigmoid(logit), heat)).mean()


def bernoulli_jsd(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of "particle or not" under p and under q, per pixel, 0 to log 2."""
    middle = (p + q) / 2
    return (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clamp(min=0)


def _entropy(p: Tensor) -> Tensor:
    p = p.clamp(_EPSILON, 1 - _EPSILON)
    return -(p * p.log() + (1 - p) * (-p).log1p())
