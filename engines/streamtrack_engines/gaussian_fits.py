"""Fits of Gaussians to the spots of a frame, one spot after the other, each less the light of those around."""

from math import ceil, exp, sqrt

import numpy as np
from numpy.typing import NDArray

from streamtrack.compiling import compiled

LEAST_CONTRAST = 10.0
"""Mean of the 3x3 pixels above the surroundings, in noise units, from which on a spot is fitted."""

SAME_PX = 0.5
"""Two fits that end nearer to each other are of one spot."""

Y, X, HEIGHT, GROUND, VARIANCE, ERROR, REST, LIKENESS = range(8)
"""Columns of a fit: where, px; how high above what, counts; variance, px²; the error of the place along each axis, px;
standard deviation of what is left of the spot, counts, and the correlation of its neighbouring pixels."""

N_COLUMNS = 8

_LEAST_VARIANCE_PX2 = 0.15
_WINDOW_SIGMAS = 2.2
_RADII_PX = (3, 16)  # of the square windows: the smallest, and the largest
_MOST_SHIFT_PX = 1.5
_BETTER = 0.9  # the fit's error over the network's
_ALIKE = 0.25  # correlation of neighbouring residuals: of noise, about -0.1
_SMALL = 0.02  # residuals over the height: a real lens is no Gaussian
_NOTHING_LEFT = 0.003  # residuals over the height that two spots in one do not leave
_REACH_SIGMAS = 3.0
_MOST_BESIDE = 24
_MOST_STEPS = 30
_RIM_PX = 5  # from the middle

# Rows of what a fit computes with: the model, the one before, the step, the gradient, the normal equations' five, and
# the spot along y and x
_ALONG, _NORMAL, _N_ROWS = 4, 6, 11

Image = NDArray[np.float32]
Numbers = NDArray[np.float64]


@compiled
def fit_spots(
    frame: Image,
    y: Numbers,
    x: Numbers,
    sigma: Numbers,
    noise: float,
    variance: float,
    fits: Numbers,
    is_fitted: NDArray[np.bool_],
) -> None:
    """Fit the bright ones of some spots, first each as if it were alone, then without the light of the others.

    Parameters
    ----------
    y, x, sigma
        Places (N,), px, rising y, and their errors along each axis.
    noise
        Standard deviation of the background.
    variance
        Of a spot, px², to begin with.
    fits
        (N, `N_COLUMNS`), to be filled where a fit is better than the place it began from.
    is_fitted
        (N,), to be set there.
    """
    window, beside = np.empty((2 * _RADII_PX[1] + 1, 2 * _RADII_PX[1] + 1)), np.empty((_MOST_BESIDE, 5))
    numbers, fit = np.empty((_N_ROWS, len(window))), np.empty(N_COLUMNS)
    tried, n_fitted, mean_variance = 0, 0, 0.0
    for turn in range(3):
        for k in range(len(y)):
            if turn == 0:
                _look(frame, y[k], x[k], fits[k])
            if fits[k, HEIGHT] <= LEAST_CONTRAST * noise or (turn == 2 and is_fitted[k]):
                continue
            first_y, first_x, first_variance, n = y[k], x[k], variance, 0
            if is_fitted[k]:
                first_y, first_x, first_variance = fits[k, Y], fits[k, X], fits[k, VARIANCE]
            if turn > 0:
                n = _light_beside(y, x, k, first_variance, fits, is_fitted, beside)
            if turn == 0 or n > 0:  # alone it needs no second time
                _fit_growing(frame, first_y, first_x, first_variance, beside[:n], window, numbers, fit)
                if _is_better(fit, y[k], x[k], sigma[k]):
                    _copy(fit, fits[k])
                    is_fitted[k] = True
            if turn == 0:
                tried += 1
                if is_fitted[k]:
                    n_fitted += 1
                    mean_variance += (fits[k, VARIANCE] - mean_variance) / n_fitted
        if 3 * n_fitted < tried or n_fitted == 0:
            return  # these are no round spots
        variance = mean_variance


