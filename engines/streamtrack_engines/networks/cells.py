"""A network for cells: a U-shape from a quarter of the size down to a thirty-second, whose channels have half the size.

What is larger than some pixels needs no fine ones, but a wide view: so nothing is computed at the size of the frame,
and at 1/32 a feature sees the neighbours of the largest cell.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from streamtrack_engines.networks.network import FramesSeen, Network
from streamtrack_engines.networks.scaling import padded
from streamtrack_engines.networks.unet import Convolutions

Width = Annotated[int, Field(ge=1)]

STRIDE = 32
KNEE = 10.0
"""Noise units from which on the input grows with the fourth root of the intensity."""

_BLOCK_PX = 4
_NO_BLOCK = 1e9  # more than any camera counts
_NEAR = 15  # blocks in which some place shows noise alone
_AROUND = 25  # blocks: 100 px, twice the largest cell
_DARKEST = -7.5  # noise units
_LEAST_NOISE_COUNTS = 0.3  # the rounding to whole counts alone


class CellRise(nn.Module):
    """To twice the size, each feature repeated, added to the encoder's there, and a block."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 1)
        self.block = Convolutions(n_out, n_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and features (B, n_out, 2H, 2W) of the encoder to (B, n_out, 2H, 2W)."""
        out: Tensor = self.block(F.relu(skip + F.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")))
        return out


class CellNetwork(Network):
    """Encoder at 1/4, 1/8, 1/16 and 1/32 of the size and one decoder; the channels have half of the frame's size.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    widths
        Features at 1/4, 1/8, 1/16 and 1/32 of the size.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    stride = STRIDE

    def __init__(
        self,
        n_frames: FramesSeen = 1,
        widths: tuple[Width, Width, Width, Width] = (32, 40, 48, 48),
        *,
        head_bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.n_frames = n_frames
        steps = zip((_BLOCK_PX**2 * n_frames, *widths[:-1]), widths, strict=True)
        self.down = nn.ModuleList(Convolutions(n_in, n_out) for n_in, n_out in steps)
        rises = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(CellRise(n_in, n_out) for n_in, n_out in rises)
        self.found_head = nn.Conv2d(widths[0], 4 * len(head_bias), 1)
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias).repeat_interleave(4))  # type: ignore[union-attr]

    def see(self, counts: Tensor) -> Tensor:
        """Return the frames above the background around each place, in units of the frame's noise, compressed."""
        return see(counts)

    def forward(self, seen: Tensor) -> tuple[None, Tensor]:
        """Return no image, and channels (B, C, H / 2, W / 2), H and W those of the padded frames."""
        return None, self.find(seen)

    def find(self, seen: Tensor) -> Tensor:
        """Return the second output of `forward`."""
        x = F.pixel_unshuffle(seen.to(self.found_head.weight.dtype), _BLOCK_PX)
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(x, skips.pop())
        return F.pixel_shuffle(self.found_head(x), 2)


def see(counts: Tensor) -> Tensor:
    """Return frames (B, T, H, W), float32 counts, padded, less their background, over their noise, compressed.

    The background is the least of what is around (an opening over 100 px, smoothed): cells do not count unless nothing
    else is there. The noise is that of the whole current frame, where it shows least: so a bright cell keeps its shape.
    """
    height, width = counts.shape[-2:]
    counts = padded(counts, STRIDE)
    noise = _noise(counts[:, -1:]).clamp(min=_LEAST_NOISE_COUNTS)
    background = F.interpolate(_background(counts), scale_factor=float(_BLOCK_PX), mode="nearest")
    above = (counts - background) / (KNEE * noise) + 1
    seen = torch.sqrt(torch.sqrt(above.clamp(min=1 + _DARKEST / KNEE))) - 1
    # Beside the frame there is nothing on all sides: a cell that was drawn out there would have its middle there.
    within = [torch.arange(seen.shape[axis], device=seen.device) < size for axis, size in ((-2, height), (-1, width))]
    return torch.where(within[0][:, None] & within[1], seen, 0.0)


def _noise(frame: Tensor) -> Tensor:
    """Return the noise of a frame where it is least, counts, (B, 1, H, W) -> (B, 1, 1, 1).

    From pixels 4 px apart, in blocks that are not constant, as saturated ones are, or those beside an image.
    """
    has_image = (F.max_pool2d(frame, _BLOCK_PX) + F.max_pool2d(-frame, _BLOCK_PX) > 0).to(frame.dtype)
    shown = F.avg_pool2d(has_image, 3, 1, 1)
    mean = F.avg_pool2d(_differences(frame) * has_image, 3, 1, 1) / shown.clamp(min=1e-3)
    least = _largest_around(torch.where(shown > 0.3, -mean, -_NO_BLOCK), _NEAR)
    known = (least > -_NO_BLOCK).to(frame.dtype)
    total: Tensor = (-least * known).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True).clamp(min=1)
    return total


def _differences(frame: Tensor) -> Tensor:
    """Return the mean absolute difference of every second pixel to those 4 px below and to the right, by blocks."""
    few = frame[..., ::2, ::2]
    down = F.pad((few[..., 2:, :] - few[..., :-2, :]).abs(), (0, 0, 0, 2))
    right = F.pad((few[..., 2:] - few[..., :-2]).abs(), (0, 2))
    return F.avg_pool2d(down + right, 2) / 2


def _background(counts: Tensor) -> Tensor:
    """Return the background in each block, (B, T, H, W) -> (B, T, H / 4, W / 4)."""
    mean = F.avg_pool2d(F.avg_pool2d(counts, _BLOCK_PX), 3, 1, 1, count_include_pad=False)
    opened = _largest_around(-_largest_around(-mean, _AROUND), _AROUND)
    smooth = F.avg_pool2d(opened, (1, _AROUND), 1, (0, _AROUND // 2), count_include_pad=False)
    smooth = F.avg_pool2d(smooth, (_AROUND, 1), 1, (_AROUND // 2, 0), count_include_pad=False)
    return torch.minimum(smooth, opened)


def _largest_around(blocks: Tensor, size: int) -> Tensor:
    rows = F.max_pool2d(blocks, (1, size), 1, (0, size // 2))
    return F.max_pool2d(rows, (size, 1), 1, (size // 2, 0))
