"""From what the network finds in each pixel to a table of particles, in operations that ONNX Runtime and TensorRT have.

No shape depends on what the frame shows: the table has K rows, the best first, and rows without a particle are zero.
"""

from math import atan2, log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = ("y", "x", "score", "intensity", "sigma")

NOTHING = -1e4
"""Logit of a place where no particle can be. Its sigmoid is 0, and float16 holds it."""

REACH_PX = 1
"""A particle is read from the pixels this near to its peak, along y and x; peaks are further apart than that."""

SIGMA_LIMITS_PX = (0.01, 10.0)
"""Whatever the network says, the standard deviation of a position is taken to lie between these."""

LEAST_SUM = 0.05
"""Peaks below say nothing about how many particles a frame holds."""

SPARSE_PER_PX = 7.5e-5
"""20 particles in 512x512 px."""

SPARSEST_PER_PX = 4.2e-5
"""11 particles in 512x512 px. With fewer, scores fall no further: a single bright particle must still be found."""

_CENTRE = (2 * REACH_PX + 1) ** 2 // 2  # of a window's pixels
_PAIR_SUM = 1.5  # chosen, with the next, on movies of their own: F1 of crowded frames rises by .005, no false pairs
_PAIR_PRESENCE = 0.4
_LEAST = 1e-6  # a probability of 1 has no logit
_EPSILON = 1e-30  # rows without a particle divide by something
_BLOCK_PX = 2  # peaks are at least 2 px apart, so a block of 2x2 holds one at most


def background_ring(device: torch.device | str = "cpu") -> Tensor:
    """Return which pixels of an 11x11 window surround its inner 7x7, by their angle: (72,) int64."""
    offsets = [(dy, dx) for dy in range(-5, 6) for dx in range(-5, 6)]
    ring = [(atan2(*offset), i) for i, offset in enumerate(offsets) if max(map(abs, offset)) > 3]
    return torch.tensor([i for _, i in sorted(ring)], device=device)


class Calibration(NamedTuple):
    """How a sum of presence around a peak becomes the probability that a particle is there.

    The logit of the sum times ``slope``, plus ``shift``, plus ``sparse`` times what the logarithm of `expected_density`
    (taken to be at least `SPARSEST_PER_PX`) is below that of `SPARSE_PER_PX`: a doubtful peak is worth less in a frame
    in which next to nothing is expected. Found by `streamtrack_engines.training.calibration`.
    """

    slope: float
    sparse: float
    shift: float

    def probability(self, total: Tensor, density: Tensor) -> Tensor:
        """Return the probability, 0 to 1, for sums of presence (any shape) in a frame of some density (scalar)."""
        logit, below = calibration_terms(total, density)
        return torch.sigmoid(self.slope * logit + (self.sparse * below + self.shift))