@compiled
def _look(frame: Image, y: float, x: float, fit: Numbers) -> None:
    """Put down how high a spot is, roughly, and on what."""
    height, width = frame.shape
    row, column = min(max(round(y), 1), height - 2), min(max(round(x), 1), width - 2)
    top, left = max(0, row - _RIM_PX), max(0, column - _RIM_PX)
    bottom, right = min(height - 1, row + _RIM_PX), min(width - 1, column + _RIM_PX)
    light, rim = 0.0, 0.0
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            light += frame[i, j]
    for j in range(left, right + 1):
        rim += frame[top, j] + frame[bottom, j]
    for i in range(top + 1, bottom):
        rim += frame[i, left] + frame[i, right]
    fit[GROUND] = rim / (2.0 * (right - left + bottom - top))
    fit[HEIGHT] = light / 9.0 - fit[GROUND]


@compiled
def _fit_growing(
    frame: Image, y: float, x: float, variance: float, beside: Numbers, window: Numbers, numbers: Numbers, fit: Numbers
) -> None:
    """Fit one spot in a window that grows with it; one that does not settle has no height."""
    radius = _radius(variance)
    for _ in range(1 if len(beside) else 4):
        _fit(frame, y, x, variance, radius, beside, window, numbers, fit)
        needed = _radius(fit[VARIANCE])
        if fit[HEIGHT] <= 0.0 and radius < 2 * _RADII_PX[0]:
            radius, variance = 2 * _RADII_PX[0], 6.0
        elif fit[HEIGHT] <= 0.0 or needed <= radius:
            return
        else:
            radius, variance = needed, fit[VARIANCE]


@compiled
def _light_beside(
    y: Numbers,
    x: Numbers,
    k: int,
    variance: float,
    fits: Numbers,
    is_fitted: NDArray[np.bool_],
    beside: Numbers,
) -> int:
    """Write the models of the spots around one, and return how many."""
    n, reach = 0, _radius(variance) + _REACH_SIGMAS * sqrt(variance)
    for direction in (-1, 1):
        q = k + direction
        while 0 <= q < len(y) and abs(y[q] - y[k]) < reach and n < len(beside):
            if abs(x[q] - x[k]) < reach and not (is_fitted[k] and is_fitted[q] and _are_one(fits[k], fits[q])):
                if is_fitted[q]:
                    _copy(fits[q], beside[n])
                else:
                    beside[n, 0], beside[n, 1], beside[n, 2] = y[q], x[q], 1.3 * max(fits[q, HEIGHT], 0.0)
                    beside[n, 3], beside[n, 4] = 0.0, variance
                n += 1
            q += direction
    return n


@compiled
def _copy(source: Numbers, target: Numbers) -> None:
    """Fill a target; half a second less to compile than an assignment."""
    for i in range(len(target)):
        target[i] = source[i]


@compiled
def _are_one(one: Numbers, other: Numbers) -> bool:
    return bool((one[Y] - other[Y]) ** 2 + (one[X] - other[X]) ** 2 < SAME_PX**2)


@compiled
def mark_doubles(
    fits: Numbers,
    score: Numbers,
    mass: Numbers,
    widest: float,
    is_fitted: NDArray[np.bool_],
    keep: NDArray[np.bool_],
) -> None:
    """Keep of a spot that was found twice the one with the higher score; two in one are wider, and have no fit.

    Networks that see two in one give each half of the light, so that the masses are the same: then they are added up.
    """
    for k in range(len(keep)):
        for q in range(k - 1, -1, -1):
            if fits[k, Y] - fits[q, Y] > 2 * _MOST_SHIFT_PX + SAME_PX:
                break
            if is_fitted[k] and is_fitted[q] and keep[k] and keep[q] and _are_one(fits[k], fits[q]):
                as_one = fits[k, REST] < _NOTHING_LEFT * fits[k, HEIGHT]
                if as_one or min(fits[k, VARIANCE], fits[q, VARIANCE]) <= widest:
                    keep[k if score[q] >= score[k] else q] = False
                    if mass[k] == mass[q]:
                        mass[k] = mass[q] = mass[k] + mass[q]
                else:
                    is_fitted[k] = is_fitted[q] = False


@compiled
def _radius(variance: float) -> int:
    return min(max(_RADII_PX[0], ceil(_WINDOW_SIGMAS * sqrt(variance))), _RADII_PX[1])


