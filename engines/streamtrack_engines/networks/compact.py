"""DENODET at 1/2, 1/4 and 1/8 of the frame's size, which sees each place on the scale of its own noise.

So it takes what cameras give: uneven light, objects a hundred times brighter than the particles, noise that a filter or
a resampling has spread, borders without an image, and frames before that show something else:
``docs/decisions/0013-compact-network.md``.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.networks.context import Context
from streamtrack_engines.networks.network import FramesSeen, Network
from streamtrack_engines.networks.scaling import padded

STRIDE = 8
"""Height and width of what the network sees are multiples of this."""

KNEE = 10.0
"""Noise units from which on the input grows with the fourth root of the intensity."""

_DARKEST = -7.5  # noise units
_LEAST_SCALE_COUNTS = 0.3  # the rounding to whole counts alone
_NO_BLOCK = 1e9  # more than any camera counts
_BLOCK_PX = 4
_WIDTHS = (16, 32, 64)


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


def see(counts: Tensor) -> Seen:
    """Return what the network sees of frames (B, T, H, W), float32 counts, the current one last.

    Frames are padded to multiples of `STRIDE`. Each has its own background taken off and is divided by the noise of the
    current frame, both as they are around each place. Blocks of equal pixels, as in frames that are not known and
    beside registered images, are zeros. Training and the deployed graph share it.
    """
    counts = padded(counts, STRIDE)
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


class Block(nn.Module):
    """A convolution, and some of 3x3 whose sum with it goes on; norm and ReLU after each."""

    def __init__(self, first: nn.Conv2d, n_more: int) -> None:
        super().__init__()
        width = first.out_channels
        self.convs = nn.ModuleList([first, *(_conv(width, width) for _ in range(n_more))])
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, momentum=0.02) for _ in self.convs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W), the size divided by the stride of the first convolution."""
        first, *more = zip(self.convs, self.norms, strict=True)
        x = F.relu(first[1](first[0](x)))
        for conv, norm in more:
            x = F.relu(x + norm(conv(x)))
        return x


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)


class Rise(nn.Module):
    """To twice the size, added to the encoder's features there, and a block.

    Each feature is repeated: sub-pixel convolutions take a CPU ten times as long to put into place.
    """

    def __init__(self, n_in: int, n_out: int, n_more: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 1)
        self.block = Block(_conv(n_out, n_out), n_more)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and features (B, n_out, 2H, 2W) of the encoder to (B, n_out, 2H, 2W)."""
        out: Tensor = self.block(F.relu(skip + F.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")))
        return out


class CompactDenodet(Network):
    """Encoder at 1/2, 1/4 and 1/8 of the size, with a decoder for detection and one for the denoised image.

    Its outputs mean what those of `streamtrack_engines.networks.denodet.Denodet` mean.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    stride = STRIDE
    image = "denoised"

    def __init__(self, n_frames: FramesSeen = 3, *, head_bias: Sequence[float]) -> None:
        super().__init__()
        self.n_frames = n_frames
        half, quarter, eighth = _WIDTHS
        self.encoder = nn.ModuleList(
            [
                Block(nn.Conv2d(n_frames, half, 6, stride=2, padding=2, bias=False), 1),
                Block(_conv(half, quarter), 1),
                Block(_conv(quarter, eighth), 2),
            ]
        )
        self.texture = nn.Conv2d(2, half, 1, bias=False)
        self.context = Context(eighth)
        self.detection = nn.ModuleList([Rise(eighth, quarter, 1), Rise(quarter, half, 1)])
        self.denoising = nn.ModuleList([Rise(eighth, quarter, 0), Rise(quarter, half, 0)])
        self.found_head = nn.Conv2d(half, 4 * len(head_bias), 1)
        self.denoised_head = nn.Conv2d(half, 4, 1)
        nn.init.constant_(self.denoised_head.bias, -2.0)  # type: ignore[arg-type]
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias).repeat_interleave(4))  # type: ignore[union-attr]

    def see(self, counts: Tensor) -> Seen:
        """Return `see` of the frames."""
        return see(counts)

    def forward(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Map what `see` gives to the denoised image (B, 1, H, W) and to what is found in each pixel (B, C, H, W).

        H and W are those of the padded frames.
        """
        features = self._encode(seen)
        return self._denoise(*features), self._find(*features)

    def find(self, seen: Seen) -> Tensor:
        """Return the second output of `forward` without the work for the first."""
        return self._find(*self._encode(seen))

    def image_scale(self, seen: Seen, current: Tensor) -> Tensor:
        """Return the noise around each pixel of the current frame (B, 1, H, W), as large as that."""
        scale = F.interpolate(seen.scale, scale_factor=4.0, mode="nearest")
        return scale[..., : current.shape[-2], : current.shape[-1]]

    def _encode(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        dtype = self.found_head.weight.dtype
        half = self.encoder[0](seen.frames.to(dtype))
        quarter = self.encoder[1](F.max_pool2d(half, 2) + self.texture(seen.texture.to(dtype)))
        return half, quarter, self.context(self.encoder[2](F.max_pool2d(quarter, 2)))

    def _find(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.found_head(self.detection[1](self.detection[0](eighth, quarter), half)), 2)

    def _denoise(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.denoised_head(self.denoising[1](self.denoising[0](eighth, quarter), half)), 2)
