"""Fits of astigmatic spots to a frame: place, height, light and ground of each, less the light of those around.

Scoring steps towards the greatest quasi-likelihood (Wedderburn, Biometrika 61 (1974) 439): each pixel weighs as much
as its noise lets it, which is the background's and, in proportion to the light, that of the light. For a camera that
counts electrons this is the likelihood itself, whose errors come near the Cramer-Rao bound.
"""

from math import ceil, erf, exp, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled

Y, X, LIGHT, GROUND, Z, ERROR, SIGMA_Z, REST, GAIN, SIGMA_Y, SIGMA_X = range(11)
"""Columns of a fit: place, px; all light, counts, and what is below, counts per px; height, um; errors of the place
along each axis, px, and of the height, um; what is left of the spot, squared, over its noise; noise squared per light;
and its widths, px."""

N_COLUMNS = 11

HEIGHTS = 13
"""So many are tried before the first step."""

_WINDOW_SIGMAS = 3.1
_RADII_PX = (4, 16)
_TRIAL_RADIUS_PX = 5
_REACH_SIGMAS = 5.8  # from the middle of one spot to that of another whose light reaches into its window
_MOST_STEPS = 30
_MOST_SHIFT_PX = 3.0
_LEAST_SQUARE = 0.05  # as in `streamtrack.psf`
_DARKEST = 0.2  # noise squared where the model says less than the background, over that of the background

# What a fit computes with: the model, the step, the gradient, the normal equations' five, their inverse's five, the
# slopes of a pixel, and one to write in
_STEP, _GRADIENT, _NORMAL, _INVERSE, _SLOPE, _UNIT, _N_ROWS = 1, 2, 3, 8, 13, 14, 15

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


@compiled
def fit_spots(
    frame: Image,
    y: Numbers,
    x: Numbers,
    curve: Numbers,
    low: float,
    high: float,
    level: float,
    gain: float,
    is_alone: bool,
    fits: Numbers,
    is_fitted: NDArray[np.bool_],
) -> None:
    """Fit each of some spots, as if it were alone or without the light of the others.

    Parameters
    ----------
    frame
        (H, W), in units of the background's noise.
    y, x
        Places (N,), px, rising y; a fit that is there already goes on from where it ended.
    curve
        (2, 5): widths along y and x, `streamtrack.psf.AstigmaticPsf.table`.
    low, high
        Range of heights, um.
    level
        Of the background.
    gain
        Noise squared per light; 0 for the same noise in all pixels.
    is_alone
        Whether the light of others is left in; otherwise spots that have no others near keep their fits.
    fits, is_fitted
        (N, `N_COLUMNS`) and (N,), to be filled.
    """
    side = 2 * _RADII_PX[1] + 1
    window, others = np.empty((side, side)), np.empty((side, side))
    numbers, along = np.empty((_N_ROWS, 5)), np.empty((6, side))
    for k in range(len(y)):
        if is_fitted[k]:
            first_y, first_x, z = fits[k, Y], fits[k, X], fits[k, Z]
        else:
            first_y, first_x = y[k], x[k]
            z = _best_height(frame, first_y, first_x, curve, low, high, window, along)
        for _ in range(2):
            sigma_y, sigma_x = _width(curve[0], z), _width(curve[1], z)
            top, bottom = _ends(first_y, sigma_y, frame.shape[0])
            left, right = _ends(first_x, sigma_x, frame.shape[1])
            part, light = window[: bottom - top, : right - left], others[: bottom - top, : right - left]
            _cut(frame, top, left, k, y, fits, is_fitted, is_alone, along, part, light)
            is_fitted[k] = _fit(
                part, light, first_y - top, first_x - left, z, curve, low, high, level, gain, numbers, along, fits[k]
            )
            fits[k, Y] += top
            fits[k, X] += left
            is_wide = _radius(fits[k, SIGMA_Y]) > _radius(sigma_y) or _radius(fits[k, SIGMA_X]) > _radius(sigma_x)
            if not is_fitted[k] or not is_wide:
                break
            first_y, first_x, z = fits[k, Y], fits[k, X], fits[k, Z]
        if is_fitted[k] and (abs(fits[k, Y] - y[k]) > _MOST_SHIFT_PX or abs(fits[k, X] - x[k]) > _MOST_SHIFT_PX):
            is_fitted[k] = False


