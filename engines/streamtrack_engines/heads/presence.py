"""The head ``presence``: each pixel says how likely it holds a particle, where in it, and how surely.

What differs from the paper of DENODET, and what it brought: ``docs/decisions/0004-detection-head.md``.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack.settings import NotNegative
from streamtrack_engines.heads.calibration import UNCALIBRATED, Calibration, calibrated
from streamtrack_engines.heads.head import Head, Points
from streamtrack_engines.heads.peaks import (
    NOTHING,
    REACH_PX,
    best,
    best_of_both,
    is_peak,
    mean_place,
    offsets,
    pick,
    spot_intensity,
    sum_3x3,
    table_rows,
    windows,
)
from streamtrack_engines.heads.presence_loss import position_loss, presence_loss
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

CHANNELS = ("presence", "dy", "dx", "log_sigma")
"""Logit of the probability that a particle's reference point lies in the pixel; where it lies then, from the pixel's
centre, px; logarithm of the standard deviation per axis, px, of a position found here."""

NOTHING_THERE = (-4.0, 0.0, 0.0, -1.0)
"""What the channels are at first."""

LEAST_SUM = 0.05
"""Peaks below say nothing about how many particles a frame holds."""

_CENTRE = (2 * REACH_PX + 1) ** 2 // 2  # of a window's pixels
_PAIR_SUM = 1.5  # chosen, with the next, on movies of their own: F1 of crowded frames rises by .005, no false pairs
_PAIR_PRESENCE = 0.4


class Presence(Head):
    """Each pixel says how likely it holds a particle, where in it, and how surely.

    Parameters
    ----------
    presence
        Weight of the cross-entropy of the presence. Its mean over all pixels is small: 1 in 500 holds a particle.
    position
        Weight of the likelihood of the positions.
    """

    bias = NOTHING_THERE
    uncalibrated = UNCALIBRATED

    def __init__(self, *, presence: NotNegative = 800.0, position: NotNegative = 0.5) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"presence": presence, "position": position}

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the presence, and the likelihood of the positions."""
        places = points.places
        presence = presence_loss(found[:, :1], places, points.presence)
        return {"presence": presence, "position": position_loss(found, places)}

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return `peak_table`."""
        return peak_table(found, frame, k=k, calibration=Calibration(*calibration), ring=self.ring)

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the sums of presence around peaks."""
        return calibrated(network, data, _scored, n_frames=n_frames, size_px=size_px)


def _scored(found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return y, x and sum of presence of the peaks of a frame, (N, 3), and its `expected_density`."""
    table = peak_table(found, frame, k=4000)
    return table[table[:, 2] > LEAST_SUM, :3], expected_density(peak_sums(found))


def peak_table(
    found: Tensor, frame: Tensor, *, k: int, calibration: Calibration = UNCALIBRATED, ring: Tensor | None = None
) -> Tensor:
    """Return the `k` likeliest particles of each tile of the frame, as `best` has them.

    The presence map is one of probabilities, and a particle near the edge of a pixel shares its probability with the
    neighbours: their sum around a peak is how many particles are to be expected there, and each neighbour has a say in
    where it is by its share (as in DECODE, Speiser et al., Nat. Methods 18 (2021) 1082). Where the sum is well above 1
    and a neighbour is likely by itself there are two, each where its own pixel says, with half of the intensity.

    Parameters
    ----------
    found
        Channels of `CHANNELS`, (1, 4, H, W) float32, H and W at least 6.
    frame
        The raw frame in counts, (1, 1, H, W) float32.
    k
        Number of rows for each tile.
    calibration
        What makes the score of the sum.
    ring
        As in `spot_intensity`.

    Returns
    -------
    Tensor
        (tiles * k, 5) float32, columns as `streamtrack_engines.heads.head.COLUMNS` has them: position in px, inside
        [-0.5, H - 0.5] and [-0.5, W - 0.5]; probability that a particle is there, 0 to 1; `spot_intensity` in counts;
        standard deviation of the position along each axis, px.
    """
    padded = F.pad(found, (REACH_PX,) * 4, value=NOTHING)
    peaks = _sums(padded[:, :1])
    y, x, total = best(peaks, k)
    near, dy, dx, log_sigma = windows(padded, y + REACH_PX, x + REACH_PX, REACH_PX)
    presence = torch.sigmoid(near)
    places = torch.stack([dy, dx], 2) + offsets(near)
    beside = torch.cat([presence[:, :_CENTRE], presence[:, _CENTRE + 1 :]], 1)
    second = beside.argmax(1)
    second = second + (second >= _CENTRE).to(second.dtype)
    is_pair = (total > _PAIR_SUM) & (beside.amax(1) > _PAIR_PRESENCE)
    first_place = torch.where(is_pair[:, None], places[:, _CENTRE], mean_place(presence, places))
    pixel = torch.stack([y, x], 1)
    intensity = spot_intensity(frame, y, x, ring) / torch.where(is_pair, 2.0, 1.0)
    density = expected_density(peaks)
    rows = [
        table_rows(
            pixel + first_place, calibration.probability(total, density), intensity, log_sigma[:, _CENTRE], frame
        ),
        table_rows(
            pixel + pick(places, second),
            torch.where(is_pair, calibration.probability(total - 1, density), 0.0),
            intensity,
            pick(log_sigma[:, :, None], second)[:, 0],
            frame,
        ),
    ]
    first, second = (torch.where((total > 0)[:, None], each, 0.0) for each in rows)
    return best_of_both(first, second, k)


def expected_density(peaks: Tensor) -> Tensor:
    """Return how many particles per pixel are to be expected, a scalar, from `peak_sums`; the least do not count.

    Without a step at `LEAST_SUM`, where two machines' rounding could decide otherwise.
    """
    return ((peaks - LEAST_SUM) / (1 - LEAST_SUM)).clamp(0.0, 1.0).mean()


def peak_sums(found: Tensor) -> Tensor:
    """Return the sum of presence around each peak, 0 elsewhere, for channels (1, 4, H, W) -> (1, 1, H, W)."""
    return _sums(F.pad(found[:, :1], (REACH_PX,) * 4, value=NOTHING))


def _sums(presence: Tensor) -> Tensor:
    """Return `peak_sums` for presence logits with a border, (1, 1, H + 2, W + 2)."""
    return torch.where(is_peak(presence), sum_3x3(torch.sigmoid(presence)), 0.0)
