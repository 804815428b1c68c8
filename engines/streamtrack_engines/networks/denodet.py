"""DENODET: one pass that denoises a frame and finds the particles in it.

Y. Yao et al., "Deep Joint Denoising and Detection for Enhanced Intracellular Particle Analysis".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4
"""Height and width of a frame must be multiples of this (two 2x2 poolings)."""

SIGNAL_SCALE = 4.0
"""Signal, in stds of its frame, that the denoised image shows as 1/2: particles peak between 1 and 15."""

_MIN_STD_COUNTS = 1e-3  # a constant frame becomes all zeros, not NaN; any real frame has far more noise
_MAX_LOGIT = 10.0  # 22,000 times the scale: no frame holds that much, and a float32 bears it


def frame_std(frame: Tensor) -> Tensor:
    """Return the standard deviation of each frame, (..., H, W) float32 -> (..., 1, 1), in counts, never 0."""
    centred = frame - frame.mean((-2, -1), keepdim=True)
    return (centred * centred).mean((-2, -1), keepdim=True).sqrt().clamp(min=_MIN_STD_COUNTS)


def normalise(frame: Tensor) -> Tensor:
    """Return frames (..., H, W), float32 counts, with mean 0 and standard deviation 1 each; constant ones become 0.

    Written in plain operations that ONNX has: training and the deployed graph share it.
    """
    return (frame - frame.mean((-2, -1), keepdim=True)) / frame_std(frame)


def denoised_signal(logit: Tensor, std: Tensor) -> Tensor:
    """Return the signal above background in counts.

    Parameters
    ----------
    logit
        First output of `Denodet`, (B, 1, H, W).
    std
        `frame_std` of the frame before normalisation, (B, 1, 1, 1), counts.
    """
    return SIGNAL_SCALE * std * torch.exp(logit.clamp(max=_MAX_LOGIT))


def signal_likeness(signal: Tensor, std: Tensor) -> Tensor:
    """Return what the sigmoid of the denoised logit should be for a signal in counts: the inverse, 0 to 1."""
    scaled = signal / (SIGNAL_SCALE * std)
    return scaled / (1 + scaled)


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with instance norm and ReLU; the first ReLU's output skips to the end (paper, Fig. 2b).

    The convolutions have no bias, because the norm that follows would take it out again.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        widths = (n_in, n_out, n_out)
        self.convs = nn.ModuleList(nn.Conv2d(width, n_out, 3, padding=1, bias=False) for width in widths)
        self.norms = nn.ModuleList(nn.InstanceNorm2d(n_out, affine=True) for _ in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        first = F.relu(self.norms[0](self.convs[0](x)))
        second = F.relu(self.norms[1](self.convs[1](first)))
        return F.relu(first + self.norms[2](self.convs[2](second)))


class DecoderLevel(nn.Module):
    """Bilinear upsampling, 3x3 convolution, concatenation with `n_skips` features of that level, residual block."""

    def __init__(self, n_in: int, n_out: int, n_skips: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.block = ResidualBlock(n_out * (1 + n_skips), n_out)

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and skips (B, n_out, 2H, 2W) to (B, n_out, 2H, 2W)."""
        up = self.conv(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.block(torch.cat([up, *skips], 1))


class Denodet(nn.Module):
    """Shared encoder (8, 16, 32 features) with a denoising and a detection decoder; 68,154 parameters.

    The detection decoder also sees the features of the denoising decoder, level by level.

    The paper's denoised image p lies in [0, 1], because its loss (soft Dice and cross-entropy) treats it as a pixel
    class. Here p = s / (1 + s), where s is the signal above background in units of `SIGNAL_SCALE` standard deviations
    of the frame: any intensity fits into [0, 1), the logit of p is simply log(s), and `denoised_signal` gets counts
    back without a constant that would depend on the camera.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([ResidualBlock(1, 8), ResidualBlock(8, 16), ResidualBlock(16, 32)])
        self.denoise = nn.ModuleList([DecoderLevel(32, 16, n_skips=1), DecoderLevel(16, 8, n_skips=1)])
        self.detect = nn.ModuleList([DecoderLevel(32, 16, n_skips=2), DecoderLevel(16, 8, n_skips=2)])
        self.denoised_head = nn.Conv2d(8, 1, 1)
        self.heat_head = nn.Conv2d(8, 1, 1)
        # Few pixels hold a particle: start from "nothing there", or the first steps only learn that.
        nn.init.constant_(self.denoised_head.bias, -2.0)  # type: ignore[arg-type]
        nn.init.constant_(self.heat_head.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised frames to logits of the denoised image and of the heat map.

        Parameters
        ----------
        x
            (B, 1, H, W), from `normalise`; H and W multiples of `STRIDE`.

        Returns
        -------
        denoised, heat
            (B, 1, H, W) each. ``denoised`` is for `denoised_signal`; ``sigmoid(heat)`` is the likelihood of a
            particle, and the softmax of ``heat`` in a window around a peak gives its sub-pixel position (DSNT).
        """
        full = self.encoder[0](x)
        half = self.encoder[1](F.max_pool2d(full, 2))
        quarter = self.encoder[2](F.max_pool2d(half, 2))
        clean_half = self.denoise[0](quarter, half)
        clean_full = self.denoise[1](clean_half, full)
        found_half = self.detect[0](quarter, half, clean_half)
        found_full = self.detect[1](found_half, full, clean_full)
        return self.denoised_head(clean_full), self.heat_head(found_full)
