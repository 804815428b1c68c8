"""What surrounds a network from elsewhere in a deploy graph: from bytes to pixels, and from its output to a table."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamtrack_engines.heads.peaks import (
    NOTHING,
    REACH_PX,
    background_ring,
    best,
    is_peak,
    mean_place,
    offsets,
    spot_intensity,
    table_rows,
    windows,
)
from streamtrack_engines.networks.scaling import padded

Scaling = Literal["none", "full", "max", "minmax", "standard"]
"""Counts as they are, over the greatest that the camera's type has, over the frame's brightest pixel, from the frame's
darkest to its brightest pixel, or with mean 0 and standard deviation 1."""

_EPSILON = 1e-6


class Before(nn.Module):
    """Frames as bytes (1, T, H, W, B) become what the network takes, and the current frame's counts.

    Parameters
    ----------
    scaling
        Of each frame.
    stride
        The network takes sizes that are multiples of this: frames are padded at the lower and right border.
    """

    def __init__(self, scaling: Scaling, stride: int) -> None:
        super().__init__()
        self.scaling, self.stride = scaling, stride
        self.place_values: Tensor
        self.register_buffer("place_values", torch.tensor([[1.0], [256.0]]), persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames (1, T, H', W'), the last one's counts (1, 1, H', W'), and where these are not padding, 1."""
        n_bytes = frames.shape[-1]
        pixels = frames.to(torch.float32).reshape(-1, n_bytes) @ self.place_values[:n_bytes]
        counts = pixels.reshape(frames.shape[:-1])
        current = counts[:, -1:]
        has_contrast = (current.amax((-2, -1), keepdim=True) > current.amin((-2, -1), keepdim=True)).to(counts.dtype)
        inside = F.pad(torch.ones_like(current), (0, self.stride - 1) * 2)
        whole = padded(current, self.stride)
        inside = inside[..., : whole.shape[-2], : whole.shape[-1]] * has_contrast
        return padded(self._scaled(counts, n_bytes), self.stride), whole, inside

    def _scaled(self, counts: Tensor, n_bytes: int) -> Tensor:
        frame = (-2, -1)
        match self.scaling:
            case "full":
                return counts / (256.0**n_bytes - 1)
            case "max":
                return counts / counts.amax(frame, keepdim=True).clamp(min=_EPSILON)
            case "minmax":
                least = counts.amin(frame, keepdim=True)
                return (counts - least) / (counts.amax(frame, keepdim=True) - least).clamp(min=_EPSILON)
            case "standard":
                centred = counts - counts.mean(frame, keepdim=True)
                return centred / (centred * centred).mean(frame, keepdim=True).sqrt().clamp(min=_EPSILON)
        return counts


class AfterHeatMap(nn.Module):
    """A heat map (1, 1, H, W) becomes a table of its peaks.

    Parameters
    ----------
    k
        Rows for each tile of the map.
    sigma_px
        Standard deviation of the positions.
    logits
        The map is one of logits, not of numbers from 0 to 1.
    """

    def __init__(self, k: int, sigma_px: float, logits: bool) -> None:
        super().__init__()
        self.k, self.logits, self.log_sigma = k, logits, float(torch.tensor(sigma_px).log())
        self.ring: Tensor
        self.register_buffer("ring", background_ring(), persistent=False)

    def forward(self, heat: Tensor, counts: Tensor, inside: Tensor) -> Tensor:
        """Return y, x, score, intensity and sigma of the peaks, (tiles * k, 5): the centre of 3x3 pixels each."""
        p = torch.sigmoid(heat) if self.logits else heat.clamp(0.0, 1.0)
        p = p * inside
        border = F.pad(p, (REACH_PX,) * 4, value=NOTHING)
        y, x, score = best(torch.where(is_peak(border), p, 0.0), self.k)
        (near,) = windows(F.pad(p, (REACH_PX,) * 4), y + REACH_PX, x + REACH_PX, REACH_PX)
        place = torch.stack([y, x], 1) + mean_place(near, offsets(near).expand(near.shape[0], -1, -1))
        intensity = spot_intensity(counts, y, x, self.ring)
        return table_rows(place, score, intensity, torch.full_like(score, self.log_sigma), counts)


class AfterTable(nn.Module):
    """A table (N, C) in any order becomes one with the required columns first, the best row first.

    Parameters
    ----------
    columns
        Names of the C columns; ``intensity`` and ``sigma`` may be missing.
    sigma_px
        Standard deviation of the positions where the table has none.
    """

    def __init__(self, columns: tuple[str, ...], sigma_px: float) -> None:
        super().__init__()
        self.columns, self.sigma_px = columns, sigma_px
        self.ring: Tensor
        self.register_buffer("ring", background_ring(), persistent=False)

    def forward(self, table: Tensor, counts: Tensor, inside: Tensor) -> Tensor:
        """Return y, x, score, intensity and sigma, then what else the table has, (N, ...)."""
        named = {name: table[:, i] for i, name in enumerate(self.columns)}
        y, x, score = (named.pop(name) for name in ("y", "x", "score"))
        height, width = counts.shape[-2:]
        pixel_y, pixel_x = y.round().long().clamp(0, height - 1), x.round().long().clamp(0, width - 1)
        intensity = named.pop("intensity", None)
        if intensity is None:
            intensity = spot_intensity(counts, pixel_y, pixel_x, self.ring)
        sigma = named.pop("sigma", torch.full_like(y, self.sigma_px))
        is_inside = inside.reshape(-1).index_select(0, pixel_y * width + pixel_x) > 0
        rows = torch.stack([y, x, score, intensity, sigma, *named.values()], 1)
        rows = torch.where((is_inside & (score > 0))[:, None], rows, 0.0)
        return rows.index_select(0, rows[:, 2].topk(rows.shape[0]).indices)
