"""From a heat map to a table of particles of fixed size, in operations that ONNX Runtime and TensorRT both have.

No shape depends on what the frame shows: the table has K rows, the best first, and rows without a particle are zero.
"""

from math import atan2

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = ("y", "x", "score", "intensity")

NOTHING = -1e4
"""Logit of a place where no peak can be. Its sigmoid is 0, and float16 holds it."""

_BLOCK_PX = 2  # peaks are at least 2 px apart, so a block of 2x2 holds one at most


def _offsets(reach: int) -> list[tuple[int, int]]:
    """Return the (y, x) offsets of the pixels of a square window, in the order of `_windows`."""
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


def _ring() -> list[int]:
    """Return which pixels of an 11x11 window surround its inner 7x7, by their angle: 72 indices."""
    ring = [(atan2(*offset), i) for i, offset in enumerate(_offsets(5)) if max(map(abs, offset)) > 3]
    return [i for _, i in sorted(ring)]


def peak_table(logits: Tensor, frame: Tensor, *, k: int, nms_radius_px: int, window_px: int) -> Tensor:
    """Return the `k` best peaks of a heat map.

    Parameters
    ----------
    logits
        Heat map before its sigmoid, (1, 1, H, W) float32, H and W at least 6.
    frame
        The raw frame in counts, (1, 1, H, W) float32.
    k
        Number of rows.
    nms_radius_px
        A peak is the largest logit within this many pixels along each axis; at least 1.
    window_px
        Side, odd, of the window whose softmax gives the sub-pixel position: the one of the training. Where it leaves
        the frame, the pixels opposite the peak stand in.

    Returns
    -------
    Tensor
        (k, 4) float32 with columns `COLUMNS`: position in px, inside [0, H - 1] and [0, W - 1]; sigmoid of the peak's
        logit; `spot_intensity` in counts.
    """
    peaks = torch.where(is_peak(logits, nms_radius_px), logits, NOTHING)
    y, x, height = _best(peaks, k)
    reach = window_px // 2
    window = _windows(logits, y, x, reach)
    shift = torch.softmax(window, 1) @ torch.tensor(_offsets(reach)).to(window)
    table = torch.stack([y + shift[:, 0], x + shift[:, 1], torch.sigmoid(height), spot_intensity(frame, y, x)], 1)
    return torch.where((height > NOTHING / 2)[:, None], table, 0.0)


def is_peak(logits: Tensor, radius_px: int) -> Tensor:
    """Return, as bool, where a (1, 1, H, W) map is largest within `radius_px` along each axis.

    Of equal neighbours the first in reading order is the peak, so that a plateau gives no twins.
    """
    side = 2 * radius_px + 1
    padded = F.pad(logits, (radius_px,) * 4, value=NOTHING)
    rows_above = F.max_pool2d(padded[..., : -radius_px - 1, :], (radius_px, side), 1)
    same_row = F.max_pool2d(padded[..., radius_px:-radius_px, : -radius_px - 1], (1, radius_px), 1)
    return (logits > torch.maximum(rows_above, same_row)) & (logits >= F.max_pool2d(padded, side, 1))


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
    window = _windows(frame, y, x, 5)
    sectors = window.index_select(1, torch.tensor(_ring(), device=frame.device)).reshape(-1, 8, 9).mean(2)
    background = sectors.topk(6).values[:, 2:].mean(1)
    return window.reshape(-1, 11, 11)[:, 2:9, 2:9].sum((1, 2)) - 49 * background


def _best(peaks: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, column (int64) and logit of the `k` highest peaks; the logit is `NOTHING` where there is none."""
    rows, columns = ((size + _BLOCK_PX - 1) // _BLOCK_PX for size in peaks.shape[-2:])
    even = F.pad(peaks, (0, _BLOCK_PX - 1) * 2, value=NOTHING)[..., : _BLOCK_PX * rows, : _BLOCK_PX * columns]
    blocks = even.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).permute(0, 2, 1, 3).reshape(-1, _BLOCK_PX**2)
    # TopK needs k candidates, also in the smallest frame: k that are no peaks follow the real ones.
    height, block = F.pad(blocks.amax(1), (0, k), value=NOTHING).topk(k)
    block = block.clamp(max=rows * columns - 1)
    within = blocks.argmax(1)[block]
    row = block // columns
    column = block - row * columns  # not %, which torch's exporter refuses for a size that is known at run time only
    return row * _BLOCK_PX + within // _BLOCK_PX, column * _BLOCK_PX + within % _BLOCK_PX, height


def _windows(image: Tensor, y: Tensor, x: Tensor, reach: int) -> Tensor:
    """Return the square windows of a (1, 1, H, W) image around each place, (K, n)."""
    height, width = image.shape[-2:]
    steps = torch.arange(-reach, reach + 1, device=image.device)
    places = (_mirrored(y, steps, height) * width)[:, :, None] + _mirrored(x, steps, width)[:, None, :]
    values = image.reshape(-1).index_select(0, places.reshape(-1))  # not image[places]: GatherND is slow
    return values.reshape(-1, (2 * reach + 1) ** 2)


def _mirrored(centre: Tensor, steps: Tensor, size: int) -> Tensor:
    """Return centre + step, or centre - step where that would lie outside 0 to size - 1, (K, len(steps))."""
    place = centre[:, None] + steps
    return torch.where((place < 0) | (place >= size), centre[:, None] - steps, place)
