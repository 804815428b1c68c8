"""U-Net at half resolution: one decoder that finds particles and denoises.

The layers are those of DeepTrack 2 (Midtvedt et al., Appl. Phys. Rev. 8 (2021) 011310, section IV.4): two 3x3
convolutions a level, 2x2 max pooling, features of the encoder concatenated on the way up. What differs: it starts from
cells of 2x2 pixels and gives four pixels for each, so that its widest features cost a quarter; norms, which fold into
the convolutions; and upsampling by a sub-pixel convolution, which can represent a transposed one.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from streamtrack_engines.networks.network import FramesSeen, Network

Width = Annotated[int, Field(ge=1)]


class Convolutions(nn.Module):
    """Two 3x3 convolutions, norm and ReLU after each; the second is added to the first."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, n_out, 3, padding=1, bias=False) for width in (n_in, n_out))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out, momentum=0.02) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        first = F.relu(self.norms[0](self.convs[0](x)))
        return F.relu(first + self.norms[1](self.convs[1](first)))


class Up(nn.Module):
    """To twice the size by a sub-pixel convolution, concatenated with the encoder's features there, and a block."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, 4 * n_out, 1)
        self.block = Convolutions(2 * n_out, n_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and features (B, n_out, 2H, 2W) of the encoder to (B, n_out, 2H, 2W)."""
        out: Tensor = self.block(torch.cat([F.pixel_shuffle(self.conv(x), 2), skip], 1))
        return out


class UNet(Network):
    """Encoder of three levels from half the size on, a base, and a decoder that both outputs share.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    widths
        Features at 1/2, 1/4 and 1/8 of the size.
    base
        Features at 1/16.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    stride = 16
    image = "denoised"

    def __init__(
        self,
        n_frames: FramesSeen = 3,
        widths: tuple[Width, Width, Width] = (16, 32, 64),
        base: Width = 96,
        *,
        head_bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.n_frames = n_frames
        steps = zip((4 * n_frames, *widths), (*widths, base), strict=True)
        self.down = nn.ModuleList(Convolutions(n_in, n_out) for n_in, n_out in steps)
        rises = zip((base, *widths[:0:-1]), widths[::-1], strict=True)
        self.up = nn.ModuleList(Up(n_in, n_out) for n_in, n_out in rises)
        self.found_head = nn.Conv2d(widths[0], 4 * len(head_bias), 1)
        self.denoised_head = nn.Conv2d(widths[0], 4, 1)
        nn.init.constant_(self.denoised_head.bias, -2.0)  # type: ignore[arg-type]
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias).repeat_interleave(4))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map what `see` gives to the denoised image (B, 1, H, W) and to the head's channels (B, C, H, W)."""
        features = self._features(x)
        return F.pixel_shuffle(self.denoised_head(features), 2), F.pixel_shuffle(self.found_head(features), 2)

    def find(self, x: Tensor) -> Tensor:
        """Return the second output of `forward`."""
        return F.pixel_shuffle(self.found_head(self._features(x)), 2)

    def _features(self, x: Tensor) -> Tensor:
        """Return the features (B, widths[0], H / 2, W / 2) that both heads read."""
        x = F.pixel_unshuffle(x.to(self.found_head.weight.dtype), 2)
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return x
