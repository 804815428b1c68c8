"""Frames on the scale of their own standard deviation, and the signal of a denoised image."""

import torch
import torch.nn.functional as F
from torch import Tensor

SIGNAL_SCALE = 4.0
"""Signal, in units of `frame_scale`, that the denoised image shows as 1/2."""

_MIN_SCALE_COUNTS = 1e-3  # a constant frame becomes all zeros, not NaN; any real frame has far more noise
_BRIGHT = 8.0  # from about here on the input grows with the root of the intensity
_MAX_LOGIT = 10.0  # 22,000 times the scale: no frame holds that much, and a float32 bears it


def frame_scale(frame: Tensor) -> Tensor:
    """Return the standard deviation of each frame, (..., H, W) float32 -> (..., 1, 1), in counts, never 0."""
    centred = _centred(frame)
    return (centred * centred).mean((-2, -1), keepdim=True).sqrt().clamp(min=_MIN_SCALE_COUNTS)


def _centred(frame: Tensor) -> Tensor:
    """Return frames less their means; less a pixel first, or the mean of 65,535s in float32 may be another number."""
    above = frame - frame[..., :1, :1]
    return above - above.mean((-2, -1), keepdim=True)


def normalise(frame: Tensor) -> Tensor:
    """Return frames (..., H, W), float32 counts, with mean 0 and standard deviation near 1.

    A constant frame is all zeros; bright pixels are compressed as their own shot noise grows, with the square root.
    Training and the deployed graph share it.
    """
    scaled = _centred(frame) / frame_scale(frame)
    return scaled / torch.sqrt(1 + scaled.abs() / _BRIGHT)


def unit_range(frame: Tensor) -> Tensor:
    """Return frames (..., H, W) whose darkest pixel is 0 and whose brightest is 1; constant ones are all zeros."""
    above = frame - frame.amin((-2, -1), keepdim=True)
    return above / above.amax((-2, -1), keepdim=True).clamp(min=_MIN_SCALE_COUNTS)


def normalised(counts: Tensor, stride: int) -> Tensor:
    """Return frames (B, T, H, W), float32 counts, each normalised, and padded to multiples of a stride."""
    has_contrast = counts.amax((-2, -1), keepdim=True) > counts.amin((-2, -1), keepdim=True)
    # Of one bright level, whose mean is not exact, normalise would leave something.
    return padded(torch.where(has_contrast, normalise(counts), 0.0), stride)


def padded(frames: Tensor, stride: int) -> Tensor:
    """Return frames (..., H, W), the last row and column repeated until height and width are multiples of a stride."""
    height, width = ((size + stride - 1) // stride * stride for size in frames.shape[-2:])
    # A fixed padding, and cutting off what is too much: the exporter has no padding by an amount known later.
    return F.pad(frames, (0, stride - 1) * 2, mode="replicate")[..., :height, :width]


def denoised_signal(logit: Tensor, scale: Tensor) -> Tensor:
    """Return the signal above background in counts.

    Parameters
    ----------
    logit
        Of the denoised image, (B, 1, H, W).
    scale
        Counts, to be broadcast.
    """
    return SIGNAL_SCALE * scale * torch.exp(logit.clamp(max=_MAX_LOGIT))


def signal_likeness(signal: Tensor, scale: Tensor) -> Tensor:
    """Return what the sigmoid of the denoised logit should be for a signal in counts: the inverse, 0 to 1."""
    scaled = signal / (SIGNAL_SCALE * scale)
    return scaled / (1 + scaled)
