"""DENODET: one pass that denoises a frame and finds the particles in it.

Y. Yao et al., "Deep Joint Denoising and Detection for Enhanced Intracellular Particle Analysis". What differs from the
paper, and what it brought: ``docs/decisions/0004-detection-head.md`` to ``0006-normalisation.md``.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Height and width of a frame must be multiples of this (two 2x2 poolings)."""

SIGNAL_SCALE = 4.0
"""Signal, in units of `frame_scale`, that the denoised image shows as 1/2."""

FOUND_CHANNELS = ("presence", "dy", "dx", "log_sigma")
"""What the detection decoder says of each pixel: see `Denodet.forward`."""

Norm = Literal["batch", "instance"]

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
    """Return what the network sees of frames (..., H, W), float32 counts: mean 0, standard deviation near 1.

    A constant frame is all zeros; bright pixels are compressed as their own shot noise grows, with the square root.
    Training and the deployed graph share it.
    """
    scaled = _centred(frame) / frame_scale(frame)
    return scaled / torch.sqrt(1 + scaled.abs() / _BRIGHT)


def denoised_signal(logit: Tensor, scale: Tensor) -> Tensor:
    """Return the signal above background in counts.

    Parameters
    ----------
    logit
        First output of `Denodet`, (B, 1, H, W).
    scale
        `frame_scale` of the frame before normalisation, (B, 1, 1, 1), counts.
    """
    return SIGNAL_SCALE * scale * torch.exp(logit.clamp(max=_MAX_LOGIT))


def signal_likeness(signal: Tensor, scale: Tensor) -> Tensor:
    """Return what the sigmoid of the denoised logit should be for a signal in counts: the inverse, 0 to 1."""
    scaled = signal / (SIGNAL_SCALE * scale)
    return scaled / (1 + scaled)


def _norm(kind: Norm, width: int) -> nn.Module:
    return nn.BatchNorm2d(width, momentum=0.02) if kind == "batch" else nn.InstanceNorm2d(width, affine=True)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with norm and ReLU; the first ReLU's output skips to the end (paper, Fig. 2b).

    The convolutions have no bias, because the norm that follows would take it out again.
    """

    def __init__(self, n_in: int, n_out: int, norm: Norm) -> None:
        super().__init__()
        widths = (n_in, n_out, n_out)
        self.convs = nn.ModuleList(nn.Conv2d(width, n_out, 3, padding=1, bias=False) for width in widths)
        self.norms = nn.ModuleList(_norm(norm, n_out) for _ in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        first = F.relu(self.norms[0](self.convs[0](x)))
        second = F.relu(self.norms[1](self.convs[1](first)))
        return F.relu(first + self.norms[2](self.convs[2](second)))


class DecoderLevel(nn.Module):
    """Bilinear upsampling, 3x3 convolution, concatenation with `n_skips` features of that level, residual block."""

    def __init__(self, n_in: int, n_out: int, n_skips: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.block = ResidualBlock(n_out * (1 + n_skips), n_out, norm)

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and skips (B, n_out, 2H, 2W) to (B, n_out, 2H, 2W)."""
        up = self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.block(torch.cat([up, *skips], 1))


class Denodet(nn.Module):
    """Shared encoder (8, 16, 32 features) with a denoising and a detection decoder.

    The detection decoder also sees the features of the denoising decoder, level by level. What is common to the whole
    frame, above all how many particles there are, reaches every pixel through the mean of the deepest features.

    The paper's denoised image p lies in [0, 1], because its loss (soft Dice and cross-entropy) treats it as a pixel
    class. Here p = s / (1 + s), where s is the signal above background in units of `SIGNAL_SCALE` standard deviations
    of the frame: any intensity fits into [0, 1), the logit of p is simply log(s), and `denoised_signal` gets counts
    back without a constant that would depend on the camera.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    norm
        ``"batch"`` folds into the convolutions; ``"instance"`` is the paper's.
    """

    def __init__(self, n_frames: int = 3, norm: Norm = "batch") -> None:
        super().__init__()
        self.n_frames = n_frames
        widths = (n_frames, 8, 16, 32)
        self.encoder = nn.ModuleList(ResidualBlock(widths[i], widths[i + 1], norm) for i in range(3))
        self.context = nn.Sequential(nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 1))
        self.denoise = nn.ModuleList([DecoderLevel(32, 16, 1, norm), DecoderLevel(16, 8, 1, norm)])
        self.detect = nn.ModuleList([DecoderLevel(32, 16, 2, norm), DecoderLevel(16, 8, 2, norm)])
        self.denoised_head = nn.Conv2d(8, 1, 1)
        self.found_head = nn.Conv2d(8, len(FOUND_CHANNELS), 1)
        # Few pixels hold a particle: start from "nothing there", or the first steps only learn that.
        nn.init.constant_(self.denoised_head.bias, -2.0)  # type: ignore[arg-type]
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor([-4.0, 0.0, 0.0, -1.0]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised frames to the denoised image and to what is found in each pixel of the last frame.

        Parameters
        ----------
        x
            (B, n_frames, H, W), each frame from `normalise`, the current one last; a frame that is not known is all
            zeros. H and W are multiples of `STRIDE`.

        Returns
        -------
        denoised
            (B, 1, H, W), logits for `denoised_signal`.
        found
            (B, 4, H, W), `FOUND_CHANNELS`: logit of the probability that a particle's reference point lies in the
            pixel; where it lies then, from the pixel's centre, px; logarithm of the standard deviation per axis, px,
            of a position found here.
        """
        full = self.encoder[0](x)
        half = self.encoder[1](F.max_pool2d(full, 2))
        quarter = self.encoder[2](F.max_pool2d(half, 2))
        # In half precision a sum over so many pixels would be wrong, or infinite.
        mean = quarter.float().mean((-2, -1), keepdim=True)
        quarter = quarter + self.context(mean.to(quarter.dtype))
        clean_half = self.denoise[0](quarter, half)
        clean_full = self.denoise[1](clean_half, full)
        found_half = self.detect[0](quarter, half, clean_half)
        found_full = self.detect[1](found_half, full, clean_full)
        return self.denoised_head(clean_full), self.found_head(found_full)
