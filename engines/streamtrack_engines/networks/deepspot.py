"""DeepSpot (Bouilhol et al., Biological Imaging 2 (2022) e4): an image in which all spots are equally bright.

Context is gathered by three paths down to an eighth of the size (CASO), goes through residual blocks there, and comes
back to the full size by blocks that double it. What the text leaves open, and where the authors' code differs:
``docs/decisions/0037-deepspot.md``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from streamtrack_engines.networks.network import Network
from streamtrack_engines.networks.scaling import padded, unit_range

Width = Annotated[int, Field(ge=1)]
Widths = tuple[Width, Width, Width]
Dropout = Annotated[float, Field(ge=0, lt=1)]


def _conv(n_in: int, n_out: int, *, stride: int = 1, rate: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=rate, dilation=rate, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=0.02)


class Caso(nn.Module):
    """Context aggregation for small objects: three paths of three steps to half the size each, joined at the end.

    Bright spots are what a pooling keeps, faint ones what a convolution of stride 2 keeps, and a convolution of rate 2
    sees what is around.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        steps = list(pairwise((1, *widths)))
        self.pooled = nn.Sequential(*(each for step in steps for each in self._step(*step, pooled=True)))
        self.strided = nn.Sequential(*(each for step in steps for each in self._step(*step, stride=2)))
        self.atrous = nn.Sequential(*(each for step in steps for each in self._step(*step, rate=2, pooled=True)))

    @staticmethod
    def _step(n_in: int, n_out: int, *, stride: int = 1, rate: int = 1, pooled: bool = False) -> list[nn.Module]:
        pool = [nn.MaxPool2d(3, 2, padding=1)] if pooled else []
        return [_conv(n_in, n_out, stride=stride, rate=rate), _norm(n_out), nn.ReLU(), *pool]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, H, W) to (B, 3 * widths[-1], H / 8, W / 8)."""
        return torch.cat([self.pooled(x), self.strided(x), self.atrous(x)], 1)


class PreActivation(nn.Module):
    """Three times norm, ReLU and a convolution; dropout of whole features; and what came in added to it.

    The first norm has no convolution before it (He et al., arXiv:1603.05027), the others belong to the convolution
    before them.
    """

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.before = _norm(n_in)
        self.convs = nn.ModuleList(_conv(width, n_out) for width in (n_in, n_out, n_out))
        self.norms = nn.ModuleList([_norm(n_out), _norm(n_out), nn.Identity()])
        self.dropout = nn.Dropout2d(dropout)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        y = self.before(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(conv(F.relu(y)))
        out: Tensor = self.shortcut(x) + self.dropout(y)
        return out


class UpResidual(nn.Module):
    """To twice the size, and twice a convolution; what came in, at twice the size, added.

    A transposed convolution of 2x2 and stride 2 is one of 1x1 whose features become the four pixels.
    """

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.rise = nn.Sequential(*self._twice(n_in, n_out), nn.ReLU())
        self.more = nn.Sequential(_conv(n_out, n_out), _norm(n_out), nn.ReLU(), _conv(n_out, n_out), _norm(n_out))
        self.shortcut = nn.Sequential(*self._twice(n_in, n_out))
        self.dropout = nn.Dropout2d(dropout)

    @staticmethod
    def _twice(n_in: int, n_out: int) -> list[nn.Module]:
        return [nn.Conv2d(n_in, 4 * n_out, 1, bias=False), _norm(4 * n_out), nn.PixelShuffle(2)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, 2H, 2W)."""
        return F.relu(self.shortcut(x) + self.dropout(self.more(self.rise(x))))


class DeepSpot(Network):
    """Three paths down (CASO), full pre-activation residual blocks, and up-residual blocks; sees one frame.

    Parameters
    ----------
    paths
        Features of each path at 1/2, 1/4 and 1/8 of the size.
    width, blocks
        Features of the residual blocks, and how many of these there are.
    up
        Features at 1/4, 1/2 and the full size on the way back.
    dropout
        Share of the features that are left out in each step of the training, at the end of each block.
    head_bias
        What is said at first, one number for each channel of the head.
    """

    stride = 8
    n_frames = 1

    def __init__(
        self,
        paths: Widths = (8, 16, 32),
        width: Width = 48,
        blocks: Width = 3,
        up: Widths = (32, 16, 8),
        dropout: Dropout = 0.2,
        *,
        head_bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.caso = Caso(paths)
        widths = (3 * paths[-1], *[width] * blocks)
        self.blocks = nn.Sequential(*(PreActivation(*each, dropout) for each in pairwise(widths)))
        self.up = nn.Sequential(*(UpResidual(*each, dropout) for each in pairwise((width, *up))))
        self.found_head = nn.Conv2d(up[-1], len(head_bias), 1)
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias))  # type: ignore[union-attr]

    def see(self, counts: Tensor) -> Tensor:
        """Return the frames from 0, their darkest pixel, to 1, their brightest."""
        return padded(unit_range(counts), self.stride)

    def forward(self, seen: Tensor) -> tuple[None, Tensor]:
        """Return no image, and what the head reads, (B, C, H, W): the head's image is the enhanced one."""
        return None, self.find(seen)

    def find(self, seen: Tensor) -> Tensor:
        """Return the second output of `forward`."""
        found: Tensor = self.found_head(self.up(self.blocks(self.caso(seen.to(self.found_head.weight.dtype)))))
        return found
