"""The loss of a denoised image, L_DENO of DENODET (paper, section III.B)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_EPSILON = 1e-6


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
