"""The head ``patch``: the middle of each patch is a spot, or is not (Mabaso et al., detectSpot).

The paper's overlap suppression is a peak of the scores: of all patches nearby, that with the highest is kept.
"""

from collections.abc import Mapping
from math import log
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from streamtrack.settings import Positive
from streamtrack_engines.heads.calibration import (
    SPARSE_PER_PX,
    UNCALIBRATED,
    UNKNOWN_ERROR_PX,
    Calibration,
    calibrated_with_error,
)
from streamtrack_engines.heads.disc import render_discs
from streamtrack_engines.heads.head import Head, Points
from streamtrack_engines.heads.peaks import best, is_top, mean_place, offsets, spot_intensity, table_rows, windows
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

_LEAST_SCORE = 0.5  # of two classes that are as frequent in the training
_SOFTER = 4.0  # times: where a softmax is nearly 1, float32 holds little of what was said
_CENTROID_PX = 4  # with every third or fourth patch looked at, those on all sides of the best


class Patch(Head):
    """Each pixel says whether a spot is in the middle of the patch around it, by the softmax of two channels.

    Parameters
    ----------
    centre_px
        A spot within this distance of a pixel is in the middle of its patch.
    clear_px
        Without a spot within this distance, a patch has none; what lies between is not learnt from.
    apart_px
        Of patches no farther apart than this, along y or x, the one with the highest score is kept.
    """

    bias = (0.0, 0.0)
    uncalibrated = (*UNCALIBRATED, UNKNOWN_ERROR_PX)

    def __init__(
        self,
        *,
        centre_px: Annotated[int, Field(ge=1, le=10)] = 2,
        clear_px: Annotated[int, Field(ge=1, le=30)] = 14,
        apart_px: Annotated[int, Field(ge=2, le=14)] = 5,
    ) -> None:
        super().__init__()
        self.weights: Mapping[str, Positive] = {"patches": 1.0}
        self.beyond_px = float(clear_px)
        self._centre_px, self._clear_px, self._apart_px = centre_px, clear_px, apart_px

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the cross-entropy; patches with a spot count as much as those without, however many there are."""
        near, around = (
            render_discs(points.places, reach, len(found), *found.shape[-2:])[:, 0] > 0
            for reach in (self._centre_px, self._clear_px)
        )
        known = found[:, 0].isfinite()
        parts = [_entropy(found, near & known, 1), _entropy(found, ~around & known, 0)]
        return {"patches": (parts[0] + parts[1]) / 2}

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the patches that score most around, moved to the centroid of the log odds nearby."""
        odds = found[:, 1:] - found[:, :1]
        p = torch.sigmoid(odds / _SOFTER)
        certain = Calibration(*calibration[:3]).probability(p, p.new_tensor(SPARSE_PER_PX))
        y, x, score = best(torch.where(is_top(odds, self._apart_px) & (p > _LEAST_SCORE), certain, 0.0), k)
        reach = _CENTROID_PX
        (near,) = windows(F.pad(F.relu(odds), (reach,) * 4), y + reach, x + reach, reach)
        place = torch.stack([y, x], 1) + mean_place(near, offsets(near, reach).expand(near.shape[0], -1, -1))
        log_sigma = torch.full_like(score, log(calibration[3]))
        return table_rows(place, score, spot_intensity(frame, y, x, self.ring), log_sigma, frame)

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the scores, and the standard deviation of the positions that are right."""
        return calibrated_with_error(network, data, self._scored, n_frames=n_frames, size_px=size_px)

    def _scored(self, found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table(found, frame, k=2000, calibration=self.uncalibrated)[:, :3]
        # How many spots there are says nothing of a single patch.
        return table[table[:, 2] > 0], torch.tensor(SPARSE_PER_PX)


def _entropy(found: Tensor, which: Tensor, kind: int) -> Tensor:
    """Return the mean cross-entropy of some patches (B, H, W) that are of a kind; 0 without any."""
    logits = found.movedim(1, -1)[which]
    total = F.cross_entropy(logits, torch.full_like(logits[:, 0], kind, dtype=torch.long), reduction="sum")
    return total / max(len(logits), 1)