def calibration_terms(total: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``slope`` multiplies, as many as ``total``, and what ``sparse`` does, a scalar."""
    p = total.clamp(_LEAST, 1 - _LEAST)
    below = torch.log(density.clamp(SPARSEST_PER_PX, SPARSE_PER_PX)) - log(SPARSE_PER_PX)
    return torch.log(p) - torch.log(1 - p), below


UNCALIBRATED = Calibration(1.0, 0.0, 0.0)


def peak_table(
    found: Tensor, frame: Tensor, *, k: int, calibration: Calibration = UNCALIBRATED, ring: Tensor | None = None
) -> Tensor:
    """Return the `k` likeliest particles.

    The presence map is one of probabilities, and a particle near the edge of a pixel shares its probability with the
    neighbours: their sum around a peak is how many particles are to be expected there, and each neighbour has a say in
    where it is by its share (as in DECODE, Speiser et al., Nat. Methods 18 (2021) 1082). Where the sum is well above 1
    and a neighbour is likely by itself there are two, each where its own pixel says, with half of the intensity.

    Parameters
    ----------
    found
        Second output of `Denodet`, (1, 4, H, W) float32, H and W at least 6.
    frame
        The raw frame in counts, (1, 1, H, W) float32.
    k
        Number of rows.
    calibration
        What makes the score of the sum.
    ring
        As in `spot_intensity`.

    Returns
    -------
    Tensor
        (k, 5) float32 with columns `COLUMNS`: position in px, inside [-0.5, H - 0.5] and [-0.5, W - 0.5]; probability
        that a particle is there, 0 to 1; `spot_intensity` in counts; standard deviation of the position along each
        axis, px, inside `SIGMA_LIMITS_PX`.
    """
    padded = F.pad(found, (REACH_PX,) * 4, value=NOTHING)
    peaks = _sums(padded[:, :1])
    y, x, total = _best(peaks, k)
    near, dy, dx, log_sigma = _windows(padded, y + REACH_PX, x + REACH_PX, REACH_PX)
    presence = torch.sigmoid(near)
    places = torch.stack([dy, dx], 2) + _offsets(near)
    beside = torch.cat([presence[:, :_CENTRE], presence[:, _CENTRE + 1 :]], 1)
    second = beside.argmax(1)
    second = second + (second >= _CENTRE).to(second.dtype)
    is_pair = (total > _PAIR_SUM) & (beside.amax(1) > _PAIR_PRESENCE)
    first_place = torch.where(is_pair[:, None], places[:, _CENTRE], _mean_place(presence, places))
    pixel = torch.stack([y, x], 1)
    intensity = spot_intensity(frame, y, x, ring) / torch.where(is_pair, 2.0, 1.0)
    density = expected_density(peaks)
    rows = [
        _rows(pixel + first_place, calibration.probability(total, density), intensity, log_sigma[:, _CENTRE], frame),
        _rows(
            pixel + _pick(places, second),
            torch.where(is_pair, calibration.probability(total - 1, density), 0.0),
            intensity,
            _pick(log_sigma[:, :, None], second)[:, 0],
            frame,
        ),
    ]
    table = torch.where((total > 0)[:, None], torch.stack(rows), 0.0).reshape(2 * k, -1)
    best = table[:, 2].topk(k).indices
    return table.index_select(0, best)


def expected_density(peaks: Tensor) -> Tensor:
    """Return how many particles per pixel are to be expected, a scalar, from `peak_sums`; the least do not count.

    Without a step at `LEAST_SUM`, where two machines' rounding could decide otherwise.
    """
    return ((peaks - LEAST_SUM) / (1 - LEAST_SUM)).clamp(0.0, 1.0).mean()


def peak_sums(found: Tensor) -> Tensor:
    """Return the sum of presence around each peak, 0 elsewhere, for `Denodet`'s (1, 4, H, W) -> (1, 1, H, W)."""
    return _sums(F.pad(found[:, :1], (REACH_PX,) * 4, value=NOTHING))


def _sums(presence: Tensor) -> Tensor:
    """Return `peak_sums` for presence logits with a border, (1, 1, H + 2, W + 2)."""
    return torch.where(is_peak(presence), _sum_3x3(torch.sigmoid(presence)), 0.0)


def _rows(place: Tensor, score: Tensor, intensity: Tensor, log_sigma: Tensor, frame: Tensor) -> Tensor:
    """Return rows of the table, (K, 5); rows whose score is 0 are zero."""
    height, width = frame.shape[-2:]
    y, x = place[:, 0].clamp(-0.5, height - 0.5), place[:, 1].clamp(-0.5, width - 0.5)
    sigma = log_sigma.clamp(*map(log, SIGMA_LIMITS_PX)).exp()
    rows = torch.stack([y, x, score, intensity, sigma], 1)
    return torch.where((score > 0)[:, None], rows, 0.0)


def _offsets(like: Tensor) -> Tensor:
    """Return the (y, x) offsets of the pixels of a window around a peak, in the order of `_windows`, (9, 2)."""
    # Of arange, as a CUDA graph cannot take up what comes from the host.
    size = 2 * REACH_PX + 1
    pixel = torch.arange(size**2, device=like.device)
    row = pixel // size
    return torch.stack([row - REACH_PX, pixel - row * size - REACH_PX], 1).to(like.dtype)


def _pick(windows: Tensor, index: Tensor) -> Tensor:
    """Return one pixel of each window, (K, 9, C) and (K,) -> (K, C)."""
    n_pixels = windows.shape[1]
    start = torch.arange(0, index.shape[0] * n_pixels, n_pixels, device=index.device)
    return windows.reshape(-1, windows.shape[2]).index_select(0, start + index)


def is_peak(padded: Tensor) -> Tensor:
    """Return, as bool (1, 1, H, W), where a map is larger than its eight neighbours.

    Of equal neighbours the first in reading order is the peak, so that a plateau gives no twins. The map is given with
    a border of `REACH_PX` of `NOTHING`, (1, 1, H + 2, W + 2).
    """
    inner = padded[..., 1:-1, :]
    rows = F.max_pool2d(padded, (1, 3), 1)
    before = torch.maximum(rows[..., :-2, :], inner[..., :-2])
    after = torch.maximum(rows[..., 2:, :], inner[..., 2:])
    return (inner[..., 1:-1] > before) & (inner[..., 1:-1] >= after)


def _sum_3x3(padded: Tensor) -> Tensor:
    """Return the sums of 3x3 pixels, (1, 1, H + 2, W + 2) -> (1, 1, H, W): ten times as fast as pooling on a CPU."""
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]


