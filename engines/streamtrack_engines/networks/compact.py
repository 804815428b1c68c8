"""DENODET at 1/2, 1/4 and 1/8 of the frame's size, which sees each place on the scale of its own noise.

So it takes what cameras give: uneven light, objects a hundred times brighter than the particles, noise that a filter or
a resampling has spread, borders without an image, and frames before that show something else:
``docs/decisions/0013-compact-network.md``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.networks.context import Context
from streamtrack_engines.networks.local_scale import Seen, noise_of, see
from streamtrack_engines.networks.network import FramesSeen, Network

STRIDE = 8
"""Height and width of what the network sees are multiples of this."""

_WIDTHS = (16, 32, 64)


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
        return see(counts, STRIDE)

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
        return noise_of(seen, current)

    def _encode(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
        dtype = self.found_head.weight.dtype
        half = self.encoder[0](seen.frames.to(dtype))
        quarter = self.encoder[1](F.max_pool2d(half, 2) + self.texture(seen.texture.to(dtype)))
        return half, quarter, self.context(self.encoder[2](F.max_pool2d(quarter, 2)))

    def _find(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.found_head(self.detection[1](self.detection[0](eighth, quarter), half)), 2)

    def _denoise(self, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        return F.pixel_shuffle(self.denoised_head(self.denoising[1](self.denoising[0](eighth, quarter), half)), 2)
