"""Which detections lie in which box, through a grid of square cells."""

import math

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled

CELL_PX = 8.0
"""About the reach of a link in a crowded frame, so that a box covers few cells and a cell holds few detections."""

EMPTY = -1

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


def empty_grid(shape: tuple[int, int]) -> Indices:
    """Return the cells of an image of (H, W) px, all empty. ``candidates`` leaves them empty again."""
    return np.full([max(1, math.ceil(side / CELL_PX)) for side in shape], EMPTY, np.int64)


@compiled
def candidates(boxes: Floats, y: Floats, x: Floats, cells: Indices) -> tuple[Indices, Indices]:
    """List the detections inside each box.

    Parameters
    ----------
    boxes
        Shape (N, 4): lowest y, highest y, lowest x, highest x (px).
    y, x
        Shape (D,), px, finite. What lies outside the image counts to the nearest cell at its border.
    cells
        From ``empty_grid``.

    Returns
    -------
    start, detection
        Shapes (N + 1,) and (P,): the detections of box i are ``detection[start[i]:start[i + 1]]``.
    """
    following = _fill(cells, y, x)
    start = np.zeros(len(boxes) + 1, np.int64)
    detection = np.empty(4 * len(boxes) + len(y), np.int64)
    n = 0
    for i in range(len(boxes)):
        if n + len(y) > len(detection):
            detection = np.concatenate((detection, np.empty_like(detection)))
        n += _collect(boxes[i], y, x, cells, following, detection[n:])
        start[i + 1] = n
    _clear(cells, y, x)
    return start, detection[:n]


@compiled
def _collect(box: Floats, y: Floats, x: Floats, cells: Indices, following: Indices, detection: Indices) -> int:
    """Write the detections inside one box; return how many they are."""
    low_y, high_y, low_x, high_x = box[0], box[1], box[2], box[3]
    first_row, last_row = _cell(low_y, cells.shape[0]), _cell(high_y, cells.shape[0])
    first_column, last_column = _cell(low_x, cells.shape[1]), _cell(high_x, cells.shape[1])
    n = 0
    for row in range(first_row, last_row + 1):
        for column in range(first_column, last_column + 1):
            d = cells[row, column]
            while d != EMPTY:
                if low_y <= y[d] <= high_y and low_x <= x[d] <= high_x:
                    detection[n] = d
                    n += 1
                d = following[d]
    return n


@compiled
def _cell(position: float, n_cells: int) -> int:
    # Bounded before the conversion: an integer cannot hold every float.
    return int(min(max(position / CELL_PX, 0.0), n_cells - 1.0))


@compiled
def _fill(cells: Indices, y: Floats, x: Floats) -> Indices:
    """Put detections into their cells: each cell holds its last one, and each detection the one before it."""
    following = np.empty(len(y), np.int64)
    for d in range(len(y)):
        row, column = _cell(y[d], cells.shape[0]), _cell(x[d], cells.shape[1])
        following[d] = cells[row, column]
        cells[row, column] = d
    return following


@compiled
def _clear(cells: Indices, y: Floats, x: Floats) -> None:
    """Empty the cells that were filled: in a large image that is far less than all."""
    for d in range(len(y)):
        cells[_cell(y[d], cells.shape[0]), _cell(x[d], cells.shape[1])] = EMPTY
