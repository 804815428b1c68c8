"""A convolutional network that tells where a particle is in a crop, how large it is, and how much light it has."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUANTITIES = ("dy", "dx", "log_diameter", "log_light")
"""px from the middle of the crop; logarithm of px; logarithm of counts."""

_LEAST_SCALE = 1e-3  # a crop without contrast becomes zeros, not NaN
_LEAST_LOG_ERROR, _MOST_LOG_ERROR = -7.0, 2.0


class CropCnn(nn.Module):
    """Three levels of 3x3 convolutions, up again, and places as means over the crop, weighted with maps.

    A weighted mean of places moves with the particle whatever the weights are (soft argmax): dense layers alone, which
    learn each place by itself, stop at some hundredths of a pixel. They tell the rest, and correct the mean.

    Parameters
    ----------
    crop_px
        Height and width of the crops; four times the stride, or a multiple.
    stride
        Side of the squares of pixels that the first layer takes together.
    widths
        Features of the three levels.
    maps
        How many means there are.
    dense
        Features of the dense layer.
    """

    places: Tensor

    def __init__(
        self, crop_px: int = 16, stride: int = 1, widths: Sequence[int] = (16, 24, 24), maps: int = 6, dense: int = 48
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.stride = stride
        self.first = nn.Conv2d(stride**2, fine, 5, padding=2)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.middle = nn.ModuleList([nn.Conv2d(fine, middle, 3, padding=1), nn.Conv2d(middle, middle, 3, padding=1)])
        self.coarse = nn.ModuleList([nn.Conv2d(middle, coarse, 3, padding=1), nn.Conv2d(coarse, coarse, 3, padding=1)])
        self.from_coarse, self.from_middle = nn.Conv2d(coarse, 4 * middle, 1), nn.Conv2d(middle, 4 * fine, 1)
        self.up_middle = nn.Conv2d(middle, middle, 3, padding=1)
        self.up_fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.maps = nn.Conv2d(fine, maps, 1)
        self.dense = nn.Linear(maps * (fine + 2) + 2 * coarse, dense)
        self.last = nn.Linear(dense, 2 * len(QUANTITIES))
        side = torch.arange(crop_px // stride) * float(stride) + (stride - 1) / 2 - crop_px // 2
        self.register_buffer("places", torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1).T.clone())
        with torch.no_grad():
            self.last.weight *= 0.1

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (N, P, P), float32 counts, to the `QUANTITIES` and the logarithms of their errors, (N, 8)."""
        seen, scale = self.see(crops)
        return self.tell(scale, *self.features(seen))

    def see(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return crops with mean 0 and standard deviation 1, in squares of the stride, and what the deviation was."""
        scale = crops.std((-2, -1), correction=0, keepdim=True).clamp(min=_LEAST_SCALE)
        seen = ((crops - crops.mean((-2, -1), keepdim=True)) / scale)[:, None]
        return (F.pixel_unshuffle(seen, self.stride) if self.stride > 1 else seen), scale[:, :, 0]

    def tell(self, scale: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map features to what `forward` returns."""
        weights = self.maps(fine).flatten(2).softmax(-1)
        places = weights @ self.places
        light = weights @ fine.flatten(2).transpose(1, 2)
        known = torch.cat([places.flatten(1), light.flatten(1), coarse.mean((-2, -1)), coarse.amax((-2, -1))], 1)
        said = self.last(F.relu(self.dense(known)))
        values, log_errors = said[:, :4], said[:, 4:].clamp(_LEAST_LOG_ERROR, _MOST_LOG_ERROR)
        log_scale = scale.log()
        begun = torch.cat([places.mean(1), torch.zeros_like(log_scale), log_scale], 1)
        return torch.cat([begun + values, log_errors], 1)

    def features(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the finest and the coarsest level hold."""
        fine = F.relu(self.first(seen))
        fine = F.relu(fine + self.fine(fine))
        middle = F.relu(self.middle[0](F.avg_pool2d(fine, 2)))
        middle = F.relu(middle + self.middle[1](middle))
        coarse = F.relu(self.coarse[0](F.avg_pool2d(middle, 2)))
        coarse = F.relu(coarse + self.coarse[1](coarse))
        middle = middle + F.pixel_shuffle(self.from_coarse(coarse), 2)
        middle = F.relu(middle + self.up_middle(F.relu(middle)))
        fine = fine + F.pixel_shuffle(self.from_middle(middle), 2)
        return F.relu(fine + self.up_fine(F.relu(fine))), coarse
