"""Light within a circle around each particle, above the background in a ring around it.

Aperture photometry as astronomers do it (Howell, Publ. Astron. Soc. Pac. 101 (1989) 616). Since all particles of the
frame are known, each pixel is its nearest particle's: rings leave such pixels out, and in a circle a neighbour's pixels
are replaced by those opposite (as SExtractor does: Bertin and Arnouts, Astron. Astrophys. Suppl. 117 (1996) 393).
"""

from math import ceil, floor, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled
from streamtrack.types import Pixels

SUM, MEAN, BACKGROUND, SNR = range(4)
N_QUANTITIES = 4
LEAST_RING_PX = 12
"""A background from fewer pixels would be mostly noise."""


@compiled
def photometry(
    pixels: Pixels,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    rows: NDArray[np.intp],
    radius_px: float,
    inner_px: float,
    outer_px: float,
    owner: NDArray[np.int32],
    measured: NDArray[np.float32],
) -> None:
    """Measure the light of some of a frame's particles.

    Parameters
    ----------
    y, x
        Shape (N,): where all of them are, px.
    rows
        Shape (R,): which are measured.
    radius_px, inner_px, outer_px
        Of the circle and of the ring. A pixel on the circle's border counts by the part of it that is inside, taken as
        linear in its distance.
    owner
        Shape of the image, all 0, and so it is left: whose a pixel is, counted from 1.
    measured
        Shape (R, 4), to be filled: sum above the background, mean, background (counts per px), and the sum over
        its standard deviation from the background alone. NaN where the circle reaches beyond the image, or too little
        of the ring is free.
    """
    _share(owner, y, x, radius_px + 0.5, True)
    for k in range(len(rows)):
        d = rows[k]
        _measure(pixels, y[d], x[d], d + 1, radius_px, inner_px, outer_px, owner, measured[k])
    _share(owner, y, x, radius_px + 0.5, False)


@compiled
def _share(
    owner: NDArray[np.int32], y: NDArray[np.float32], x: NDArray[np.float32], reach_px: float, begin: bool
) -> None:
    """Give each pixel in reach of particles to the nearest of them, or all back to nobody."""
    height, width = owner.shape
    for k in range(len(y)):
        if not (-1.0 <= y[k] <= height and -1.0 <= x[k] <= width):  # NaN, too
            continue
        for row in range(max(0, ceil(y[k] - reach_px)), min(height, floor(y[k] + reach_px) + 1)):
            half = sqrt(max(reach_px**2 - (row - y[k]) ** 2, 0.0))
            for column in range(max(0, ceil(x[k] - half)), min(width, floor(x[k] + half) + 1)):
                other = owner[row, column] - 1
                if not begin:
                    owner[row, column] = 0
                elif other < 0 or _squared(row, column, y[k], x[k]) < _squared(row, column, y[other], x[other]):
                    owner[row, column] = k + 1


@compiled
def _squared(row: int, column: int, y: float, x: float) -> float:
    return (row - y) ** 2 + (column - x) ** 2


@compiled
def _opposite(pixels: Pixels, y: float, x: float, own: int, owner: NDArray[np.int32], otherwise: float) -> float:
    """Return the pixel at a place, if it is there and the particle's own."""
    row, column = round(y), round(x)
    if not (0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]) or owner[row, column] != own:
        return otherwise
    return float(pixels[row, column])


@compiled
def _measure(
    pixels: Pixels,
    y: float,
    x: float,
    own: int,
    radius_px: float,
    inner_px: float,
    outer_px: float,
    owner: NDArray[np.int32],
    measured: NDArray[np.float32],
) -> None:
    """Measure one particle."""
    height, width = pixels.shape
    inside_px = radius_px - 0.5  # half a pixel of the circle may be missing
    if not (inside_px <= y <= height - 1 - inside_px and inside_px <= x <= width - 1 - inside_px):
        measured[:] = nan
        return
    total, area = 0.0, 0.0
    ring, squares, n = 0.0, 0.0, 0
    for row in range(max(0, ceil(y - outer_px)), min(height, floor(y + outer_px) + 1)):
        half = sqrt(max(outer_px**2 - (row - y) ** 2, 0.0))
        for column in range(max(0, ceil(x - half)), min(width, floor(x + half) + 1)):
            distance = sqrt((row - y) ** 2 + (column - x) ** 2)
            value = float(pixels[row, column])
            if distance < radius_px + 0.5:
                weight = min(1.0, radius_px + 0.5 - distance)
                if owner[row, column] != own:
                    value = _opposite(pixels, 2 * y - row, 2 * x - column, own, owner, value)
                total += weight * value
                area += weight
            elif distance >= inner_px and owner[row, column] == 0:
                ring += value
                squares += value * value
                n += 1
    if n < LEAST_RING_PX:
        measured[:] = nan
        return
    background = ring / n
    variance = max(squares / n - background**2, 0.0) * n / (n - 1)
    noise = sqrt(variance * area * (1.0 + area / n))
    measured[SUM] = total - area * background
    measured[MEAN] = total / area
    measured[BACKGROUND] = background
    measured[SNR] = measured[SUM] / noise if noise > 0.0 else nan


def rings(radius_px: float) -> tuple[float, float]:
    """Return the radii of the ring that belongs to a circle: as many pixels as give its background little noise."""
    return radius_px + 2.0, radius_px + 5.0
