"""From what the network finds in each pixel to a table of particles, in operations that ONNX Runtime and TensorRT have.

No shape depends on what the frame shows: the table has K rows, the best first, and rows without a particle are zero.
"""

from math import atan2, log

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

_CENTRE = (2 * REACH_PX + 1) ** 2 // 2  # of a window's pixels
_EPSILON = 1e-30  # rows without a particle divide by something
_BLOCK_PX = 2  # peaks are at least 2 px apart, so a block of 2x2 holds one at most


def _offsets(reach: int) -> list[tuple[int, int]]:
    """Return the (y, x) offsets of the pixels of a square window, in the order of `_windows`."""
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


def _ring() -> list[int]:
    """Return which pixels of an 11x11 window surround its inner 7x7, by their angle: 72 indices."""
    ring = [(atan2(*offset), i) for i, offset in enumerate(_offsets(5)) if max(map(abs, offset)) > 3]
    return [i for _, i in sorted(ring)]


def peak_table(found: Tensor, frame: Tensor, *, k: int) -> Tensor:
    """Return the `k` likeliest particles.

    The presence map is one of probabilities, and a particle near the edge of a pixel shares its probability with the
    neighbours: their sum around a peak is the probability that a particle is there, and each neighbour has a say in
    where it is by its share (as in DECODE, Speiser et al., Nat. Methods 18 (2021) 1082).

    Parameters
    ----------
    found
        Second output of `Denodet`, (1, 4, H, W) float32, H and W at least 6.
    frame
        The raw frame in counts, (1, 1, H, W) float32.
    k
        Number of rows.

    Returns
    -------
    Tensor
        (k, 5) float32 with columns `COLUMNS`: position in px, inside [-0.5, H - 0.5] and [-0.5, W - 0.5]; probability
        that a particle is there, 0 to 1; `spot_intensity` in counts; standard deviation of the position along each
        axis, px, inside `SIGMA_LIMITS_PX`.
    """
    padded = F.pad(found, (REACH_PX,) * 4, value=NOTHING)
    presence = padded[:, :1]
    y, x, best = _best(torch.where(is_peak(presence), _sum_3x3(torch.sigmoid(presence)), 0.0), k)
    near, dy, dx, log_sigma = _windows(padded, y + REACH_PX, x + REACH_PX, REACH_PX)
    shift = _mean_place(torch.sigmoid(near), torch.stack([dy, dx], 2))
    limit = torch.tensor(frame.shape[-2:], device=frame.device) - 0.5
    table = torch.cat(
        [
            (torch.stack([y, x], 1) + shift).clamp(min=-0.5).minimum(limit),
            best.clamp(max=1.0)[:, None],
            spot_intensity(frame, y, x)[:, None],
            log_sigma[:, _CENTRE : _CENTRE + 1].clamp(*map(log, SIGMA_LIMITS_PX)).exp(),
        ],
        1,
    )
    return torch.where((best > 0)[:, None], table, 0.0)


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


def _mean_place(weight: Tensor, within: Tensor) -> Tensor:
    """Return the weighted means (K, 2), px from the centre, of places given within each pixel of windows (K, 9, 2)."""
    places = torch.tensor(_offsets(REACH_PX)).to(within) + within
    return (places * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=_EPSILON)


def spot_intensity(frame: Tensor, y: Tensor, x: Tensor) -> Tensor:
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

    Returns
    -------
    Tensor
        (K,) float32, counts.
    """
    (window,) = _windows(frame, y, x, 5)
    sectors = window.index_select(1, torch.tensor(_ring(), device=frame.device)).reshape(-1, 8, 9).mean(2)
    background = sectors.topk(6).values[:, 2:].mean(1)
    return window.reshape(-1, 11, 11)[:, 2:9, 2:9].sum((1, 2)) - 49 * background


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
