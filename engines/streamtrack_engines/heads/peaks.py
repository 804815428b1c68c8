"""Peaks of maps and what is read around them, in operations that ONNX Runtime and TensorRT have.

No shape depends on what the frame shows.
"""

from collections.abc import Iterable
from functools import reduce
from math import atan2, log

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1e4
"""Logit of a place where no particle can be. Its sigmoid is 0, and float16 holds it."""

REACH_PX = 1
"""A particle is read from the pixels this near to its peak, along y and x; peaks are further apart than that."""

TILE_PX = 512
"""No tile that has rows of its own is higher or wider."""

SIGMA_LIMITS_PX = (0.01, 10.0)
"""Whatever the network says, the standard deviation of a position is taken to lie between these."""

_EPSILON = 1e-30  # rows without a particle divide by something
_BLOCK_PX = 2  # peaks are at least 2 px apart, so a block of 2x2 holds one at most


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


def is_top(filled: Tensor, reach: int = 2) -> Tensor:
    """Return where a map (1, 1, H, W) is larger than all within some px; of equal ones the first in reading order."""
    border = F.pad(filled, (reach,) * 4, value=NOTHING)
    rows, inner = F.max_pool2d(border, (1, 2 * reach + 1), 1), border[..., reach:-reach, :]
    before, after = range(reach), range(reach + 1, 2 * reach + 1)
    above, below = (_largest(rows, steps, 2 * reach, -2) for steps in (before, after))
    left, right = (_largest(inner, steps, 2 * reach, -1) for steps in (before, after))
    return (filled > torch.maximum(above, left)) & (filled >= torch.maximum(below, right))


def _largest(maps: Tensor, steps: Iterable[int], width: int, axis: int) -> Tensor:
    """Return the greatest of what lies some steps further along an axis, which becomes shorter by a width."""
    shifted = (maps.narrow(axis, step, maps.shape[axis] - width) for step in steps)
    return reduce(torch.maximum, shifted)


def sum_3x3(padded: Tensor) -> Tensor:
    """Return the sums of 3x3 pixels, (1, 1, H + 2, W + 2) -> (1, 1, H, W): ten times as fast as pooling on a CPU."""
    rows = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]


def table_rows(place: Tensor, score: Tensor, intensity: Tensor, log_sigma: Tensor, frame: Tensor) -> Tensor:
    """Return rows of y, x, score, intensity, sigma, (K, 5); rows whose score is 0 are zero.

    Places are brought into the frame, sigmas inside `SIGMA_LIMITS_PX`.
    """
    height, width = frame.shape[-2:]
    y, x = place[:, 0].clamp(-0.5, height - 0.5), place[:, 1].clamp(-0.5, width - 0.5)
    sigma = log_sigma.clamp(*map(log, SIGMA_LIMITS_PX)).exp()
    rows = torch.stack([y, x, score, intensity, sigma], 1)
    return torch.where((score > 0)[:, None], rows, 0.0)


def offsets(like: Tensor, reach: int = REACH_PX) -> Tensor:
    """Return the (y, x) offsets of the pixels of a window around a peak, in the order of `windows`, (n, 2)."""
    # Of arange, as a CUDA graph cannot take up what comes from the host.
    size = 2 * reach + 1
    pixel = torch.arange(size**2, device=like.device)
    row = pixel // size
    return torch.stack([row - reach, pixel - row * size - reach], 1).to(like.dtype)


def pick(windows: Tensor, index: Tensor) -> Tensor:
    """Return one pixel of each window, (K, n, C) and (K,) -> (K, C)."""
    n_pixels = windows.shape[1]
    start = torch.arange(0, index.shape[0] * n_pixels, n_pixels, device=index.device)
    return windows.reshape(-1, windows.shape[2]).index_select(0, start + index)