def _mean_place(weight: Tensor, places: Tensor) -> Tensor:
    """Return the weighted means (K, 2) of the places (K, 9, 2) that the pixels of windows give."""
    return (places * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=_EPSILON)


def spot_intensity(frame: Tensor, y: Tensor, x: Tensor, ring: Tensor | None = None) -> Tensor:
    """Return the summed counts of spots above their local background (aperture photometry).

    The sum of the 7x7 pixels around each spot, less 49 times the background. This is found in the 72 pixels that
    surround those 7x7 in an 11x11 window, cut into 8 sectors: the mean of the sectors without the two brightest and the
    two darkest, since a plain mean would count every neighbouring spot as background. Where the window leaves the
    frame, the pixels opposite the centre stand in.

    Parameters
    ----------
    frame
        (1, 1, H, W) float32, counts, H and W at least 6.
    y, x
        (K,) int64: the pixel of each spot.
    ring
        `background_ring` on the frame's device; by default made on the host each time, which a CUDA graph cannot hold.

    Returns
    -------
    Tensor
        (K,) float32, counts.
    """
    (window,) = _windows(frame, y, x, 5)
    ring = background_ring(frame.device) if ring is None else ring
    sectors = window.index_select(1, ring).reshape(-1, 8, 9).mean(2)
    background = sectors.topk(6).values[:, 2:].mean(1)
    intensity: Tensor = window.reshape(-1, 11, 11)[:, 2:9, 2:9].sum((1, 2)) - 49 * background
    return intensity


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column (int64) and score of the `k` best peaks of a (1, 1, H, W) map that is 0 elsewhere."""
    rows, columns = ((size + _BLOCK_PX - 1) // _BLOCK_PX for size in scores.shape[-2:])
    even = F.pad(scores, (0, _BLOCK_PX - 1) * 2)[..., : _BLOCK_PX * rows, : _BLOCK_PX * columns]
    blocks = even.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).permute(0, 2, 1, 3).reshape(-1, _BLOCK_PX**2)
    # TopK needs k candidates, also in the smallest frame: k that are no peaks follow the real ones.
    best, block = F.pad(blocks.amax(1), (0, k)).topk(k)
    block = block.clamp(max=rows * columns - 1)
    within = blocks.argmax(1).index_select(0, block)
    row = block // columns
    column = block - row * columns  # not %, which torch's exporter refuses for a size that is known at run time only
    return row * _BLOCK_PX + within // _BLOCK_PX, column * _BLOCK_PX + within % _BLOCK_PX, best


def _windows(maps: Tensor, y: Tensor, x: Tensor, reach: int) -> Tensor:
    """Return the square windows of (1, C, H, W) maps around each place, (C, K, n)."""
    channels, height, width = maps.shape[1:]
    steps = torch.arange(-reach, reach + 1, device=maps.device)
    places = (_mirrored(y, steps, height) * width)[:, :, None] + _mirrored(x, steps, width)[:, None, :]
    values = maps.reshape(channels, -1).index_select(1, places.reshape(-1))  # not maps[places]: GatherND is slow
    return values.reshape(channels, -1, (2 * reach + 1) ** 2)


def _mirrored(centre: Tensor, steps: Tensor, size: int) -> Tensor:
    """Return centre + step, or centre - step where that would lie outside 0 to size - 1, (K, len(steps))."""
    place = centre[:, None] + steps
    return torch.where((place < 0) | (place >= size), centre[:, None] - steps, place)