@compiled
def _width(axis: Numbers, z: float) -> float:
    u = (z - axis[1]) / axis[2]
    return float(axis[0]) * sqrt(max(1.0 + u * u * (1.0 + u * (axis[3] + u * axis[4])), _LEAST_SQUARE))


@compiled
def _widening(axis: Numbers, z: float) -> float:
    """Return the change of a width with height."""
    u = (z - axis[1]) / axis[2]
    slope = u * (2.0 + u * (3.0 * axis[3] + 4.0 * u * axis[4])) / axis[2]
    return float(0.5 * axis[0] * axis[0] * slope / _width(axis, z))


@compiled
def _radius(sigma: float) -> int:
    return min(max(_RADII_PX[0], ceil(_WINDOW_SIGMAS * sigma)), _RADII_PX[1])


@compiled
def _ends(place: float, sigma: float, size: int) -> tuple[int, int]:
    middle = min(max(round(place), 0), size - 1)
    return max(0, middle - _radius(sigma)), min(size, middle + _radius(sigma) + 1)


@compiled
def _profile(place: float, sigma: float, along: Numbers, n: int) -> None:
    """Write which share of a line of light falls on each of n pixels, and how that changes with place and width."""
    edge = (-0.5 - place) / sigma
    below, bell = 0.5 * erf(edge / sqrt(2.0)), exp(-0.5 * edge * edge) / sqrt(2.0 * pi)
    for i in range(n):
        next_edge = (i + 0.5 - place) / sigma
        next_below, next_bell = (
            0.5 * erf(next_edge / sqrt(2.0)),
            exp(-0.5 * next_edge * next_edge) / sqrt(2.0 * pi),
        )
        along[0, i] = next_below - below
        along[1, i] = (bell - next_bell) / sigma
        along[2, i] = (edge * bell - next_edge * next_bell) / sigma
        edge, below, bell = next_edge, next_below, next_bell


@compiled
def _best_height(
    frame: Image, y: float, x: float, curve: Numbers, low: float, high: float, window: Numbers, along: Numbers
) -> float:
    """Return the height whose spot, of any light on any ground, leaves least of the frame."""
    row, column = min(max(round(y), 0), frame.shape[0] - 1), min(max(round(x), 0), frame.shape[1] - 1)
    top, left = max(0, row - _TRIAL_RADIUS_PX), max(0, column - _TRIAL_RADIUS_PX)
    part = frame[top : row + _TRIAL_RADIUS_PX + 1, left : column + _TRIAL_RADIUS_PX + 1]
    rows, columns = part.shape
    mean = 0.0
    for i in range(rows):
        for j in range(columns):
            mean += part[i, j]
    mean /= rows * columns
    best, height = -1.0, 0.5 * (low + high)
    for step in range(HEIGHTS):
        z = low + (high - low) * (step + 0.5) / HEIGHTS
        _profile(y - top, _width(curve[0], z), along[:3], rows)
        _profile(x - left, _width(curve[1], z), along[3:], columns)
        total, squares, products = 0.0, 0.0, 0.0
        for i in range(rows):
            for j in range(columns):
                shape = along[0, i] * along[3, j]
                total += shape
                squares += shape * shape
                products += shape * (part[i, j] - mean)
        explained = products * abs(products) / max(squares - total * total / (rows * columns), 1e-12)
        if explained > best:
            best, height = explained, z
    return height


@compiled
def _cut(
    frame: Image,
    top: int,
    left: int,
    k: int,
    y: Numbers,
    fits: Numbers,
    is_fitted: NDArray[np.bool_],
    is_alone: bool,
    along: Numbers,
    window: Numbers,
    light: Numbers,
) -> None:
    """Copy a window, less the light of the other spots, and write down that light."""
    rows, columns = window.shape
    for i in range(rows):
        for j in range(columns):
            window[i, j], light[i, j] = frame[top + i, left + j], 0.0
    if is_alone:
        return
    for direction in (-1, 1):
        q = k + direction
        while 0 <= q < len(y) and abs(y[q] - y[k]) < 2 * _RADII_PX[1]:
            if is_fitted[q] and _reaches(fits[q], top, left, rows, columns):
                _profile(fits[q, Y] - top, fits[q, SIGMA_Y], along[:3], rows)
                _profile(fits[q, X] - left, fits[q, SIGMA_X], along[3:], columns)
                for i in range(rows):
                    for j in range(columns):
                        shape = fits[q, LIGHT] * along[0, i] * along[3, j]
                        window[i, j] -= shape
                        light[i, j] += shape
            q += direction


