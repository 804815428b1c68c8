"""Width and aspect of spots: by adaptive moments, and by a fit of a Gaussian."""

from math import ceil, exp, floor, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled
from streamtrack.types import Pixels

FIRST_VARIANCE_PX2 = 2.25
LEAST_VARIANCE_PX2 = 0.1
"""A spot within one pixel has less; no width can be told then."""
MOST_ROUNDS = 50
SETTLED = 3e-3
"""Relative change of the variances at which the moments have settled, or of the squares in a fit."""
MOST_SHIFT_PX = 1.5
"""A spot whose centre is farther from where it was found is another one."""


@compiled
def moments(
    pixels: Pixels,
    y: NDArray[np.float32],
    x: NDArray[np.float32],
    rows: NDArray[np.intp],
    background: NDArray[np.float32],
    radius_px: float,
    measured: NDArray[np.float32],
) -> None:
    """Measure the spots of some particles by moments, weighted with a Gaussian that takes on the spot's own shape.

    Plain moments are mostly those of the noise at the rim. A Gaussian spot of covariance V has the moments
    C = inverse(inverse(V) + inverse(M)) under a weight of covariance M; where V = M, all is settled (adaptive moments:
    Bernstein and Jarvis, Astron. J. 123 (2002) 583; Hirata and Seljak, Mon. Not. R. Astron. Soc. 343 (2003) 459).

    Parameters
    ----------
    y, x, rows
        Where all particles are, px, and which of them (R,) are measured.
    background
        Shape (R,): counts per px; NaN where it is not known.
    radius_px
        Pixels within it are looked at.
    measured
        Shape (R, 5), to be filled: centre y, x, px, and the covariance yy, yx, xx, px², of each spot as it is in the
        image, the pixel's own width included; NaN where there is no spot to be measured.
    """
    for k in range(len(rows)):
        measured[k] = nan
        cy, cx = float(y[rows[k]]), float(x[rows[k]])
        yy, yx, xx = FIRST_VARIANCE_PX2, 0.0, FIRST_VARIANCE_PX2
        for _ in range(MOST_ROUNDS if background[k] > -np.inf else 0):
            light, dy, dx, new_yy, new_yx, new_xx = _weighted(
                pixels, cy, cx, yy, yx, xx, float(background[k]), radius_px
            )
            if not light > 0.0:
                break
            cy, cx = cy + 2.0 * dy, cx + 2.0 * dx
            change = abs(new_yy - yy) / yy + abs(new_xx - xx) / xx + abs(new_yx - yx) / sqrt(yy * xx)
            yy, yx, xx = new_yy, new_yx, new_xx
            shift_px = sqrt((cy - y[rows[k]]) ** 2 + (cx - x[rows[k]]) ** 2)
            is_round_enough = yy * xx - yx * yx > LEAST_VARIANCE_PX2**2 and yy > 0.0 and xx > 0.0
            if not is_round_enough or yy + xx > 2.0 * radius_px**2 or shift_px > MOST_SHIFT_PX:
                break
            if change < SETTLED:
                measured[k, 0], measured[k, 1] = cy, cx
                measured[k, 2], measured[k, 3], measured[k, 4] = yy, yx, xx
                break


@compiled
def _weighted(
    pixels: Pixels, cy: float, cx: float, yy: float, yx: float, xx: float, background: float, radius_px: float
) -> tuple[float, float, float, float, float, float]:
    """Return the weighted light, its centre from (cy, cx), and the covariance of a spot that has such moments."""
    height, width = pixels.shape
    det = yy * xx - yx * yx
    light, ly, lx, lyy, lyx, lxx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(max(0, ceil(cy - radius_px)), min(height, floor(cy + radius_px) + 1)):
        dy = row - cy
        half = sqrt(max(radius_px**2 - dy * dy, 0.0))
        for column in range(max(0, ceil(cx - half)), min(width, floor(cx + half) + 1)):
            dx = column - cx
            weight = exp(-0.5 * (xx * dy * dy - 2.0 * yx * dy * dx + yy * dx * dx) / det)
            value = weight * (float(pixels[row, column]) - background)
            light += value
            ly += value * dy
            lx += value * dx
            lyy += value * dy * dy
            lyx += value * dy * dx
            lxx += value * dx * dx
    if not light > 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    my, mx = ly / light, lx / light
    cyy, cyx, cxx = lyy / light - my * my, lyx / light - my * mx, lxx / light - mx * mx
    c_det = cyy * cxx - cyx * cyx
    if c_det > 0.0:
        iyy, iyx, ixx = cxx / c_det - xx / det, -cyx / c_det + yx / det, cyy / c_det - yy / det
        i_det = iyy * ixx - iyx * iyx
        if iyy > 0.0 and i_det > 0.0:
            return light, my, mx, ixx / i_det, -iyx / i_det, iyy / i_det
    return light, my, mx, 2.0 * cyy, 2.0 * cyx, 2.0 * cxx  # noise: where it settles is the same


