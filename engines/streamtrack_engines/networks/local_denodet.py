"""DENODET that sees each place on the scale of its own noise."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.networks.denodet import Denodet
from streamtrack_engines.networks.local_scale import KNEE, Seen, noise_of, see
from streamtrack_engines.networks.network import FramesSeen, Network

_UNIT = 4 * KNEE / 1.1
"""What `see` gives times this is about what DENODET sees of a frame with few particles: it learns on from there."""


class LocalDenodet(Denodet):
    """DENODET on frames as `streamtrack_engines.networks.local_scale` shows them.

    Parameters
    ----------
    n_frames
        Frames that the network sees at once: the current one and those before it.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    def __init__(self, n_frames: FramesSeen = 3, *, head_bias: Sequence[float]) -> None:
        super().__init__(n_frames, head_bias=head_bias)
        self.texture = nn.Conv2d(2, 16, 1, bias=False)
        self.unit = _UNIT
        nn.init.zeros_(self.texture.weight)

    def see(self, counts: Tensor) -> Seen:
        """Return `see` of the frames."""
        return see(counts, self.stride)

    def image_scale(self, seen: Seen, current: Tensor) -> Tensor:
        """Return the noise around each pixel of the current frame (B, 1, H, W), as large as that."""
        return noise_of(seen, current)

    def folded(self) -> Network:
        """Return a copy for inference, batch norms and the unit of what it sees part of the convolutions."""
        network = super().folded()
        assert isinstance(network, LocalDenodet)
        with torch.no_grad():
            network.encoder[0].convs[0].weight.mul_(network.unit)  # type: ignore[index, union-attr]
        network.unit = 1.0
        return network

    @torch.no_grad()
    def take_folded(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a folded network: of this kind, in which the unit is one of them, or of DENODET."""
        super().take_folded(weights)
        if "texture.weight" in weights:
            self.encoder[0].convs[0].weight.div_(self.unit)  # type: ignore[index, union-attr]

    def _encode(self, seen: Seen) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Return features at full, half and quarter size."""
        dtype = self.found_head.weight.dtype
        frames = seen.frames if self.unit == 1 else seen.frames * self.unit
        full = self.encoder[0](frames.to(dtype))
        half = self.encoder[1](F.max_pool2d(full, 2))
        quarter = F.max_pool2d(half, 2) + self.texture(seen.texture.to(dtype))
        return full, half, self.context(self.encoder[2](quarter))