@compiled
def _reaches(fit: Numbers, top: int, left: int, rows: int, columns: int) -> bool:
    reach_y, reach_x = 3.5 * fit[SIGMA_Y], 3.5 * fit[SIGMA_X]
    is_beside_y = fit[Y] + reach_y < top or fit[Y] - reach_y > top + rows - 1
    is_beside_x = fit[X] + reach_x < left or fit[X] - reach_x > left + columns - 1
    return not (is_beside_y or is_beside_x)


@compiled
def _fit(
    window: Numbers,
    others: Numbers,
    y: float,
    x: float,
    z: float,
    curve: Numbers,
    low: float,
    high: float,
    level: float,
    gain: float,
    numbers: Numbers,
    along: Numbers,
    fit: Numbers,
) -> bool:
    """Fit a spot to a window; return whether it settled within the range of heights."""
    model, step, n = numbers[0], numbers[_STEP], float(window.size)
    model[0], model[1], model[4] = y, x, z
    model[3] = _rim(window)
    model[2] = max((window.sum() - n * model[3]), 1.0)
    widest, over = _MOST_SHIFT_PX + 0.5, 0.1 * (high - low)
    has_settled = False
    for _ in range(_MOST_STEPS):
        _equations(window, others, level, gain, curve, numbers, along)
        for i in range(5):
            numbers[_NORMAL + i, i] *= 1.0 + 1e-9
        if not _solve(numbers[_NORMAL : _NORMAL + 5], numbers[_GRADIENT], step):
            return False
        part = min(
            1.0,
            1.0 / (1e-9 + abs(step[0])),
            1.0 / (1e-9 + abs(step[1])),
            0.15 * (high - low) / (1e-9 + abs(step[4])),
        )
        for i in range(5):
            model[i] += part * step[i]
        model[2] = max(model[2], 1e-3)
        if abs(model[0] - y) > widest or abs(model[1] - x) > widest or not low - over < model[4] < high + over:
            return False
        is_small = abs(step[0]) < 1e-3 and abs(step[1]) < 1e-3 and abs(step[4]) < 1e-4 * (high - low)
        if part == 1.0 and is_small and abs(step[2]) < 1e-3 * model[2]:
            has_settled = True
            break
    if not has_settled:
        return False
    fit[REST] = _equations(window, others, level, gain, curve, numbers, along) / (n - 5.0)
    if not _say(model, curve, numbers, fit):
        return False
    fit[GAIN] = _gain(window, others, level, gain, curve, numbers, along)
    return True


@compiled
def _say(model: Numbers, curve: Numbers, numbers: Numbers, fit: Numbers) -> bool:
    """Write down a fit and its errors, which the normal equations tell; return whether they do."""
    fit[Y], fit[X], fit[LIGHT], fit[GROUND], fit[Z] = model[0], model[1], model[2], model[3], model[4]
    fit[SIGMA_Y], fit[SIGMA_X] = _width(curve[0], model[4]), _width(curve[1], model[4])
    unit = numbers[_UNIT]
    for axis in range(5):
        for i in range(5):
            unit[i] = 1.0 if i == axis else 0.0
        if not _solve(numbers[_NORMAL : _NORMAL + 5], unit, numbers[_INVERSE + axis]):
            return False
    fit[ERROR] = sqrt(0.5 * (numbers[_INVERSE, 0] + numbers[_INVERSE + 1, 1]))
    fit[SIGMA_Z] = sqrt(numbers[_INVERSE + 4, 4])
    return True


