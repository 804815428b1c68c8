"""The head ``cells``: how likely the middle of a cell is at a place, where it is exactly, and how large the cell is.

Objects as points (Zhou et al., arXiv:1904.07850): a map that is highest in the middle of each object, learnt with the
focal loss of that paper. Channels have half of the frame's size.
"""

from collections.abc import Mapping
from math import cos, log, nan, pi, sin

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack.settings import NotNegative
from streamtrack.types import Column
from streamtrack_engines.heads.calibration import SPARSE_PER_PX, UNCALIBRATED, Calibration, calibrated
from streamtrack_engines.heads.head import COLUMNS, Head, Points
from streamtrack_engines.heads.peaks import TILE_PX, best, is_top, table_rows
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import TrainingData

CHANNELS = ("middle", "dy", "dx", "log_sigma", "log_radius")
"""Logit of being the middle of a cell; where that lies then, from the centre of the channel's pixel, and logarithms of
its standard deviation per axis and of the cell's radius, px of the frame."""

STEP_PX = 2
"""Pixels of the frame for one of a channel, along each axis."""

_MIDDLE = (STEP_PX - 1) / 2  # of a channel's pixel, from the centre of its first pixel of the frame

RADIUS = Column("radius_px", "px")
"""Of a disc that has the area of the cell."""

RADIUS_LIMITS_PX = (1.0, 60.0)

_LEAST_SCORE = 0.02
_UNKNOWN_RADIUS_PX = 7.0  # where somebody marked middles alone
_LOG_SIGMA_LIMITS = (-2.5, 2.3)
_NEAR = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
_SHARPEST, _REACH = 0.7, 8  # of the middle's map, in its pixels
_WIDTH = 0.22  # of the middle's map, in radii
_OUTLIERS, _OUTLIER_AREA_PX2 = 0.02, 400.0
_RINGS = ((0.0, 1), (0.25, 6), (0.5, 12), (0.72, 17), (0.9, 20))
"""In radii and points: where the light of a cell is looked up, each point for as much area as the others."""
_AROUND, _SECTORS = (1.25, 1.4, 1.55), 12
"""In radii, where the background is looked up, in each of some sectors."""


