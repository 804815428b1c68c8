"""The loss of the head ``presence``.

The paper's L_DET (DSNT, Nibali et al., arXiv:1801.07372) is made for one particle. For a frame full of them each pixel
says how likely it holds one, where, and how surely (as in DECODE, Speiser et al., Nat. Methods 18 (2021) 1082):
``docs/decisions/0004-detection-head.md``.
"""

from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack_engines.heads.peaks import NOTHING

LOG_SIGMA_LIMITS = (-3.5, 1.5)
"""Positions are never taken for better than 0.03 px or worse than 4.5 px, so that no single one rules the loss."""

_OUTLIERS = 0.01
_OUTLIER_AREA_PX2 = 25.0
_EPSILON = 1e-6
_TAUGHT = 0.7  # the weight of another network's word, where it is the better one
_REACH_PX = 2  # a window of 3x3 pixels whose centre lies within 1 px of the reference


def render_presence(points: Tensor, n_frames: int, height: int, width: int) -> Tensor:
    """Return 1 in the pixels that hold a point (M, 3), else 0, (B, 1, H, W)."""
    frame, row, column = points.round().long().T
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    presence = torch.zeros(n_frames * height * width, device=points.device)
    presence[((frame * height + row) * width + column)[inside]] = 1.0
    return presence.view(n_frames, 1, height, width)


def presence_loss(logit: Tensor, points: Tensor, taught: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over the pixels (B, 1, H, W), unweighted: its optimum is the probability itself.

    Where another network's logits ``taught`` are nearer to the truth of a crop, they count for `_TAUGHT` of it.
    """
    truth = render_presence(points, len(logit), *logit.shape[-2:])
    if taught is not None:
        ours, theirs = (_by_crop(each, truth) for each in (logit.detach(), taught))
        weight = torch.where(theirs < ours, _TAUGHT, 0.0)
        truth = torch.lerp(truth, torch.sigmoid(taught), weight)
    return F.binary_cross_entropy_with_logits(logit, truth)


def _by_crop(logit: Tensor, truth: Tensor) -> Tensor:
    """Return the mean cross-entropy of each crop, (B, 1, 1, 1)."""
    return F.binary_cross_entropy_with_logits(logit, truth, reduction="none").mean((1, 2, 3), keepdim=True)


def found_positions(found: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the deployed peak finder would say of each point, if its peak is within 1 px of it.

    Parameters
    ----------
    found
        (B, 4, H, W), channels of the head.
    points
        (M, 3): crop, y, x. Those beyond the frame are left out.

    Returns
    -------
    position, log_sigma, score, reference
        (K, 2) px, (K,), (K,) and (K, 2) px. No gradient reaches the presence map through them: what it says is
        probabilities, and `presence_loss` alone shall decide them.
    """
    height, width = found.shape[-2:]
    rounded = points[:, 1:].round().long()
    keep = ((rounded >= 0) & (rounded < torch.tensor([height, width], device=points.device))).all(1)
    frame, rounded, reference = points[keep, 0].long(), rounded[keep], points[keep, 1:]
    logit = F.pad(found[:, :1].detach(), (_REACH_PX,) * 4, value=NOTHING)
    offset = F.pad(found[:, 1:], (_REACH_PX,) * 4)
    near = _window(points.device)
    centre = rounded + near[gathered(logit, frame, rounded, near)[:, 0].argmax(1)]
    probability = torch.sigmoid(gathered(logit, frame, centre, near)[:, 0])
    shift = gathered(offset, frame, centre, near)
    pixel = (centre[:, None] + near).to(shift.dtype)
    score = probability.sum(1)
    weight = probability / score.clamp(min=_EPSILON)[:, None]
    position = (weight[..., None] * (pixel + shift[:, :2].transpose(1, 2))).sum(1)
    return position, shift[:, 2, len(near) // 2], score.clamp(max=1), reference


def _window(device: torch.device) -> Tensor:
    steps = torch.arange(-1, 2, device=device)
    return torch.cartesian_prod(steps, steps)


def gathered(padded: Tensor, frame: Tensor, centre: Tensor, offsets: Tensor, border: int = _REACH_PX) -> Tensor:
    """Return (K, C, n) values of the maps at every centre (of the map before its padding) plus every offset."""
    place = centre[:, None, :] + offsets + border
    return padded[frame[:, None], :, place[..., 0], place[..., 1]].transpose(1, 2)


def position_loss(found: Tensor, points: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the points, given the found positions and sigmas.

    A position is Gaussian, but for one in a hundred that lies anywhere in 5x5 px: without these a single particle that
    was taken for its neighbour would outweigh all others of the batch. Points count as much as their particle is seen:
    positions of what is not detected are of no use.
    """
    position, log_sigma, score, reference = found_positions(found, points)
    log_sigma = log_sigma.clamp(*LOG_SIGMA_LIMITS)
    squared = ((position - reference) ** 2).sum(1)
    gaussian = log((1 - _OUTLIERS) / (2 * pi)) - 2 * log_sigma - squared / 2 * torch.exp(-2 * log_sigma)
    outlier = gaussian.new_full((), log(_OUTLIERS / _OUTLIER_AREA_PX2))
    return -(score * torch.logaddexp(gaussian, outlier)).sum() / score.sum().clamp(min=1.0)
