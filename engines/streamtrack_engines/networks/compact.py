"""DENODET at 1/2, 1/4 and 1/8 of the frame's size, which sees each place on the scale of its own noise.

So it takes what cameras give: uneven light, objects a hundred times brighter than the particles, noise that a filter or
a resampling has spread, borders without an image, and frames before that show something else:
``docs/decisions/0013-compact-network.md``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.networks.network import FramesSeen, Network
from streamtrack_engines.networks.scaling import padded

STRIDE = 8
"""Height and width of what the network sees are multiples of this."""

_BRIGHT = 8.0  # from so many noise units on the input grows with the logarithm of the intensity
_DARKEST = -8.0
_LEAST_SCALE_COUNTS = 0.3  # the rounding to whole counts alone
_NO_BLOCK = 1e9  # more than any camera counts
_WIDTHS = (16, 32, 64)


class Seen(NamedTuple):
    """What the network sees of frames.

    Attributes
    ----------
    frames
        (B, 4 T, H / 2, W / 2): four pixels of each frame as channels, in units of the noise around them.
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
    blocks = _blocks(padded(counts, STRIDE))
    has_image = blocks.amax(2) > blocks.amin(2)
    near, middle, far = (_noise(each, has_image[:, -1:]) for each in _differences(blocks[:, -1]))
    scale = far.clamp(min=_LEAST_SCALE_COUNTS)  # for white noise, 0.9 of its standard deviation
    above = (blocks - _background(blocks.mean(2), has_image, scale)[:, :, None]) / scale[:, :, None]
    bright, dark = _BRIGHT * torch.log1p(F.relu(above) / _BRIGHT), above.clamp(_DARKEST, 0.0)
    visible = torch.where(has_image[:, :, None], bright + dark, 0.0)
    texture = torch.log(torch.cat([near, middle], 1).clamp(min=1e-2) / far.clamp(min=1e-2)).clamp(-4.0, 1.0)
    return Seen(F.pixel_shuffle(visible.flatten(1, 2), 2), texture, scale)


def _blocks(frames: Tensor) -> Tensor:
    """Return the 16 pixels of each block of 4x4, (B, T, H, W) -> (B, T, 16, H / 4, W / 4).

    Ordered so that `pixel_shuffle` makes images of half the size of them: row and column inside a cell of 2x2 pixels
    first, then which cell.
    """
    n, t, height, width = frames.shape
    split = frames.reshape(n, t, height // 4, 2, 2, width // 4, 2, 2)
    return split.permute(0, 1, 4, 7, 3, 6, 2, 5).reshape(n, t, 16, height // 4, width // 4)


def _differences(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean absolute differences of pixels 1, 2 and 4 px apart in each block, (B, 16, h, w) -> 3 (B, 1, h, w).

    A quarter of the pixels is enough, and takes a quarter of the time.
    """
    first = blocks[:, :4]  # of the four cells, the first pixel
    near = _apart(first, blocks[:, 4:8]) + _apart(first, blocks[:, 8:12])
    middle = _apart(blocks[:, 0:16:4], blocks[:, 1:16:4]) + _apart(blocks[:, 0:16:4], blocks[:, 2:16:4])
    down = F.pad(_apart(first[..., 1:, :], first[..., :-1, :]), (0, 0, 0, 1), mode="replicate")
    right = F.pad(_apart(first[..., 1:], first[..., :-1]), (0, 1, 0, 0), mode="replicate")
    return near / 2, middle / 2, (down + right) / 2


def _apart(pixels: Tensor, others: Tensor) -> Tensor:
    return (pixels - others).abs().mean(1, keepdim=True)


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
    """A 3x3 convolution, and some more whose sum with it goes on; norm and ReLU after each."""

    def __init__(self, n_in: int, n_out: int, n_more: int) -> None:
        super().__init__()
        widths = (n_in, *[n_out] * n_more)
        self.convs = nn.ModuleList(nn.Conv2d(width, n_out, 3, padding=1, bias=False) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out, momentum=0.02) for _ in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        first, *more = zip(self.convs, self.norms, strict=True)
        x = F.relu(first[1](first[0](x)))
        for conv, norm in more:
            x = F.relu(x + norm(conv(x)))
        return x


class Rise(nn.Module):
    """To twice the size by a sub-pixel convolution, added to the encoder's features there, and a block."""

    def __init__(self, n_in: int, n_out: int, n_more: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, 4 * n_out, 1)
        self.block = Block(n_out, n_out, n_more)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, n_in, H, W) and features (B, n_out, 2H, 2W) of the encoder to (B, n_out, 2H, 2W)."""
        out: Tensor = self.block(F.relu(skip + F.pixel_shuffle(self.conv(x), 2)))
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
            [Block(4 * n_frames, half, 1), Block(half + 2, quarter, 1), Block(quarter, eighth, 2)]
        )
        self.context = nn.Sequential(nn.Conv2d(eighth, eighth, 1), nn.ReLU(), nn.Conv2d(eighth, eighth, 1))
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
        quarter = self.encoder[1](torch.cat([F.max_pool2d(half, 2), seen.texture.to(dtype)], 1))
        eighth = self.encoder[2](F.max_pool2d(quarter, 2))
        mean = eighth.float().mean((-2, -1), keepdim=True)
        return half, quarter, eighth + self.context(mean.to(eighth.dtype))

    def _find(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.found_head(self.detection[1](self.detection[0](eighth, quarter), half)), 2)

    def _denoise(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.denoised_head(self.denoising[1](self.denoising[0](eighth, quarter), half)), 2)