class CellHead(Head):
    """Each place says whether the middle of a cell is there, where exactly, how surely, and how large the cell is.

    Parameters
    ----------
    middle, place, radius
        Weights of the focal loss of the map, of the likelihood of the places, and of the error of the radius'
        logarithm.
    """

    bias = (-4.0, 0.0, 0.0, 0.5, 2.3)
    columns = (*COLUMNS, RADIUS)
    uncalibrated = UNCALIBRATED
    inside: Tensor
    around: Tensor

    def __init__(self, *, middle: NotNegative = 1.0, place: NotNegative = 0.2, radius: NotNegative = 2.0) -> None:
        super().__init__()
        self.weights: Mapping[str, float] = {"middle": middle, "place": place, "radius": radius}
        self.register_buffer("inside", _circles(_RINGS), persistent=False)
        self.register_buffer("around", _circles([(each, _SECTORS) for each in _AROUND]), persistent=False)

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the focal loss of the middles, the likelihood of the places, and the error of the radii."""
        kept, cell = _inside(points.places, found)
        place = points.places[kept]
        radius = points.known[RADIUS.name][kept] if RADIUS.name in points.known else place[:, 0] * nan
        is_known = radius.isfinite()
        near = cell[:, None, 1:] + torch.tensor(_NEAR, device=found.device)
        said = _gather(found[:, 1:], cell[:, 0], near)
        middles = render_middles(cell, torch.where(is_known, radius, _UNKNOWN_RADIUS_PX), found)
        return {
            "middle": _focal_loss(found[:, :1], middles),
            "place": _place_loss(said, place[:, None, 1:] - (STEP_PX * near + _MIDDLE)),
            "radius": _radius_loss(said[is_known, 3], radius[is_known]),
        }

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return the cells: where the map of middles is highest around, and what the other channels say there."""
        height, width = ((size + STEP_PX - 1) // STEP_PX for size in frame.shape[-2:])
        found = found[..., :height, :width]  # without the padding
        p = torch.sigmoid(found[:, :1])
        y, x, score = best(torch.where(is_top(p) & (p > _LEAST_SCORE), p, 0.0), k, TILE_PX // STEP_PX)
        said = found.reshape(found.shape[1], -1).index_select(1, y * found.shape[-1] + x)
        pixel = torch.stack([y, x], 1).to(p.dtype) * STEP_PX + _MIDDLE
        place = pixel + said[1:3].T
        radius = said[4].clamp(*map(log, RADIUS_LIMITS_PX)).exp()
        certain = Calibration(*calibration).probability(score, score.new_tensor(SPARSE_PER_PX))
        rows = table_rows(place, certain, self._mass(frame, place, radius), said[3], frame)
        return torch.where((score > 0)[:, None], torch.cat([rows, radius[:, None]], 1), 0.0)

    def _mass(self, frame: Tensor, place: Tensor, radius: Tensor) -> Tensor:
        """Return the counts of cells (K,) above what is around them, from points in their discs, (K, 2) and (K,)."""
        light = _look_up(frame, place, radius, self.inside).mean(1)
        around = _look_up(frame, place, radius, self.around).reshape(-1, len(_AROUND), _SECTORS).mean(1)
        # Neighbours make some sectors bright: the darker ones count, without the darkest.
        background = (-around).topk(_SECTORS // 2).values[:, 1:].mean(1)
        return (light + background) * (pi * radius * radius)

    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return the calibration of the map's height at its peaks."""
        return calibrated(network, data, self._scored, n_frames=n_frames, size_px=size_px)

    def _scored(self, found: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        table = self.table(found, frame, k=2000, calibration=self.uncalibrated)[:, :3]
        # How many cells there are says nothing of a single one.
        return table[table[:, 2] > _LEAST_SCORE], torch.tensor(SPARSE_PER_PX)


def _circles(rings: object) -> Tensor:
    """Return the y, x of points on circles, in radii, (N, 2), circle after circle."""
    points = [
        (radius * sin(2 * pi * (i + 0.5) / n), radius * cos(2 * pi * (i + 0.5) / n))
        for radius, n in rings  # type: ignore[attr-defined]
        for i in range(n)
    ]
    return torch.tensor(points)


def _look_up(frame: Tensor, place: Tensor, radius: Tensor, points: Tensor) -> Tensor:
    """Return what a frame (1, 1, H, W) shows at points, in radii, around places, (K, N); at the border the nearest."""
    height, width = frame.shape[-2:]
    at = (place[:, None] + radius[:, None, None] * points).round()
    y, x = at[..., 0].clamp(0, height - 1).long(), at[..., 1].clamp(0, width - 1).long()
    return frame.reshape(-1).index_select(0, (y * width + x).reshape(-1)).reshape(at.shape[:2])


def _inside(places: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Return which points (M, 3) have a channel's pixel to themselves, and crop, row and column of these, (K, 3)."""
    pixel = ((places[:, 1:] - _MIDDLE) / STEP_PX).round().long()
    size = torch.tensor(found.shape[-2:], device=found.device)
    kept = ((pixel >= 0) & (pixel < size)).all(1)
    return kept, torch.cat([places[kept, :1].long(), pixel[kept]], 1)


def _gather(maps: Tensor, crop: Tensor, near: Tensor) -> Tensor:
    """Return (K, C, n) values of maps (B, C, H, W) at places (K, n, 2) of crops (K,); beyond the border the nearest."""
    height, width = maps.shape[-2:]
    y, x = near[..., 0].clamp(0, height - 1), near[..., 1].clamp(0, width - 1)
    return maps[crop[:, None], :, y, x].transpose(1, 2)


def render_middles(cell: Tensor, radius: Tensor, found: Tensor) -> Tensor:
    """Return the map to learn, (B, 1, H, W): 1 in the middles (K, 3), falling off with the radius (K,) px."""
    height, width = found.shape[-2:]
    steps = torch.arange(-_REACH, _REACH + 1, device=found.device)
    offset = torch.cartesian_prod(steps, steps)
    sigma = (_WIDTH * radius / STEP_PX).clamp(min=_SHARPEST, max=_REACH / 2.5)
    value = torch.exp(-(offset**2).sum(1) / (2 * sigma[:, None] ** 2))
    pixel = cell[:, None, 1:] + offset
    inside = ((pixel >= 0) & (pixel < pixel.new_tensor([height, width]))).all(2)
    place = (cell[:, :1] * height + pixel[..., 0]) * width + pixel[..., 1]
    flat = torch.zeros(len(found) * height * width, device=found.device)
    flat.scatter_reduce_(0, place[inside], value[inside], "amax")
    return flat.view(len(found), 1, height, width)


def _focal_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Return the focal loss of Objects as Points, its equation 1, by object."""
    p = torch.sigmoid(logit)
    is_middle = target == 1
    hit = -((1 - p) ** 2) * F.logsigmoid(logit)
    miss = -((1 - target) ** 4) * p**2 * F.logsigmoid(-logit)
    return torch.where(is_middle, hit, miss).sum() / is_middle.sum().clamp(min=len(logit))


def _radius_loss(log_radius: Tensor, radius: Tensor) -> Tensor:
    """Return how far logarithms (K, n) are from those of the radii (K,), on average."""
    if not len(radius):
        return log_radius.sum()
    return F.smooth_l1_loss(log_radius, radius.log()[:, None].expand_as(log_radius), beta=0.1)


def _place_loss(said: Tensor, away: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of how far the middles (K, n, 2) are away; a few may be anywhere."""
    if not len(away):
        return said.sum()
    log_sigma = said[:, 2].clamp(*_LOG_SIGMA_LIMITS)
    squared = ((said[:, :2].transpose(1, 2) - away) ** 2).sum(2)
    gaussian = log((1 - _OUTLIERS) / (2 * pi)) - 2 * log_sigma - squared / 2 * torch.exp(-2 * log_sigma)
    outlier = gaussian.new_full((), log(_OUTLIERS / _OUTLIER_AREA_PX2))
    return -torch.logaddexp(gaussian, outlier).mean()
