"""The joint loss of DENODET: L = L_DET + gamma * L_DENO (paper, section III.B).

The paper defines its detection loss for one particle (DSNT, Nibali et al., arXiv:1801.07372). For a frame full of them
the same terms are taken particle by particle in a small window, and pixel by pixel for the heat map.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_PX = 5
"""Side of the window whose softmax gives a particle's position, in training and in the deployed peak finder."""

SIGMA_PX = 1.0
"""Width of the Gaussian that the heat map should show at each particle (the paper's and DSNT's choice)."""

FOREGROUND_WEIGHT = 9.0
"""A pixel at a particle's centre counts 1 + this times as much as one of the background: there are so few of them."""

_REACH_PX = 4  # the Gaussian is 3e-4 there
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the network should say of a batch.

    Attributes
    ----------
    denoised
        (B, 1, H, W), float32, 0 to 1: `signal_likeness` of the noise-free signal.
    heat
        (B, 1, H, W), float32, 0 to 1, from `render_heat`.
    points
        (M, 3), float32: crop, y, x in px.
    """

    denoised: Tensor
    heat: Tensor
    points: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LossParts:
    """The terms of the loss, each a scalar tensor, before weighting."""

    coordinate: Tensor
    divergence: Tensor
    cross_entropy: Tensor
    denoising: Tensor


def render_heat(points: Tensor, n_frames: int, height: int, width: int) -> Tensor:
    """Return Gaussians of `SIGMA_PX` with peak 1 at sub-pixel points (M, 3), (B, 1, H, W); the brightest wins."""
    steps = torch.arange(-_REACH_PX, _REACH_PX + 1, device=points.device)
    frame, position = points[:, 0].long(), points[:, 1:]
    pixels = position.round().long()[:, None, :] + steps[None, :, None]  # (M, 9, 2): rows and columns near each point
    profile = torch.exp(-((pixels - position[:, None, :]) ** 2) / (2 * SIGMA_PX**2))
    values = profile[:, :, None, 0] * profile[:, None, :, 1]
    rows, columns = pixels[:, :, None, 0], pixels[:, None, :, 1]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = ((frame[:, None, None] * height + rows) * width + columns)[inside]
    heat = torch.zeros(n_frames * height * width, device=points.device)
    return heat.scatter_reduce_(0, places, values[inside], "amax").view(n_frames, 1, height, width)


def local_coordinates(heat_logit: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the DSNT coordinates next to the reference points, and the points themselves.

    The window sits on the strongest pixel within 1 px of the rounded reference, as it does in deployment, where the
    reference is unknown. Points too near to the border for a full window are left out.

    Parameters
    ----------
    heat_logit
        (B, 1, H, W).
    points
        (M, 3): crop, y, x.

    Returns
    -------
    found, reference
        (K, 2) each, y and x in px.
    """
    half = WINDOW_PX // 2
    height, width = heat_logit.shape[-2:]
    rounded = points[:, 1:].round().long()
    limit = torch.tensor([height, width], device=points.device) - half - 1
    keep = ((rounded > half) & (rounded < limit)).all(1)
    points, rounded = points[keep], rounded[keep]
    near = _offsets(1, points.device)
    best = _gather(heat_logit.detach(), points[:, 0].long(), rounded, near).argmax(1)
    centre = rounded + near[best]
    offsets = _offsets(half, points.device)
    weights = torch.softmax(_gather(heat_logit, points[:, 0].long(), centre, offsets), 1)
    return centre + weights @ offsets.to(weights.dtype), points[:, 1:]


def _offsets(reach: int, device: torch.device) -> Tensor:
    steps = torch.arange(-reach, reach + 1, device=device)
    return torch.cartesian_prod(steps, steps)


def _gather(maps: Tensor, frame: Tensor, centre: Tensor, offsets: Tensor) -> Tensor:
    """Return (K, n) values of the maps at every centre plus every offset."""
    place = centre[:, None, :] + offsets
    return maps[frame[:, None], 0, place[..., 0], place[..., 1]]


def coordinate_loss(heat_logit: Tensor, points: Tensor) -> Tensor:
    """Return the mean distance of the DSNT coordinates from the reference.

    As in DSNT coordinates are normalised, here so that the window spans -1 to 1: one unit is half a window.
    """
    found, reference = local_coordinates(heat_logit, points)
    squared = ((found - reference) ** 2).sum(1)
    return torch.sqrt(squared + _EPSILON).sum() / max(len(found), 1) / (WINDOW_PX / 2)


def bernoulli_jsd(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of "particle or not" under p and under q, per pixel, 0 to log 2."""
    middle = (p + q) / 2
    return (_entropy(middle) - (_entropy(p) + _entropy(q)) / 2).clamp(min=0)


def _entropy(p: Tensor) -> Tensor:
    p = p.clamp(_EPSILON, 1 - _EPSILON)
    return -(p * p.log() + (1 - p) * (-p).log1p())


def divergence_loss(heat_logit: Tensor, heat: Tensor) -> Tensor:
    """Return the mean `bernoulli_jsd` of heat map and reference, centres weighted by 1 + `FOREGROUND_WEIGHT`."""
    return ((1 + FOREGROUND_WEIGHT * heat) * bernoulli_jsd(torch.sigmoid(heat_logit), heat)).mean()


def cross_entropy_loss(heat_logit: Tensor, heat: Tensor) -> Tensor:
    """Return the mean cross-entropy of heat map and reference, weighted as in `divergence_loss`."""
    return F.binary_cross_entropy_with_logits(heat_logit, heat, weight=1 + FOREGROUND_WEIGHT * heat)


def soft_dice_loss(p: Tensor, r: Tensor) -> Tensor:
    """Return 1 - Dice coefficient of two images with values in [0, 1].

    With squares in the denominator (V-Net's form), so that p = r is the optimum for grey values too; the paper's sums
    coincide with it for pixel classes 0 and 1.
    """
    return 1 - (2 * (p * r).sum() + _EPSILON) / ((p * p).sum() + (r * r).sum() + _EPSILON)


def balanced_cross_entropy_loss(logit: Tensor, r: Tensor) -> Tensor:
    """Return -beta r log p - (1 - beta)(1 - r) log(1 - p), beta being the fraction of background (Xie & Tu).

    Weights of the classes shift the optimum by log(beta / (1 - beta)), which would show up as a wrong brightness: the
    shift is added to the logit here, so that the head is left with the unshifted one.
    """
    beta = (1 - r.mean()).clamp(0.5, 0.99)
    shifted = logit + torch.logit(beta)
    return -(beta * r * F.logsigmoid(shifted) + (1 - beta) * (1 - r) * F.logsigmoid(-shifted)).mean()


def denoising_loss(logit: Tensor, r: Tensor) -> Tensor:
    """Return L_DENO (paper, eq. 1) with delta = 1."""
    return soft_dice_loss(torch.sigmoid(logit), r) + balanced_cross_entropy_loss(logit, r)


def loss_parts(denoised_logit: Tensor, heat_logit: Tensor, targets: Targets) -> LossParts:
    """Return all terms of the loss for the network's output (B, 1, H, W each), float32."""
    return LossParts(
        coordinate=coordinate_loss(heat_logit, targets.points),
        divergence=divergence_loss(heat_logit, targets.heat),
        cross_entropy=cross_entropy_loss(heat_logit, targets.heat),
        denoising=denoising_loss(denoised_logit, targets.denoised),
    )
