"""Frames as each place's own noise makes them: what is bright elsewhere does not matter, nor how the light falls.

So a network takes what cameras give: uneven light, objects a hundred times brighter than the particles, noise that a
filter or a resampling has spread, borders without an image: ``docs/decisions/0013-compact-network.md``.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack_engines.networks.scaling import padded

KNEE = 10.0
"""Noise units from which on the input grows with the fourth root of the intensity."""

_DARKEST = -7.5  # noise units
_LEAST_SCALE_COUNTS = 0.3  # the rounding to whole counts alone
_NO_BLOCK = 1e9  # more than any camera counts
_BLOCK_PX = 4


class Seen(NamedTuple):
    """What the network sees of frames.

    Attributes
    ----------
    frames
        (B, T, H, W), in 4 `KNEE` units of the noise around each place.
    texture
        (B, 2, H / 4, W / 4): logarithms of how much smaller the noise is between near pixels than between far ones;
        0 if pixels are independent.
    scale
        (B, 1, H / 4, W / 4): the noise of the last frame in counts.
    """

    frames: Tensor
    texture: Tensor
    scale: Tensor


def see(counts: Tensor, stride: int) -> Seen:
    """Return what the network sees of frames (B, T, H, W), float32 counts, the current one last.

    Frames are padded to multiples of ``stride``, itself one of 4. Each has its own background taken off and is divided
    by the noise of the current frame, both as they are around each place. Blocks of equal pixels, as in frames that are
    not known and beside registered images, are zeros. Training and the deployed graph share it.
    """
    counts = padded(counts, stride)
    has_image = F.max_pool2d(counts, _BLOCK_PX) + F.max_pool2d(-counts, _BLOCK_PX) > 0
    noise = _noise(_differences(counts[:, -1:]), has_image[:, -1:])
    near_and_middle, far = noise[:, :2], noise[:, 2:]
    scale = far.clamp(min=_LEAST_SCALE_COUNTS)  # for white noise, 0.9 of its standard deviation
    gain = torch.where(has_image, 1 / (KNEE * scale), 0.0)
    background = _background(F.avg_pool2d(counts, _BLOCK_PX), has_image, scale)
    above = counts * _enlarged(gain) - _enlarged(background * gain - 1)  # 1 where there is nothing: no pass for itself
    visible = torch.sqrt(torch.sqrt(above.clamp(min=1 + _DARKEST / KNEE))) - 1
    texture = torch.log(near_and_middle.clamp(min=1e-2) / far.clamp(min=1e-2)).clamp(-4.0, 1.0)
    return Seen(visible, texture, scale)


def _enlarged(blocks: Tensor) -> Tensor:
    return F.interpolate(blocks, scale_factor=float(_BLOCK_PX), mode="nearest")


def _differences(frame: Tensor) -> Tensor:
    """Return mean absolute differences of pixels 1, 2 and 4 px apart in each block, (B, 1, H, W) -> (B, 3, h, w).

    A quarter of the pixels is enough, and takes a quarter of the time.
    """
    found = F.conv2d(frame, _difference_kernels().to(frame), stride=_BLOCK_PX)  # exact: products with 1, 0, -1
    near, middle, first = found[:, :8], found[:, 8:16], found[:, 16:]
    down = F.pad(_mean_size(first[..., 1:, :] - first[..., :-1, :]), (0, 0, 0, 1), mode="replicate")
    right = F.pad(_mean_size(first[..., 1:] - first[..., :-1]), (0, 1, 0, 0), mode="replicate")
    return torch.cat([_mean_size(near), _mean_size(middle), (down + right) / 2], 1)


def _mean_size(differences: Tensor) -> Tensor:
    return differences.abs().mean(1, keepdim=True)


@cache
def _difference_kernels() -> Tensor:
    """Return kernels (20, 1, 4, 4) that give of each block 8 differences 1 px apart, 8 of 2 px, and 4 pixels."""
    cells, within = ([(y, x) for y in steps for x in steps] for steps in ((0, 2), (0, 1)))
    pairs = [(y, x, y + down, x + 1 - down) for y, x in cells for down in (0, 1)]
    pairs += [(y, x, y + 2 * down, x + 2 - 2 * down) for y, x in within for down in (0, 1)]
    kernels = torch.zeros(20, 1, _BLOCK_PX, _BLOCK_PX)
    for kernel, (y, x, other_y, other_x) in zip(kernels, pairs, strict=False):
        kernel[0, y, x], kernel[0, other_y, other_x] = 1.0, -1.0
    for kernel, (y, x) in zip(kernels[len(pairs) :], cells, strict=True):
        kernel[0, y, x] = 1.0
    return kernels


def _noise(difference: Tensor, has_image: Tensor) -> Tensor:
    """Return the differences of places without particles around each block, (B, 1, h, w)."""
    known = F.avg_pool2d(has_image.to(difference.dtype), 3, 1, 1)
    mean = F.avg_pool2d(difference, 3, 1, 1, count_include_pad=False)
    least = -F.max_pool2d(torch.where(known > 0.6, -mean, -_NO_BLOCK), 5, 1, 2)
    of_frame = (difference * has_image).sum((-2, -1), keepdim=True) / has_image.sum((-2, -1), keepdim=True).clamp(min=1)
    return F.avg_pool2d(torch.where(least < _NO_BLOCK, least, of_frame), 5, 1, 2, count_include_pad=False)


def _background(mean: Tensor, has_image: Tensor, scale: Tensor) -> Tensor:
    """Return the background in each block, (B, T, h, w): the mean around it, of blocks cut to their surroundings.

    The surroundings are a morphological opening: whatever is smaller than 20 px does not count.
    """
    least = -F.max_pool2d(torch.where(has_image, -mean, -_NO_BLOCK), 5, 1, 2)
    opened = F.max_pool2d(torch.where(least < _NO_BLOCK, least, -_NO_BLOCK), 5, 1, 2)
    cut = torch.minimum(torch.where(has_image, mean, opened), opened + scale)
    return F.avg_pool2d(cut, 3, 1, 1, count_include_pad=False)


def noise_of(seen: Seen, current: Tensor) -> Tensor:
    """Return the noise around each pixel of the current frame (B, 1, H, W), counts, as large as that."""
    scale = _enlarged(seen.scale)
    return scale[..., : current.shape[-2], : current.shape[-1]]
