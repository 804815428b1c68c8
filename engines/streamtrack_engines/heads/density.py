"""The head ``density``: particles per pixel, a map whose integral is how many there are.

For crowds in which nothing can be told apart: the map to learn is a Gaussian of integral 1 around each particle
(Lempitsky and Zisserman, NIPS 2010; Midtvedt et al., arXiv:2010.08260, section IV.6). The channel has half of the
frame's size.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from streamtrack.settings import NotNegative, Positive
from streamtrack_engines.backends.metadata import COUNT, COUNT_SIGMA
from streamtrack_engines.heads.head import COLUMNS, Head, Points
from streamtrack_engines.heads.peaks import TILE_PX, n_tiles, table_rows
from streamtrack_engines.networks.network import Network
from streamtrack_engines.training_data.truth import OWN, TrainingData, Truth

STEP_PX = 2
"""Pixels of the frame for one of the channel, along each axis."""

UNIT = 1e-3
"""Particles per pixel of the frame where the channel is 1."""

_REACH = 3.0  # standard deviations: beyond, a Gaussian has next to nothing
_LOG_SIGMA_PX = 2.3  # of a middle of many: as uncertain as a table says
_LEAST_COUNT = 1e-6
_SEED = 20260802


class Density(Head):
    """Each place says how many particles there are per pixel; the table has one row for each tile of the frame.

    Parameters
    ----------
    spread_px
        Standard deviation of the Gaussian around each particle in the map to learn, px.
    density, count
        Weights of the mean absolute error of the map, in 0.001 particles per px, and of the error of its integral, in
        units of the root of the number.
    """

    bias = (0.1,)
    columns = (*COLUMNS, COUNT, COUNT_SIGMA)
    uncalibrated = (1.0, 0.0)
    image = "density"

    def __init__(self, *, spread_px: Positive = 10.0, density: NotNegative = 1.0, count: NotNegative = 0.1) -> None:
        super().__init__()
        self.beyond_px = _REACH * spread_px
        self.weights: Mapping[str, float] = {"density": density, "count": count}
        self._spread_px = spread_px

    def loss(self, found: Tensor, points: Points, fraction: float) -> dict[str, Tensor]:
        """Return the mean absolute error of the map, in `UNIT`, and the error of its integral."""
        true = self.render(points.places, found)
        count, true_count = _integral(found), _integral(true)
        return {
            "density": F.l1_loss(found, true),
            "count": ((count - true_count).abs() / (true_count + 1).sqrt()).mean(),
        }

    def render(self, places: Tensor, like: Tensor) -> Tensor:
        """Return the map of particles (M, 3) in crops, in `UNIT`, of the shape of a channel (B, 1, H, W)."""
        along_y, along_x = (
            _shares(places[:, axis], size, self._spread_px) for axis, size in enumerate(like.shape[-2:], 1)
        )
        crops = [places[:, 0] == number for number in range(len(like))]
        maps = torch.stack([along_y[crop].T @ along_x[crop] for crop in crops])
        return maps[:, None] / (UNIT * STEP_PX**2)

    def counts(self, places: Tensor, like: Tensor) -> Tensor:
        """Return the integral of that map, (B,): what of the Gaussians lies in each crop."""
        return _integral(self.render(places, like))

    def table(self, found: Tensor, frame: Tensor, *, k: int, calibration: tuple[float, ...]) -> Tensor:
        """Return a row for each tile of the frame: its particles' centre of mass, and how many there are.

        The score is their number, at most 1; the intensity all counts of the tile above the frame's darkest pixel.
        """
        scale, spread = calibration
        inside = _particles(found, frame) * scale
        y, x = (STEP_PX * torch.arange(n, device=frame.device) + (STEP_PX - 1) / 2 for n in inside.shape[-2:])
        n, n_y, n_x = (_of_tiles(each) for each in (inside, inside * y[:, None], inside * x))
        place = torch.stack([n_y, n_x], 1) / n.clamp(min=_LEAST_COUNT)[:, None]
        rows = table_rows(place, n.clamp(max=1.0), _light(frame), torch.full_like(n, _LOG_SIGMA_PX), frame)
        counted = torch.stack([n, spread * torch.sqrt(n + 1)], 1)
        tiles = torch.where((n > 0)[:, None], torch.cat([rows, counted], 1), 0.0)
        return F.pad(tiles[:, None], (0, 0, 0, k - 1)).reshape(-1, len(self.columns))

    def picture(self, found: Tensor, frame: Tensor, *, calibration: tuple[float, ...]) -> Tensor:
        """Return the particles per pixel of a frame (1, 1, H, W); the sum is their number."""
        density = F.relu(found) * (UNIT * calibration[0])
        large = F.interpolate(density, scale_factor=float(STEP_PX), mode="nearest")
        return large[..., : frame.shape[-2], : frame.shape[-1]]

    @torch.inference_mode()
    def calibrate(self, network: Network, data: TrainingData, *, n_frames: int, size_px: int) -> tuple[float, ...]:
        """Return a factor that makes counts right on average, and the error's deviation for a count of 0.

        That for a count of n is taken to be the root of n + 1 times as large. From crops that are held out, of
        somebody's own images where there are any.
        """
        held_out = dict(data.held_out(_SEED, n_frames, size_px, network.n_frames - 1))
        parts = [held_out[OWN]] if OWN in held_out else held_out.values()
        pairs = [each for truth in parts for each in self.counted(network, truth)]
        found, true = torch.tensor(pairs).T
        scale = float(true.sum() / found.sum().clamp(min=_LEAST_COUNT))
        error = (scale * found - true) / torch.sqrt(true + 1)
        return scale, float(error.square().mean().sqrt())

    def counted(
        self, network: Network, truth: Truth, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[float, float]]:
        """Yield how many particles a network counts in each crop, not calibrated, and how many lie in it."""
        for crop, noisy in enumerate(truth.noisy):
            frames = torch.from_numpy(noisy)[None].to(device)
            channel = network.find(network.see(frames))
            places = torch.from_numpy(truth.points[truth.points[:, 0] == crop])
            places[:, 0] = 0
            places = places.to(device)
            yield float(_particles(channel, frames[:, -1:]).sum()), float(self.counts(places, channel))


def _integral(maps: Tensor) -> Tensor:
    """Return how many particles maps (B, 1, H, W) in `UNIT` hold, (B,)."""
    return maps.sum((1, 2, 3)) * (UNIT * STEP_PX**2)


def _shares(place: Tensor, size: int, spread_px: float) -> Tensor:
    """Return how much of the Gaussians at places (M,) px lies in each of the channel's pixels along an axis, (M, n)."""
    edges = STEP_PX * torch.arange(size + 1, device=place.device) - 0.5
    return torch.erf((edges - place[:, None]) / (spread_px * 2**0.5)).diff(dim=1) / 2