@compiled
def _is_better(fit: Numbers, y: float, x: float, sigma: float) -> bool:
    """Return whether a fit is surer than the place it began from, near to it, and leaves nothing but noise."""
    shift = sqrt((fit[Y] - y) ** 2 + (fit[X] - x) ** 2)
    fits_well = fit[LIKENESS] < _ALIKE or fit[REST] < _SMALL * fit[HEIGHT]
    is_near = shift < min(_MOST_SHIFT_PX, 0.3 + 4.0 * sigma)
    return bool(fit[HEIGHT] > 0.0 and fit[ERROR] < _BETTER * sigma and is_near and fits_well)


@compiled
def _fit(
    frame: Image,
    y: float,
    x: float,
    variance: float,
    radius: int,
    beside: Numbers,
    window: Numbers,
    numbers: Numbers,
    fit: Numbers,
) -> None:
    """Fit a spot in the window around it, less the light of some models; if that does not settle, its height is 0."""
    height, width = frame.shape
    row, column = min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)
    top, left = max(0, row - radius), max(0, column - radius)
    part = window[: min(height, row + radius + 1) - top, : min(width, column + radius + 1) - left]
    ground = _cut(frame, top, left, beside, part)
    model = numbers[0, :5]
    model[0], model[1], model[3], model[4] = y - top, x - left, ground, variance
    model[2] = max(part[row - top, column - left] - ground, 1e-3)
    squares = _settle(part, radius, numbers)
    _copy(model, fit[:5])
    fit[Y], fit[X] = model[0] + top, model[1] + left
    fit[REST] = sqrt(max(squares, 0.0) / max(part.size - 5, 1))
    if squares < 0.0:
        fit[HEIGHT] = 0.0
    else:
        fit[ERROR], fit[LIKENESS] = _error_and_likeness(part, model)


@compiled
def _cut(frame: Image, top: int, left: int, beside: Numbers, window: Numbers) -> float:
    """Copy a window, less the light of some models, and return the mean of its rim."""
    rim, n = 0.0, 0
    rows, columns = window.shape
    for i in range(rows):
        for j in range(columns):
            light = 0.0
            for q in range(len(beside)):
                away = ((top + i - beside[q, 0]) ** 2 + (left + j - beside[q, 1]) ** 2) / beside[q, 4]
                if away < 25.0:
                    light += beside[q, 2] * exp(-0.5 * away)
            window[i, j] = frame[top + i, left + j] - light
            if i == 0 or j == 0 or i == rows - 1 or j == columns - 1:
                rim += window[i, j]
                n += 1
    return rim / n


@compiled
def _settle(window: Numbers, radius: int, numbers: Numbers) -> float:
    """Bring the model to the least squares (Levenberg and Marquardt); return them, or -1 where there are none near."""
    model, before, step = numbers[0, :5], numbers[1, :5], numbers[2, :5]
    first_y, first_x = model[0], model[1]
    _copy(model, before)
    least, damping = np.inf, 1e-3
    for count in range(_MOST_STEPS):
        squares = _equations(window, numbers, least)
        if squares <= least:
            gain, least = least - squares, squares
            _copy(model, before)
            damping = max(damping / 10.0, 1e-7)
            if count > 0 and gain < 1e-5 * least + 1e-9:
                return least
            for i in range(5):
                numbers[_NORMAL + i, i] = numbers[_NORMAL + i, i] * (1.0 + damping) + 1e-9
            if not _solve(numbers[_NORMAL:], numbers[3], step):
                return -1.0
        else:
            damping *= 10.0
            for i in range(5):
                step[i] *= 0.3
            if damping > 1e2:
                break
        for i in range(5):
            model[i] = before[i] + step[i]
        if count < 3 and not _is_spot(model, first_y, first_x, radius):
            for i in range(5):
                model[i] = before[i] + 0.3 * step[i]
        if not _is_spot(model, first_y, first_x, radius):
            return -1.0
    _copy(before, model)
    return least


@compiled
def _is_spot(model: Numbers, y: float, x: float, radius: int) -> bool:
    is_near = abs(model[0] - y) < 2.5 and abs(model[1] - x) < 2.5
    return bool(is_near and _LEAST_VARIANCE_PX2 < model[4] < radius * radius)


