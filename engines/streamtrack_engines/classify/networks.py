"""Convolutional networks that tell the class of a patch."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST_SCALE = 1e-3  # a constant patch becomes zeros, not NaN


class PatchCnn(nn.Module):
    """Levels of 3x3 convolutions, batch norm and ReLU, each pooled 2x2; then the mean, and a linear layer.

    Parameters
    ----------
    n_classes
        How many classes there are.
    patch_px
        Height and width of the patches.
    widths
        Features of each level.
    convs
        Convolutions of each level.
    """

    def __init__(self, n_classes: int, patch_px: int = 21, widths: Sequence[int] = (8, 16, 32), convs: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((1, *widths)):
            for width in (n_in, *[n_out] * (convs - 1)):
                layers += [nn.Conv2d(width, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], n_classes)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, P, P), float32 counts, to logits (N, C)."""
        logits: Tensor = self.last(self.layers(normalised(patches)).mean((-2, -1)))
        return logits


class TextCnn(nn.Module):
    """The layers of the text on organelles: two 4x4 convolutions, a pooling with stride 1, dropout, two dense layers.

    Parameters
    ----------
    n_classes
        How many classes there are.
    patch_px
        Height and width of the patches.
    widths
        Features of the two convolutions.
    dense
        Features of the first dense layer.
    """

    def __init__(
        self, n_classes: int, patch_px: int = 50, widths: tuple[int, int] = (32, 64), dense: int = 128
    ) -> None:
        super().__init__()
        convs = (nn.Conv2d(1, widths[0], 4, padding="same"), nn.Conv2d(*widths, 4, padding="same"))
        self.layers = nn.Sequential(
            *(convs[0], nn.ReLU(), convs[1], nn.ReLU(), nn.MaxPool2d(2, 1), nn.Dropout(0.2), nn.Flatten()),
            *(nn.Linear(widths[1] * (patch_px - 1) ** 2, dense), nn.ReLU(), nn.Linear(dense, n_classes)),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, P, P), float32 counts, to logits (N, C)."""
        logits: Tensor = self.layers(normalised(patches))
        return logits


NETWORKS = {"patch_cnn": PatchCnn, "text_cnn": TextCnn}


class Classifier(nn.Module):
    """A trained network whose logits are divided by a temperature: patches in, probabilities out."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (N, P, P), float32 counts, to the logarithms of the probabilities of the classes (N, C)."""
        return F.log_softmax(self.network(patches) / self.temperature, 1)


def normalised(patches: Tensor) -> Tensor:
    """Return patches (N, P, P) with mean 0 and standard deviation 1 each, (N, 1, P, P)."""
    centred = patches - patches.mean((-2, -1), keepdim=True)
    scale = (centred * centred).mean((-2, -1), keepdim=True).sqrt().clamp(min=_LEAST_SCALE)
    return (centred / scale)[:, None]


def moved(patches: Tensor, places: Tensor) -> Tensor:
    """Return patches (N, P, P) under affine maps (N, 2, 3) of [-1, 1] squared; beyond, the nearest pixel stands in."""
    grid = F.affine_grid(places, [len(patches), 1, *patches.shape[1:]], align_corners=False)
    return F.grid_sample(patches[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def random_maps(n: int, rotation_deg: float, shift: float, shear: float, zoom: float, flip: bool) -> Tensor:
    """Return affine maps (n, 2, 3): each number is the most to either side, ``shift`` a share of the patch's side."""
    turn, along, scale_y, scale_x = (
        (2 * torch.rand(n) - 1) * most for most in (torch.pi / 180 * rotation_deg, shear, zoom, zoom)
    )
    sign = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin = turn.cos(), turn.sin()
    x_axis = torch.stack([sign * (1 + scale_x) * cos, (1 + scale_y) * (along * cos - sin)], 1)
    y_axis = torch.stack([sign * (1 + scale_x) * sin, (1 + scale_y) * (along * sin + cos)], 1)
    return torch.cat([torch.stack([x_axis, y_axis], 1), 2 * shift * (2 * torch.rand(n, 2, 1) - 1)], 2)