def mean_place(weight: Tensor, places: Tensor) -> Tensor:
    """Return the weighted means (K, 2) of the places (K, n, 2) that the pixels of windows give."""
    return (places * weight[:, :, None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=_EPSILON)


def background_ring(device: torch.device | str = "cpu") -> Tensor:
    """Return which pixels of an 11x11 window surround its inner 7x7, by their angle: (72,) int64."""
    offsets = [(dy, dx) for dy in range(-5, 6) for dx in range(-5, 6)]
    ring = [(atan2(*offset), i) for i, offset in enumerate(offsets) if max(map(abs, offset)) > 3]
    return torch.tensor([i for _, i in sorted(ring)], device=device)


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
    (window,) = windows(frame, y, x, 5)
    ring = background_ring(frame.device) if ring is None else ring
    sectors = window.index_select(1, ring).reshape(-1, 8, 9).mean(2)
    background = sectors.topk(6).values[:, 2:].mean(1)
    intensity: Tensor = window.reshape(-1, 11, 11)[:, 2:9, 2:9].sum((1, 2)) - 49 * background
    return intensity


def best(scores: Tensor, k: int, tile: int = TILE_PX) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column (int64) and score of the `k` best peaks of each tile of a (1, 1, H, W) map, 0 elsewhere.

    Tiles are as large as each other and at most `tile` high and wide, in reading order, the best of each first: a
    large frame has as many rows for its particles as a small one for its own, and TensorRT sorts no more than 3840.
    """
    rows, columns = (_tiles_and_blocks(size, tile) for size in scores.shape[-2:])
    (n_rows, tile_rows), (n_columns, tile_columns) = rows, columns
    height, width = n_rows * tile_rows * _BLOCK_PX, n_columns * tile_columns * _BLOCK_PX
    even = F.pad(scores, (0, width - scores.shape[-1], 0, height - scores.shape[-2]))
    split = even.reshape(n_rows, tile_rows, _BLOCK_PX, n_columns, tile_columns, _BLOCK_PX).permute(0, 3, 1, 4, 2, 5)
    blocks = split.reshape(n_rows * n_columns, tile_rows * tile_columns, _BLOCK_PX**2)
    # TopK needs k candidates, also in the smallest tile: k that are no peaks follow the real ones.
    best, block = F.pad(blocks.amax(2), (0, k)).topk(k)
    block = block.clamp(max=tile_rows * tile_columns - 1)
    number = torch.arange(n_rows * n_columns, device=scores.device)[:, None]
    within = blocks.argmax(2).reshape(-1).index_select(0, (number * (tile_rows * tile_columns) + block).reshape(-1))
    # Not %, which torch's exporter refuses for a size that is known at run time only.
    tile_row, row = number // n_columns, block // tile_columns
    column = (number - tile_row * n_columns) * tile_columns + block - row * tile_columns
    row = tile_row * tile_rows + row
    y, x = row.reshape(-1) * _BLOCK_PX + within // _BLOCK_PX, column.reshape(-1) * _BLOCK_PX + within % _BLOCK_PX
    return y, x, best.reshape(-1)


def n_tiles(size: int, tile: int = TILE_PX) -> int:
    """Return how many tiles there are along an axis of a frame."""
    return (size + tile - 1) // tile


def _tiles_and_blocks(size: int, tile: int) -> tuple[int, int]:
    """Return how many tiles there are along an axis, and how many blocks along each."""
    blocks = (size + _BLOCK_PX - 1) // _BLOCK_PX
    tiles = n_tiles(size, tile)
    return tiles, (blocks + tiles - 1) // tiles


def best_of_both(first: Tensor, second: Tensor, k: int) -> Tensor:
    """Return the best `k` rows of each tile by score, the best first, of two tables (tiles * k, 5) as `best` sorts."""
    tables = torch.stack([first, second]).reshape(2, -1, k, first.shape[1]).permute(1, 0, 2, 3)
    scores = tables[..., 2].reshape(-1, 2 * k)
    start = torch.arange(0, scores.shape[0] * 2 * k, 2 * k, device=first.device)
    order = scores.topk(k).indices + start[:, None]
    return tables.reshape(-1, first.shape[1]).index_select(0, order.reshape(-1))


def windows(maps: Tensor, y: Tensor, x: Tensor, reach: int) -> Tensor:
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
