"""Gain, offset and read noise of the camera that took a movie, by nothing but the movie.

Where no particle is, counts differ from frame to frame by shot noise and read noise alone. The variance rises with the
mean by the gain (the photon transfer curve: Janesick, Photon Transfer, SPIE 2007; twice the gain for an EMCCD: Robbins
and Hadwen, IEEE Trans. Electron Devices 50 (2003) 1227). That line alone cannot tell offset and read noise apart; the
third cumulant can, as read noise, which is Gaussian, has none: it is the gain squared times what the mean is above the
offset (six times for the electrons of an EMCCD, whose register multiplies each by an exponential law).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW = 8
"""Frames over which a pixel is compared with itself: bleaching is no noise."""
_LEAST = 5
_N_BINS = 24
_ALIKE = 0.15
"""Correlation of neighbours' noise from which on something smoothed the frames."""
_EM_RATIO = 1.25
"""Third cumulant over its Poisson value: 1 for a plain sensor, 1.5 for an EMCCD."""
_GROUPS, _REPEATS = 16, 60
_ROUNDING = 1 / 12
_KNOWN = {"gain": 0.12, "offset": 0.12, "read noise": 0.25}
"""With a larger standard error, as a share of the value, a number is not known."""
_SATURATED = 0.999

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class CameraMeasures:
    """What is known of a camera.

    Attributes
    ----------
    gain
        Counts per electron; None where it could not be measured.
    offset_counts
        Counts in the dark.
    read_noise_e
        Electrons.
    electron_multiplying
        Whether it is an EMCCD.
    noise_alike
        Correlation of the noise of neighbouring pixels.
    reasons
        Why something could not be measured: by ``gain``, ``offset``, ``read noise``.
    """

    gain: Estimate | None
    offset_counts: Estimate | None
    read_noise_e: Estimate | None
    electron_multiplying: bool
    noise_alike: float
    reasons: Mapping[str, str]


def measure_camera(movie: NDArray[Any], is_clear: NDArray[np.bool_]) -> CameraMeasures:
    """Return what can be known of the camera of a movie (T, H, W), counts.

    ``is_clear``, as large, says where no particle is.
    """
    alike = _alike(movie, is_clear)
    if alike > _ALIKE:
        why = f"neighbouring pixels share {alike:.0%} of their noise, as after a filter: give what the camera took"
        return _unknown(alike, why)
    sums = _sums(movie, is_clear)
    if sums is None:
        return _unknown(alike, "too few places are free of particles for some frames in a row")
    all_groups = sums.sum(2)
    rng = np.random.default_rng(0)
    again = [sums @ rng.multinomial(_GROUPS, np.full(_GROUPS, 1 / _GROUPS)) for _ in range(_REPEATS)]
    plain, multiplied = (_solved(all_groups, again, factor) for factor in (1, 2))
    ratio, ratio_error = _ratio(all_groups), float(np.std([_ratio(each) for each in again]))
    is_em = plain[2].value < -3 * plain[2].error or (ratio > _EM_RATIO and ratio_error < 0.1)
    return _known(*(multiplied if is_em else plain), is_em, alike)


def _unknown(alike: float, why: str) -> CameraMeasures:
    return CameraMeasures(None, None, None, False, alike, dict.fromkeys(_KNOWN, why))


def _known(gain: Estimate, offset: Estimate, read_variance: Estimate, is_em: bool, alike: float) -> CameraMeasures:
    """Return the numbers that are known well enough."""
    read = sqrt(max(read_variance.value, 0.0))
    read_noise = Estimate(read, read_variance.error / (2 * max(read, 1e-6)))
    measured = dict(zip(_KNOWN, (gain, offset, read_noise), strict=True))
    known = {
        name: each for name, each in measured.items() if gain.value > 0 and each.error <= _KNOWN[name] * abs(each.value)
    }
    reasons = {name: _why(name, gain) for name in measured if name not in known}
    numbers = (known.get(name) for name in _KNOWN)
    return CameraMeasures(next(numbers), next(numbers), next(numbers), is_em, alike, reasons)


def _why(name: str, gain: Estimate) -> str:
    if name == "read noise" and gain.value > 0:
        return "shot noise outweighs it"
    return "the background is too even, or the movie too short, for the noise to be compared at several brightnesses"


