"""detectSpot: the convolutional network that tells whether the middle of a patch of 29x29 px is a spot, everywhere.

Mabaso, Withey and Twala, Spot Detection in Microscopy Images using Convolutional Neural Network with Sliding-Window
Approach (BIOIMAGING 2018), with the layers of its Table 1. The paper slides a window over the image and runs the
network on each; here the fully connected layers are convolutions (of 8x8 px, then of single ones), so that all windows
share what their first layers have in common. The scores are the same.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from streamtrack_engines.networks.network import Network

PATCH_PX = 29
REACH_PX = PATCH_PX // 2
"""From the middle of a patch to its border."""

_DENSE = 128
_LAST_PX = 8  # what the third pooling leaves of a patch; the paper's table says 7, and 2x2 pooling says 8
_FORGOTTEN = 0.5


class DetectSpot(Network):
    """The paper's three convolutions and three fully connected layers, run on whole frames.

    Each pixel's channels are those of the patch around it; beyond the border the frame is mirrored.

    Parameters
    ----------
    stride
        Only the patches of every so many pixels are looked at, along both axes; scores between them are interpolated.
    head_bias
        What is found at first, one number for each channel of the head.
    """

    n_frames = 1

    def __init__(self, stride: Annotated[int, Field(ge=1, le=8)] = 1, *, head_bias: Sequence[float]) -> None:
        super().__init__()
        self._every = stride
        self.trunk = nn.Sequential(*_stage(1, 32, 9), *_stage(32, 64, 7), *_stage(64, 80, 5))
        self.dense = nn.Conv2d(80, _DENSE, _LAST_PX, stride=stride)
        self.dense2 = nn.Conv2d(_DENSE, _DENSE, 1)
        self.found_head = nn.Conv2d(_DENSE, len(head_bias), 1)
        self.forget = nn.Dropout(_FORGOTTEN)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                _init(layer)
        with torch.no_grad():
            self.found_head.bias.copy_(torch.tensor(head_bias))  # type: ignore[union-attr]

    def forward(self, seen: Tensor) -> tuple[None, Tensor]:
        """Return no image, and the channels of each patch (B, C, H, W)."""
        return None, self.find(seen)

    def find(self, seen: Tensor) -> Tensor:
        """Return the second output of `forward`. In training, patches that were not looked at have NaN."""
        seen = seen.to(self.found_head.weight.dtype)
        return self._some(seen) if self.training else self._all(seen)

    def _all(self, seen: Tensor) -> Tensor:
        """Return the channels of all pixels; one patch more, if need be, lies beyond the last row and column."""
        height, width = seen.shape[-2:]
        far = REACH_PX + self._every - 1
        scores = self._scores(self.trunk(F.pad(seen, (REACH_PX, far) * 2, mode="reflect")))
        if self._every == 1:
            return scores
        size = [(n - 1) * self._every + 1 for n in scores.shape[-2:]]
        return F.interpolate(scores, size, mode="bilinear", align_corners=True)[..., :height, :width]

    def _some(self, seen: Tensor) -> Tensor:
        """Return the channels of every so many pixels, from anywhere on."""
        features = self.trunk(F.pad(seen, (REACH_PX,) * 4, mode="reflect"))
        top, left = torch.randint(self._every, (2,)).tolist()
        scores = self._scores(features[..., top:, left:])
        found = scores.new_full((*scores.shape[:2], *seen.shape[-2:]), torch.nan)
        found[..., top :: self._every, left :: self._every] = scores
        return found

    def _scores(self, features: Tensor) -> Tensor:
        features = self.forget(F.relu(self.dense(features)))
        scores: Tensor = self.found_head(self.forget(F.relu(self.dense2(features))))
        return scores


def _stage(n_in: int, n_out: int, size: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(n_in, n_out, size), nn.ReLU(), nn.MaxPool2d(2, 1)


def _init(layer: nn.Conv2d) -> None:
    """Draw weights from a normal distribution without its tails, biases 0."""
    sigma = (2 / layer.weight[0].numel()) ** 0.5
    nn.init.trunc_normal_(layer.weight, std=sigma, a=-2 * sigma, b=2 * sigma)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def patch_form(network: DetectSpot) -> nn.Sequential:
    """Return the network as the paper has it, from patches (B, 1, 29, 29) to their channels (B, C); without dropout."""
    layers: list[nn.Module] = [network.trunk, nn.Flatten()]
    for conv in (network.dense, network.dense2, network.found_head):
        linear = nn.Linear(conv.weight[0].numel(), conv.out_channels)
        linear.load_state_dict({"weight": conv.weight.detach().flatten(1), "bias": conv.bias.detach()})  # type: ignore[union-attr]
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()
