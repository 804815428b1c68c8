"""The head ``enhanced``: an image in which all spots are equally bright, and the spots that it shows.

DeepSpot's (Bouilhol et al., Biological Imaging 2 (2022) e4): learnt is the frame itself with a small kernel of fixed
values at each spot. ``docs/decisions/0037-deepspot.md`` says why the spots are read from it as they are.
"""

from collections.abc import Mapping
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack.settings import NotNegative
from streamtrack_engines.heads.calibration import (
    SPARSE_PER_PX,
    UNCALIBRATED,
    UNKNOWN_ERROR_PX,
    Calibration,
    calibrated_with_error,
)
from streamtrack_engines.heads.head import Head, Points
from streamtrack_engines.heads.peaks import (
    NOTHING,
    best,
    is_peak,
    mean_place,
    offsets,
    spot_intensity,
    sum_3x3,
    table_rows,
    windows,
)
from streamtrack_engines.networks.network import Network
from streamtrack_engines.networks.scaling import unit_range
from streamtrack_engines.training_data.truth import TrainingData

KERNEL = ((200.0, 230.0, 200.0), (230.0, 255.0, 230.0), (200.0, 230.0, 200.0))
"""Of each spot in the image to learn, of `FULL`."""

FULL = 255.0
"""What the image's pixels have at most."""

_KERNEL_MEAN = sum(map(sum, KERNEL)) / 9 / FULL
_LEAST_SCORE = 0.05
_AROUND_PX = 3
_LEAST_RISE = 0.02  # of the kernel above the ground: less could be anything


class Enhanced(Head):
    """The channel is an image, all spots of which are equally bright whatever their light, on the ground as it was.

    A spot's score is what lies in its 3x3 pixels, above the ground beside it, as a share of what the kernel would have
    there; calibrated, how likely it is that it is one.

    Parameters
    ----------
    enhanced, brightest
        Weights of the cross-entropy of the image and of the squared error of its brightest pixel.
    """

    bias = (-1.2,)
    uncalibrated = (*UNCALIBRATED, UNKNOWN_ERROR_PX)
    image = "enhanced"

    def __init__(self, *, enhanced: NotNegative = 1.0, brightest: NotNegative = 1.0) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"enhanced": enhanced, "brightest": brightest}

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the cross-entropy of the image, and the squared error of the brightest pixel of each crop."""
        if points.frame is None:
            raise ValueError("an enhanced image is learnt from the frame")
        target = enhanced(points.frame, points.places)
        brightest, wanted = (each.amax((1, 2, 3)) for each in (torch.sigmoid(found), target))
        image = F.binary_cross_entropy_with_logits(found, target)
        return {"enhanced": image, "brightest": F.mse_loss(brightest, wanted)}

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the peaks of the image, moved to the centre of the light in their 3x3 pixels."""
        p = torch.sigmoid(found)
        y, x, likeness = best(self._peaks(p), k)
        (near,) = windows(p, y, x, 1)
        light = near - near.amin(1, keepdim=True)
        place = torch.stack([y, x], 1) + mean_place(light, offsets(near).expand(near.shape[0], -1, -1))
        score = Calibration(*calibration[:3]).probability(likeness, likeness.new_tensor(SPARSE_PER_PX))
        log_sigma = torch.full_like(likeness, log(calibration[3]))
        rows = table_rows(place, score, spot_intensity(frame, y, x, self.ring), log_sigma, frame)
        return torch.where((likeness > _LEAST_SCORE)[:, None], rows, 0.0)

    @staticmethod
    def _peaks(p: Tensor) -> Tensor:
        """Return how like the kernel what lies around the peaks of an image (1, 1, H, W) is, 0 elsewhere."""
        mean = sum_3x3(F.pad(p, (1,) * 4, mode="replicate")) / 9
        width = 2 * _AROUND_PX + 1
        ground = -F.max_pool2d(-mean, width, 1, _AROUND_PX)
        likeness = (mean - ground) / (_KERNEL_MEAN - ground).clamp(min=_LEAST_RISE)
        peak = is_peak(F.pad(p, (1,) * 4, value=NOTHING))
        return torch.where(peak, likeness.clamp(0.0, 1.0), 0.0)

    def picture(self, found: Tensor, frame: Tensor, *, calibration: tuple[float, ...]) -> Tensor:
        """Return the enhanced image of a frame (1, 1, H, W), 0 to `FULL`."""
        return FULL * torch.sigmoid(found)

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the scores, and the standard deviation of the positions that are right."""
        return calibrated_with_error(network, data, self._scored, n_frames=n_frames, size_px=size_px)

    def _scored(self, found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table(found, frame, k=2000, calibration=self.uncalibrated)[:, :3]
        # How many spots there are says nothing of a single one.
        return table[table[:, 2] > _LEAST_SCORE], torch.tensor(SPARSE_PER_PX)


def enhanced(frame: Tensor, places: Tensor) -> Tensor:
    """Return frames (B, 1, H, W), 0 to 1, with `KERNEL` at the pixels of places (M, 3), where all else is as it was.

    Where kernels overlap, the brighter value counts.
    """
    n, _, height, width = frame.shape
    steps = torch.arange(-1, 2, device=frame.device)
    value = torch.tensor(KERNEL, device=frame.device).reshape(-1) / FULL
    pixel = places[:, None, 1:].round().long() + torch.cartesian_prod(steps, steps)
    inside = ((pixel >= 0) & (pixel < pixel.new_tensor([height, width]))).all(2)
    index = (places[:, :1].long() * height + pixel[..., 0]) * width + pixel[..., 1]
    spots = torch.zeros(n * height * width, device=frame.device)
    spots.scatter_reduce_(0, index[inside], value.expand(len(places), -1)[inside], "amax")
    spots = spots.view(n, 1, height, width)
    return torch.where(spots > 0, spots, unit_range(frame))
