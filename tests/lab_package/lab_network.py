"""A lab's own network and head, as small as they can be; the core and the training know neither."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from streamtrack.types import Column
from streamtrack_engines.heads.head import COLUMNS, Head
from streamtrack_engines.heads.peaks import NOTHING, best, is_peak, spot_intensity, table_rows, windows
from streamtrack_engines.heads.presence_loss import render_presence
from streamtrack_engines.networks.network import Network


class LabNet(Network):
    """Two convolutions; no image."""

    stride = 2

    def __init__(self, *, width: int = 8, head_bias: Sequence[float]) -> None:
        super().__init__()
        self.n_frames = 1
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, len(head_bias), 3, padding=1),
        )
        with torch.no_grad():
            self.layers[3].bias.copy_(torch.tensor(head_bias))

    def forward(self, seen):
        return None, self.layers(seen.to(self.layers[0].weight.dtype))


class LabHead(Head):
    """Particles are peaks, and each has a contrast, a column that nobody else has."""

    bias = (-4.0,)
    columns = (*COLUMNS, Column("contrast"))

    def __init__(self, *, weight: float = 100.0) -> None:
        super().__init__()
        self.weights = {"peaks": weight}

    def loss(self, found, points, fraction):
        target = render_presence(points.places, len(found), *found.shape[-2:])
        return {"peaks": F.binary_cross_entropy_with_logits(found, target)}

    def table(self, found, frame, *, k, calibration):
        border = F.pad(found, (1,) * 4, value=NOTHING)
        y, x, score = best(torch.where(is_peak(border), torch.sigmoid(found), 0.0), k)
        (near,) = windows(frame, y, x, 1)
        intensity = spot_intensity(frame, y, x, self.ring)
        rows = table_rows(torch.stack([y, x], 1).float(), score, intensity, torch.full_like(score, -1.0), frame)
        contrast = near.mean(1) / frame.mean()
        return torch.cat([rows, torch.where(score > 0, contrast, 0.0)[:, None]], 1)