def _particles(found: Tensor, frame: Tensor) -> Tensor:
    """Return how many particles are in each of the channel's pixels, as far as these lie in the frame."""
    rows, columns = (
        (size - STEP_PX * torch.arange(_halved(size), device=found.device)).clamp(max=STEP_PX)
        for size in frame.shape[-2:]
    )
    per_px = F.relu(found[..., : rows.shape[0], : columns.shape[0]]) * UNIT
    return per_px * rows[:, None] * columns


def _light(frame: Tensor) -> Tensor:
    """Return the counts of each tile above the darkest pixel of a frame (1, 1, H, W), (tiles,)."""
    height, width = (STEP_PX * _halved(size) for size in frame.shape[-2:])
    even = F.pad(frame - frame.amin((-2, -1), keepdim=True), (0, 1, 0, 1))[..., :height, :width]
    return _of_tiles(F.avg_pool2d(even, STEP_PX) * STEP_PX**2)


def _of_tiles(cells: Tensor) -> Tensor:
    """Return the sums over the tiles of the frame of something in the channel's pixels (1, 1, H, W), (tiles,)."""
    height, width = cells.shape[-2:]
    rows, columns = (n_tiles(size, TILE_PX // STEP_PX) for size in (height, width))
    high, wide = (height + rows - 1) // rows, (width + columns - 1) // columns
    even = F.pad(cells, (0, columns * wide - width, 0, rows * high - height))
    return even.reshape(rows, high, columns, wide).sum((1, 3)).reshape(-1)


def _halved(size: int) -> int:
    return (size + STEP_PX - 1) // STEP_PX