@compiled
def _equations(window: Numbers, numbers: Numbers, least: float) -> float:
    """Return the model's squares, and fill the normal equations of its five numbers if they are the least so far.

    The model: y, x, height, ground, variance.
    """
    cy, cx, height, ground, variance = numbers[0, 0], numbers[0, 1], numbers[0, 2], numbers[0, 3], numbers[0, 4]
    along_y, along_x = numbers[_ALONG], numbers[_ALONG + 1]
    rows, columns = window.shape
    for i in range(rows):
        along_y[i] = exp(-0.5 * (i - cy) ** 2 / variance)
    for j in range(columns):
        along_x[j] = exp(-0.5 * (j - cx) ** 2 / variance)
    a00, a01, a02, a03, a04, a11, a12, a13, a14 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    a22, a23, a24, a34, a44, squares = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    g0, g1, g2, g3, g4 = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(rows):
        dy = (i - cy) / variance
        for j in range(columns):
            dx = (j - cx) / variance
            shape = along_y[i] * along_x[j]
            light = height * shape
            rest = window[i, j] - light - ground
            squares += rest * rest
            p0, p1, p4 = light * dy, light * dx, 0.5 * light * (dy * dy + dx * dx)
            a00, a01, a02, a03, a04 = a00 + p0 * p0, a01 + p0 * p1, a02 + p0 * shape, a03 + p0, a04 + p0 * p4
            a11, a12, a13, a14 = a11 + p1 * p1, a12 + p1 * shape, a13 + p1, a14 + p1 * p4
            a22, a23, a24, a34, a44 = a22 + shape * shape, a23 + shape, a24 + shape * p4, a34 + p4, a44 + p4 * p4
            g0, g1, g2, g3, g4 = g0 + p0 * rest, g1 + p1 * rest, g2 + shape * rest, g3 + rest, g4 + p4 * rest
    if squares <= least:
        normal, gradient = numbers[_NORMAL:], numbers[3]
        normal[0, 0], normal[1, 0], normal[2, 0], normal[3, 0], normal[4, 0] = a00, a01, a02, a03, a04
        normal[1, 1], normal[2, 1], normal[3, 1], normal[4, 1] = a11, a12, a13, a14
        normal[2, 2], normal[3, 2], normal[4, 2] = a22, a23, a24
        normal[3, 3], normal[4, 3], normal[4, 4] = float(rows * columns), a34, a44
        gradient[0], gradient[1], gradient[2], gradient[3], gradient[4] = g0, g1, g2, g3, g4
    return squares


@compiled
def _solve(normal: Numbers, right: Numbers, out: Numbers) -> bool:
    """Solve equations whose lower half is given, by Cholesky's decomposition in place; return whether there is one."""
    n = len(out)
    for i in range(n):
        for j in range(i + 1):
            value = normal[i, j]
            for k in range(j):
                value -= normal[i, k] * normal[j, k]
            if i > j:
                normal[i, j] = value / normal[j, j]
            elif value > 0.0:
                normal[i, i] = sqrt(value)
            else:
                return False
    for i in range(n):
        value = right[i]
        for k in range(i):
            value -= normal[i, k] * out[k]
        out[i] = value / normal[i, i]
    for i in range(n - 1, -1, -1):
        value = out[i]
        for k in range(i + 1, n):
            value -= normal[k, i] * out[k]
        out[i] = value / normal[i, i]
    return True


@compiled
def _error_and_likeness(window: Numbers, model: Numbers) -> tuple[float, float]:
    """Return a fit's error along each axis, px, and the correlation of neighbouring residuals, left in the window.

    Where there is light there is more noise: each pixel counts with what the fit leaves of it (White, Econometrica 48
    (1980) 817).
    """
    cy, cx, height, ground, variance = model[0], model[1], model[2], model[3], model[4]
    slopes, noise, squares, products = 1e-12, 0.0, 1e-12, 0.0
    for i in range(window.shape[0]):
        for j in range(window.shape[1]):
            away = (i - cy) ** 2 + (j - cx) ** 2
            light = height * exp(-0.5 * away / variance)
            window[i, j] -= light + ground
            rest = window[i, j] ** 2
            slope = 0.5 * light * light * away / variance**2
            slopes += slope
            noise += slope * rest
            squares += rest
            if i > 0:
                products += window[i, j] * window[i - 1, j]
            if j > 0:
                products += window[i, j] * window[i, j - 1]
    return sqrt(noise * window.size / (window.size - 5)) / slopes, 0.5 * products / squares
