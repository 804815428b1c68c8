"""DENODET: one pass that denoises a frame and finds the particles in it.

Y. Yao et al., "Deep Joint Denoising and Detection for Enhanced Intracellular Particle Analysis". What differs from the
paper, and what it brought: ``docs/decisions/0004-detection-head.md`` to ``0006-normalisation.md``.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.networks.context import Context
from streamtrack_engines.networks.network import FramesSeen, Network

Norm = Literal["batch", "instance"]
Upsampling = Literal["subpixel", "bilinear"]


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
    """Upsampling to twice the size, concatenation with features of that size, residual block.

    A sub-pixel convolution computes the four pixels that each pixel becomes as four sets of features (Shi et al., CVPR
    2016). It can be what the paper has, bilinear upsampling and a convolution, to the last digit, and takes less time.

    Parameters
    ----------
    n_in, n_out
        Features before and after.
    norm
        That of the residual block.
    upsampling
        ``"bilinear"`` is the paper's.
    n_skip
        Features of the larger size; by default as many as come out.
    """

    def __init__(
        self, n_in: int, n_out: int, norm: Norm, upsampling: Upsampling = "subpixel", n_skip: int | None = None
    ) -> None:
        super().__init__()
        self._upsampling = upsampling
        self.conv = nn.Conv2d(n_in, 4 * n_out if upsampling == "subpixel" else n_out, 3, padding=1)
        self.block = ResidualBlock(n_out + (n_skip or n_out), n_out, norm)
        if upsampling == "subpixel":
            # All four alike at first, or the image starts as a chequerboard (Aitken et al., arXiv:1707.02937).
            with torch.no_grad():
                for parameter in self.conv.parameters():
                    parameter.copy_(parameter[::4].repeat_interleave(4, 0))

    def forward(self, x: Tensor, *skips: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and features (B, n, 2H, 2W), n_skip together, to (B, n_out, 2H, 2W)."""
        if self._upsampling == "subpixel":
            larger = F.pixel_shuffle(self.conv(x), 2)
        else:
            larger = self.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear"))
        out: Tensor = self.block(torch.cat([larger, *skips], 1))
        return out


class Denodet(Network):
    """Shared encoder (8, 16, 32 features) with a denoising and a detection decoder.

    By default neither decoder waits for the other, so that the denoised image costs nothing while nobody asks for it,
    and what is common to the whole frame, above all how many particles there are, reaches every pixel through the mean
    of the deepest features. The paper's network is ``n_frames = 1, norm = "instance", upsampling = "bilinear", coupled
    = true, context = false``.

    The paper's denoised image p lies in [0, 1], because its loss (soft Dice and cross-entropy) treats it as a pixel
    class. Here p = s / (1 + s), where s is the signal above background in units of some standard deviations of the
    frame (`streamtrack_engines.networks.scaling.SIGNAL_SCALE`): any intensity fits into [0, 1), the logit of p is
    simply log(s), and counts come back without a constant that would depend on the camera.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    norm
        ``"batch"`` folds into the convolutions; ``"instance"`` is the paper's.
    upsampling
        ``"subpixel"`` is faster; ``"bilinear"`` is the paper's.
    coupled
        The detection decoder also sees the features of the denoising decoder, level by level, as in the paper.
    context
        Whether the mean of the deepest features is added to them.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    stride = 4  # two 2x2 poolings
    image = "denoised"

    def __init__(
        self,
        n_frames: FramesSeen = 3,
        norm: Norm = "batch",
        *,
        upsampling: Upsampling = "subpixel",
        coupled: bool = False,
        context: bool = True,
        head_bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.n_frames = n_frames
        self._coupled = coupled
        widths = (n_frames, 8, 16, 32)
        self.encoder = nn.ModuleList(ResidualBlock(widths[i], widths[i + 1], norm) for i in range(3))
        self.context = Context(32) if context else nn.Identity()
        self.denoising = nn.ModuleList(DecoderLevel(2 * n, n, norm, upsampling) for n in (16, 8))
        seen = 2 if coupled else 1
        self.detection = nn.ModuleList(DecoderLevel(2 * n, n, norm, upsampling, seen * n) for n in (16, 8))
        self.denoised_head = nn.Conv2d(8, 1, 1)
        self.found_head = nn.Conv2d(8, len(head_bias), 1)
        nn.init.constant_(self.denoised_head.bias, -2.0)  # type: ignore[arg-type]
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalised frames to the denoised image and to what is found in each pixel of the last frame.

        Parameters
        ----------
        x
            (B, n_frames, H, W), the current frame last; a frame that is not known is all zeros. H and W are multiples
            of ``stride``.

        Returns
        -------
        denoised
            (B, 1, H, W), logits.
        found
            (B, C, H, W), the channels of the head.
        """
        full, half, quarter = self._encode(x)
        clean_half, clean_full = self._denoise(full, half, quarter)
        denoised: Tensor = self.denoised_head(clean_full)
        return denoised, self._find((full, clean_full), (half, clean_half), quarter)

    def find(self, x: Tensor) -> Tensor:
        """Return the second output of `forward` without the work for the first, as far as it can do without."""
        full, half, quarter = self._encode(x)
        clean_half, clean_full = self._denoise(full, half, quarter) if self._coupled else (half, full)
        return self._find((full, clean_full), (half, clean_half), quarter)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at full, half and quarter size."""
        full = self.encoder[0](x.to(self.found_head.weight.dtype))
        half = self.encoder[1](F.max_pool2d(full, 2))
        return full, half, self.context(self.encoder[2](F.max_pool2d(half, 2)))

    def _denoise(self, full: Tensor, half: Tensor, quarter: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the denoising decoder at half and full size."""
        clean_half = self.denoising[0](quarter, half)
        return clean_half, self.denoising[1](clean_half, full)

    def _find(self, full: tuple[Tensor, Tensor], half: tuple[Tensor, Tensor], quarter: Tensor) -> Tensor:
        """Return what is found from features of the encoder and, where they are coupled, of the denoising decoder."""
        n_seen = 1 + self._coupled
        found: Tensor = self.detection[0](quarter, *half[:n_seen])
        found = self.found_head(self.detection[1](found, *full[:n_seen]))
        return found
