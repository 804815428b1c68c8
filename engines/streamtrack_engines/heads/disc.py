"""The head ``disc``: each pixel says whether it lies within a few pixels of a particle.

As in DeepTrack 2 (Midtvedt et al., Appl. Phys. Rev. 8 (2021) 011310, section IV.4), whose connected components have no
fixed number: here the discs are looked for by what they look like.
"""

from collections.abc import Mapping
from math import log
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from streamtrack.settings import Positive
from streamtrack_engines.heads.calibration import UNCALIBRATED, UNKNOWN_ERROR_PX, Calibration, calibrated_with_error
from streamtrack_engines.heads.head import Head, Points
from streamtrack_engines.heads.peaks import (
    best,
    is_top,
    mean_place,
    offsets,
    spot_intensity,
    table_rows,
    windows,
)
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

_LEAST_SCORE = 0.05


class Disc(Head):
    """Each pixel says whether it lies within a few pixels of a particle (DeepTrack 2, section IV.4).

    Parameters
    ----------
    radius_px
        Of the disc.
    weight
        Weight of the pixels in discs over that of others, in the first phase of the training and after it.
    first_fraction
        So much of the training is the first phase.
    """

    bias = (-3.0,)
    uncalibrated = (*UNCALIBRATED, UNKNOWN_ERROR_PX)
    disc: Tensor

    def __init__(
        self,
        *,
        radius_px: Annotated[int, Field(ge=1, le=10)] = 3,
        weight: tuple[Positive, Positive] = (10.0, 1.0),
        first_fraction: Annotated[float, Field(ge=0, le=1)] = 0.09,
    ) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"disc": 1.0}
        self._radius_px, self._weight, self._first_fraction = radius_px, weight, first_fraction
        steps = torch.arange(-radius_px, radius_px + 1)
        disc = (steps[:, None] ** 2 + steps**2 <= radius_px**2).float()
        self.register_buffer("disc", (disc / disc.sum())[None, None], persistent=False)

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the pixels, those in discs with their weight."""
        target = render_discs(points.places, self._radius_px, len(found), *found.shape[-2:])
        weight = found.new_tensor(self._weight[int(fraction >= self._first_fraction)])
        return {"disc": F.binary_cross_entropy_with_logits(found, target, pos_weight=weight)}

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the discs: where the map is most like one, moved to the centre of its pixels nearby."""
        p = torch.sigmoid(found)
        peaks = self._peaks(p)
        y, x, total = best(peaks, k)
        reach = self._radius_px
        (near,) = windows(F.pad(p, (reach,) * 4), y + reach, x + reach, reach)
        place = torch.stack([y, x], 1) + mean_place(near, offsets(near, reach).expand(near.shape[0], -1, -1))
        score = Calibration(*calibration[:3]).probability(total, self._density(p))
        log_sigma = torch.full_like(total, log(calibration[3]))
        rows = table_rows(place, score, spot_intensity(frame, y, x, self.ring), log_sigma, frame)
        return torch.where((total > 0)[:, None], rows, 0.0)

    def _peaks(self, p: Tensor) -> Tensor:
        """Return how much of a disc is filled where that is most around, 0 elsewhere, (1, 1, H, W)."""
        filled = F.conv2d(p, self.disc, padding=self._radius_px)
        return torch.where(is_top(filled), filled, 0.0)

    def _density(self, p: Tensor) -> Tensor:
        """Return how many particles per pixel the map tells of."""
        return p.mean() * self.disc.max()

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the scores, and the standard deviation of the positions that are right."""
        return calibrated_with_error(network, data, self._scored, n_frames=n_frames, size_px=size_px)

    def _scored(self, found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table(found, frame, k=2000, calibration=self.uncalibrated)[:, :3]
        return table[table[:, 2] > _LEAST_SCORE], self._density(torch.sigmoid(found))


def render_discs(points: Tensor, radius_px: int, n_frames: int, height: int, width: int) -> Tensor:
    """Return 1 within a radius of a point (M, 3), else 0, (B, 1, H, W)."""
    steps = torch.arange(-radius_px, radius_px + 1, device=points.device)
    pixel = points[:, None, 1:].round().long() + torch.cartesian_prod(steps, steps)
    near = ((pixel - points[:, None, 1:]) ** 2).sum(2) <= radius_px**2
    inside = near & ((pixel >= 0) & (pixel < pixel.new_tensor([height, width]))).all(2)
    place = (points[:, :1].long() * height + pixel[..., 0]) * width + pixel[..., 1]
    target = torch.zeros(n_frames * height * width, device=points.device)
    target[place[inside]] = 1.0
    return target.view(n_frames, 1, height, width)