def _sums(movie: NDArray[Any], is_clear: NDArray[np.bool_]) -> Numbers | None:
    """Return sums for each bin of about the same mean, and each of some groups of pixels: (4, bins, groups).

    Of the weight, and, times this, of mean, variance and third cumulant, all of windows of a few frames. Bins go by the
    mean of the pixel's other windows: by its own, what is bright by chance would be together.
    """
    parts = [_of_window(movie[at : at + _WINDOW], is_clear[at : at + _WINDOW]) for at in range(0, len(movie), _WINDOW)]
    parts = [each for each in parts if len(each[0])]
    if len(parts) < 2:
        return None
    n_pixels = movie[0].size
    total, count = (np.zeros(n_pixels) for _ in range(2))
    for where, (mean, _, _, n) in parts:
        total[where] += mean * n
        count[where] += n
    columns = []
    for where, each in parts:
        mean, n = each[0], each[3]
        others = count[where] - n
        use = others > 0
        elsewhere = (total[where] - mean * n)[use] / others[use]
        columns.append(np.vstack([elsewhere, where[use], each[:, use]]))
    elsewhere, where, mean, variance, third, n = np.concatenate(columns, axis=1)
    edges = np.quantile(elsewhere, np.linspace(0, 1, _N_BINS + 1)[1:-1])
    cell = (
        np.digitize(elsewhere, edges) * _GROUPS
        + np.random.default_rng(1).integers(_GROUPS, size=n_pixels)[where.astype(int)]
    )
    size = _N_BINS * _GROUPS
    sums = [np.bincount(cell, n * each, size) for each in (np.ones_like(mean), mean, variance, third)]
    stacked: Numbers = np.stack(sums).astype(np.float64).reshape(4, _N_BINS, _GROUPS)
    return stacked if (stacked[0].sum(1) > 0).all() else None


def _of_window(counts: NDArray[Any], clear: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Numbers]:
    """Return the pixels that are clear often enough, and their mean, variance, third cumulant and number of frames."""
    n = clear.sum(0).astype(np.float64)
    saturated = counts.max() >= np.iinfo(counts.dtype).max * _SATURATED if counts.dtype.kind == "u" else False
    use = (n >= _LEAST) & (counts.min(0) > 0)
    if saturated:
        use &= counts.max(0) < counts.max()
    where = np.flatnonzero(use)
    counts, clear, n = counts[:, use].astype(np.float64), clear[:, use], n[use]
    mean = np.where(clear, counts, 0.0).sum(0) / np.maximum(n, 1)
    away = np.where(clear, counts - mean, 0.0)
    variance = (away**2).sum(0) / (n - 1) - _ROUNDING
    third = (away**3).sum(0) * n / ((n - 1) * (n - 2))
    return where, np.stack([mean, variance, third, n])


def _solved(sums: Numbers, again: Sequence[Numbers], factor: int) -> tuple[Estimate, Estimate, Estimate]:
    """Return gain, offset and the variance of the read noise, electrons squared; ``factor`` is 2 for an EMCCD."""
    values = _solve(sums, factor)
    errors = np.std([_solve(each, factor) for each in again], axis=0)
    gain, offset, read_variance = map(Estimate, map(float, values), map(float, errors))
    return gain, offset, read_variance


def _solve(sums: Numbers, factor: int) -> tuple[float, float, float]:
    slope, centre, variance, third, _ = _lines(sums)
    gain = slope / factor
    above = third / (gain * gain * (6 if factor == 2 else 1))
    return gain, centre - above, (variance - slope * above) / gain**2


def _ratio(sums: Numbers) -> float:
    """Return how steeply the third cumulant rises with the mean, over the square of how steeply the variance does."""
    slope, _, _, _, third_slope = _lines(sums)
    return third_slope / slope**2


def _lines(sums: Numbers) -> tuple[float, float, float, float, float]:
    """Return the slope of the variance over the mean; means of mean, variance and third cumulant; slope of the last."""
    weight = sums[0]
    mean, variance, third = sums[1:] / weight
    trust = weight / np.polyval(np.polyfit(mean, variance, 1, w=np.sqrt(weight)), mean).clip(1e-9) ** 2
    centre, middle, of_third = (np.average(each, weights=trust) for each in (mean, variance, third))
    spread = (trust * (mean - centre) ** 2).sum()
    slope, third_slope = ((trust * (mean - centre) * each).sum() / spread for each in (variance, third))
    return float(slope), float(centre), float(middle), float(of_third), float(third_slope)


def _alike(movie: NDArray[Any], is_clear: NDArray[np.bool_]) -> float:
    """Return the correlation of the noise of neighbours in a row."""
    change = movie[1::2].astype(np.float32) - movie[: 2 * (len(movie) // 2) : 2]
    clear = is_clear[1::2] & is_clear[: 2 * (len(movie) // 2) : 2]
    both = clear[:, :, 1:] & clear[:, :, :-1]
    squares = float(np.mean(change[clear] ** 2)) if clear.any() else 0.0
    shared = float(np.mean(change[:, :, 1:][both] * change[:, :, :-1][both])) if both.any() else 0.0
    return shared / squares if squares > 0 else 0.0