@compiled
def _gain(
    window: Numbers, others: Numbers, level: float, gain: float, curve: Numbers, numbers: Numbers, along: Numbers
) -> float:
    """Return how much noise, squared, the light of a fitted spot has for its own.

    A fit follows part of the noise, most of it where it is bright: what it leaves of a pixel is less by its leverage.
    """
    rows, columns = window.shape
    model, slope = numbers[0], numbers[_SLOPE]
    numbers[_UNIT, 0], numbers[_UNIT, 1] = _widening(curve[0], model[4]), _widening(curve[1], model[4])
    noisy, bright = 0.0, 1e-12
    for i in range(rows):
        for j in range(columns):
            _slopes(model, numbers, along, i, j)
            light = model[2] * slope[2]
            rest = window[i, j] - light - model[3]
            weight = 1.0 / max(1.0 + gain * (light + others[i, j] + model[3] - level), _DARKEST)
            leverage = 0.0
            for a in range(5):
                for b in range(5):
                    leverage += weight * slope[a] * numbers[_INVERSE + a, b] * slope[b]
            noisy += light * (rest * rest / max(1.0 - leverage, 0.1) - 1.0)
            bright += light * light
    return noisy / bright


@compiled
def _slopes(model: Numbers, numbers: Numbers, along: Numbers, i: int, j: int) -> None:
    """Write how a pixel changes with y, x, light, ground and z."""
    slope, widening = numbers[_SLOPE], numbers[_UNIT]
    slope[0] = model[2] * along[1, i] * along[3, j]
    slope[1] = model[2] * along[0, i] * along[4, j]
    slope[2] = along[0, i] * along[3, j]
    slope[3] = 1.0
    slope[4] = model[2] * (widening[0] * along[2, i] * along[3, j] + widening[1] * along[0, i] * along[5, j])


@compiled
def _rim(window: Numbers) -> float:
    rows, columns = window.shape
    rim, n = 0.0, 0
    for i in range(rows):
        for j in range(columns):
            if i == 0 or j == 0 or i == rows - 1 or j == columns - 1:
                rim += window[i, j]
                n += 1
    return rim / n


@compiled
def _equations(
    window: Numbers, others: Numbers, level: float, gain: float, curve: Numbers, numbers: Numbers, along: Numbers
) -> float:
    """Fill the normal equations; return what the model leaves, squared, over the noise.

    The model: y, x, light, ground, z.
    """
    rows, columns = window.shape
    model, gradient, normal = numbers[0], numbers[_GRADIENT], numbers[_NORMAL : _NORMAL + 5]
    _profile(model[0], _width(curve[0], model[4]), along[:3], rows)
    _profile(model[1], _width(curve[1], model[4]), along[3:], columns)
    slope, widening = numbers[_SLOPE], numbers[_UNIT]
    widening[0], widening[1] = _widening(curve[0], model[4]), _widening(curve[1], model[4])
    for a in range(5):
        gradient[a] = 0.0
        for b in range(5):
            normal[a, b] = 0.0
    squares = 0.0
    for i in range(rows):
        for j in range(columns):
            _slopes(model, numbers, along, i, j)
            light = model[2] * slope[2]
            rest = window[i, j] - light - model[3]
            weight = 1.0 / max(1.0 + gain * (light + others[i, j] + model[3] - level), _DARKEST)
            squares += weight * rest * rest
            for a in range(5):
                gradient[a] += weight * rest * slope[a]
                for b in range(a + 1):
                    normal[a, b] += weight * slope[a] * slope[b]
    return squares


@compiled
def _solve(normal: Numbers, right: Numbers, out: Numbers) -> bool:
    """Solve equations whose lower half is given, by Cholesky's decomposition; return whether there is a solution."""
    n = len(out)
    lower = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            value = normal[i, j]
            for k in range(j):
                value -= lower[i, k] * lower[j, k]
            if i > j:
                lower[i, j] = value / lower[j, j]
            elif value > 0.0:
                lower[i, i] = sqrt(value)
            else:
                return False
    for i in range(n):
        value = right[i]
        for k in range(i):
            value -= lower[i, k] * out[k]
        out[i] = value / lower[i, i]
    for i in range(n - 1, -1, -1):
        value = out[i]
        for k in range(i + 1, n):
            value -= lower[k, i] * out[k]
        out[i] = value / lower[i, i]
    return True