@compiled
def fits(pixels: Pixels, background: NDArray[np.float32], radius_px: float, measured: NDArray[np.float32]) -> None:
    """Fit a Gaussian on a constant to each spot, from what `moments` measured on, and put its results in their place.

    Least squares by Levenberg and Marquardt, with seven parameters: centre, height, constant, and the inverse of the
    covariance; NaN where it does not settle.

    Parameters
    ----------
    background, radius_px, measured
        As in `moments`.
    """
    normal, gradient, slopes = np.empty((7, 7)), np.empty(7), np.empty(7)
    now, tried = np.empty(7), np.empty(7)
    for k in range(len(measured)):
        yy, yx, xx = float(measured[k, 2]), float(measured[k, 3]), float(measured[k, 4])
        if not yy > 0.0:
            continue
        first_y, first_x = float(measured[k, 0]), float(measured[k, 1])
        det = yy * xx - yx * yx
        now[0], now[1], now[3] = first_y, first_x, float(background[k])
        now[2] = float(pixels[round(first_y), round(first_x)]) - now[3]
        now[4], now[5], now[6] = xx / det, -yx / det, yy / det
        measured[k] = nan
        damping, squares = 1e-3, _residuals(pixels, first_y, first_x, radius_px, now, slopes, normal, gradient)
        for _ in range(MOST_ROUNDS):
            for i in range(7):
                normal[i, i] *= 1.0 + damping
                normal[i, i] += 1e-12
            tried[:] = now + np.linalg.solve(normal, gradient)
            is_spot = tried[4] > 0.0 and tried[6] > 0.0 and tried[4] * tried[6] > tried[5] * tried[5]
            before = squares
            if is_spot:
                squares = _residuals(pixels, first_y, first_x, radius_px, tried, slopes, normal, gradient)
            if is_spot and squares <= before:
                now[:] = tried
                damping = max(damping / 10.0, 1e-9)
                if before - squares <= SETTLED * SETTLED * before:
                    break
            else:
                damping *= 10.0
                squares = _residuals(pixels, first_y, first_x, radius_px, now, slopes, normal, gradient)
                if damping > 1e6:
                    break
        det = now[4] * now[6] - now[5] * now[5]
        variances_fit = now[6] / det < radius_px**2 and now[4] / det < radius_px**2
        if now[2] > 0.0 and variances_fit and sqrt((now[0] - first_y) ** 2 + (now[1] - first_x) ** 2) < MOST_SHIFT_PX:
            measured[k, 0], measured[k, 1] = now[0], now[1]
            measured[k, 2], measured[k, 3], measured[k, 4] = now[6] / det, -now[5] / det, now[4] / det


@compiled
def _residuals(
    pixels: Pixels,
    middle_y: float,
    middle_x: float,
    radius_px: float,
    model: NDArray[np.float64],
    slopes: NDArray[np.float64],
    normal: NDArray[np.float64],
    gradient: NDArray[np.float64],
) -> float:
    """Return a model's sum of squares, and fill in its normal equations.

    The model: y, x, height, constant, and the inverse of the covariance, yy, yx, xx.
    """
    height, width = pixels.shape
    normal[:] = 0.0
    gradient[:] = 0.0
    squares = 0.0
    for row in range(max(0, ceil(middle_y - radius_px)), min(height, floor(middle_y + radius_px) + 1)):
        half = sqrt(max(radius_px**2 - (row - middle_y) ** 2, 0.0))
        for column in range(max(0, ceil(middle_x - half)), min(width, floor(middle_x + half) + 1)):
            dy, dx = row - model[0], column - model[1]
            along_y, along_x = model[4] * dy + model[5] * dx, model[5] * dy + model[6] * dx
            shape = exp(-0.5 * (dy * along_y + dx * along_x))
            light = model[2] * shape
            rest = float(pixels[row, column]) - light - model[3]
            squares += rest * rest
            slopes[0], slopes[1], slopes[2], slopes[3] = light * along_y, light * along_x, shape, 1.0
            slopes[4], slopes[5], slopes[6] = -0.5 * light * dy * dy, -light * dy * dx, -0.5 * light * dx * dx
            for i in range(7):
                gradient[i] += slopes[i] * rest
                for j in range(i + 1):
                    normal[i, j] += slopes[i] * slopes[j]
    for i in range(7):
        for j in range(i):
            normal[j, i] = normal[i, j]
    return squares
