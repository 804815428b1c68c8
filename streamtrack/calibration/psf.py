"""Measures how a cylindrical lens shows a point at each height: by a stack of images of beads on glass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.optimize import brentq, least_squares

from streamtrack.errors import ConfigError
from streamtrack.measures.gaussians import fits, moments
from streamtrack.psf import AstigmaticPsf, Defocus

BEAD_RADIUS_PX = 10.0
"""Within which the light of a bead is."""
APART_PX = 21
MIN_CLARITY = 10.0
"""Of a bead's brightest plane above the ground, in deviations of what is there."""
MOST_BEADS = 100
LEAST_PLANES = 9
LEAST_CHANGE = 0.3
"""Of the logarithm of the ratio of both widths, over the planes."""
MOST_SLANT = 0.15
"""Correlation of y and x in the image of a bead, root mean square."""
MOST_RESIDUAL = 0.12
"""Of the widths, relative, median."""
MOST_WIDENING = 3.0
"""Heights at which a bead is wider than so many times that in focus are left out."""

_PIXEL_VARIANCE = 1 / 12
_NO_LENS = "is the cylindrical lens in, and does the stack go through the focus?"
_LOOSE = 0.03  # relative errors of widths that are usual
_CALM = 0.02  # by which third and fourth powers are held at 0 where the beads do not tell

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PsfFit:
    """What was measured.

    Attributes
    ----------
    psf
        The calibration.
    z_um, sigma_y_px, sigma_x_px
        Shape (B, Z): heights of beads in the planes, and their widths; NaN where none was measured.
    residual
        Of the widths against the curve, relative, root mean square without outliers.
    seen
        Beads that were looked at; those of no use are not among the B.
    """

    psf: AstigmaticPsf
    z_um: Floats
    sigma_y_px: Floats
    sigma_x_px: Floats
    residual: float
    seen: int


def measure_psf(stack: NDArray[np.generic], step_um: float) -> PsfFit:
    """Measure the curve from a stack (Z, H, W) in which the focus drive went up by ``step_um`` (down if negative).

    Raises
    ------
    ConfigError
        It has too few planes or beads, or the beads show no astigmatism, show it along other axes than those of the
        camera, or do not agree.
    """
    if len(stack) < LEAST_PLANES:
        raise ConfigError(
            f"a stack of {len(stack)} planes tells no curve: take {LEAST_PLANES} or more, through the focus"
        )
    beads = find_beads(stack)
    if not len(beads):
        raise ConfigError("there is no bead that is bright, alone and whole: take fewer on the glass, or more light")
    sigma_y, sigma_x, slant = _widths(stack, beads)
    drive_um = np.arange(len(stack)).astype(np.float64) * step_um
    focus_um = np.array([_focus(drive_um, y, x) for y, x in zip(sigma_y, sigma_x, strict=True)], np.float64)
    is_good = np.isfinite(focus_um)
    if not is_good.any():
        raise ConfigError(f"none of {len(beads)} beads is as wide along y as along x in one of the planes: {_NO_LENS}")
    sigma_y, sigma_x, slant = sigma_y[is_good], sigma_x[is_good], slant[is_good]
    z_um = focus_um[is_good, None] - drive_um
    _check(sigma_y, sigma_x, slant)
    y, x = _curve(z_um, sigma_y), _curve(z_um, sigma_x)
    psf = _centred(y, x, _range(z_um, sigma_y, sigma_x, y, x))
    rest = np.abs(np.concatenate([_rest(psf.y, z_um, sigma_y, psf), _rest(psf.x, z_um, sigma_x, psf)]))
    if np.median(rest) > MOST_RESIDUAL:
        left = f"{100 * np.median(rest):.0f} % of the widths are left"
        raise ConfigError(f"the beads agree on no curve, {left}: take single beads, smaller than 0.2 um, at rest")
    return PsfFit(psf, z_um, sigma_y, sigma_x, float(1.4826 * np.median(rest)), len(beads))


def find_beads(stack: NDArray[np.generic]) -> Floats:
    """Return y, x, px, of bright beads that have no other near them, (B, 2), the brightest first."""
    shown = gaussian_filter(stack.max(axis=0).astype(np.float64), 1.5)
    ground = float(np.median(shown))
    noise = 1.4826 * float(np.median(np.abs(shown - ground))) + 1e-9
    peaks = (maximum_filter(shown, 5) == shown) & (shown > ground + MIN_CLARITY * noise)
    rows, columns = np.nonzero(peaks)
    height = shown[rows, columns] - ground
    away = np.maximum(np.abs(rows[:, None] - rows), np.abs(columns[:, None] - columns))
    is_crowded = ((away < APART_PX) & (away > 0) & (height > 0.1 * height[:, None])).any(axis=1)
    margin = BEAD_RADIUS_PX + 1
    is_whole = (rows >= margin) & (columns >= margin)
    is_whole &= (rows < shown.shape[0] - margin) & (columns < shown.shape[1] - margin)
    is_clear = height > 0.1 * height.max(initial=0.0)
    chosen = np.flatnonzero(~is_crowded & is_whole & is_clear)
    chosen = chosen[np.argsort(-height[chosen], kind="stable")][:MOST_BEADS]
    return np.column_stack((rows[chosen], columns[chosen])).astype(np.float64)


def _widths(stack: NDArray[np.generic], beads: Floats) -> tuple[Floats, Floats, Floats]:
    """Return widths along y and x, px, and the correlation of both, (B, Z) each, NaN where there are none."""
    y, x = np.ascontiguousarray(beads.T, np.float32)
    every = np.arange(len(beads))
    measured = np.full((len(stack), len(beads), 5), np.nan, np.float32)
    for plane, pixels in enumerate(stack):
        image = np.ascontiguousarray(pixels, np.float32)
        moments(image, y, x, every, _ground(image, beads), BEAD_RADIUS_PX, measured[plane])
        fits(image, _ground(image, beads), BEAD_RADIUS_PX, measured[plane])
    yy, yx, xx = measured[:, :, 2:].astype(np.float64).transpose(2, 1, 0)
    least = 2 * _PIXEL_VARIANCE
    small = ~((yy > least) & (xx > least))
    yy[small] = xx[small] = np.nan
    return np.sqrt(yy - _PIXEL_VARIANCE), np.sqrt(xx - _PIXEL_VARIANCE), yx / np.sqrt(yy * xx)


def _ground(image: NDArray[np.float32], beads: Floats) -> NDArray[np.float32]:
    """Return the median of the square around each bead's light."""
    row, column = np.indices((APART_PX, APART_PX)) - APART_PX // 2
    is_rim = np.maximum(np.abs(row), np.abs(column)) == APART_PX // 2
    at = beads[:, :, None].astype(int)
    rims = image[at[:, 0] + row[is_rim], at[:, 1] + column[is_rim]]
    return np.asarray(np.median(rims, axis=1), np.float32)


def _focus(drive_um: Floats, sigma_y: Floats, sigma_x: Floats) -> float:
    """Return where the focus drive is when a bead is as wide along y as along x; NaN where it never is."""
    ratio, size = np.log(sigma_y / sigma_x), sigma_y * sigma_x
    crossing = np.flatnonzero(np.diff(np.sign(ratio)) * np.isfinite(ratio[1:] + ratio[:-1]))
    if not len(crossing):
        return np.nan
    k = crossing[np.argmin(size[crossing] + size[crossing + 1])]
    near = slice(max(0, k - 2), k + 4)
    known = np.isfinite(ratio[near])
    slope, offset = np.polyfit(drive_um[near][known], ratio[near][known], 1)
    return float(np.clip(-offset / slope, drive_um[near].min(), drive_um[near].max())) if slope else np.nan


def _check(sigma_y: Floats, sigma_x: Floats, slant: Floats) -> None:
    skewed = float(np.sqrt(np.nanmean(slant**2)))
    if skewed > MOST_SLANT:
        raise ConfigError(
            "images of beads are stretched along a slant: turn the lens, or the camera, until they are not"
        )
    with np.errstate(all="ignore"):
        change = float(np.ptp(np.nanmedian(np.log(sigma_y / sigma_x), axis=0)))
    if not change > LEAST_CHANGE:
        raise ConfigError(f"the widths of the beads along y and x hardly differ: {_NO_LENS}")


def _curve(z_um: Floats, sigma: Floats) -> Defocus:
    """Return the curve that most of the widths along one axis are near."""
    known = np.isfinite(sigma)
    z, log_sigma = z_um[known], np.log(sigma[known])
    least = float(np.quantile(log_sigma, 0.05))
    near = log_sigma <= least + 0.1
    first = [least, float(np.median(z[near])), 0.25 * float(np.ptp(z)), 0.0, 0.0]
    is_near = log_sigma < least + np.log(MOST_WIDENING)

    def rest(numbers: Floats) -> Floats:
        curve = _defocus(numbers)
        calm = np.sqrt(is_near.sum()) * _CALM * numbers[3:]
        return np.concatenate((log_sigma[is_near] - np.log(curve.width_px(z[is_near])), _LOOSE * calm)) / _LOOSE

    span = float(np.ptp(z))
    limits = [-1.5, -span, 0.02 * span, -2, -1], [3.0, span, 3 * span, 2, 2]
    found = least_squares(rest, np.clip(first, *np.array(limits)), bounds=limits, loss="soft_l1")
    return _defocus(found.x)


def _defocus(numbers: Floats) -> Defocus:
    log_sigma, focus, depth, third, fourth = map(float, numbers)
    return Defocus(sigma_px=np.exp(log_sigma), focus_um=focus, depth_um=depth, third=third, fourth=fourth)


def _range(z_um: Floats, sigma_y: Floats, sigma_x: Floats, y: Defocus, x: Defocus) -> tuple[float, float]:
    """Return the heights around 0 at which most beads were measured, and are not too wide."""
    known = np.isfinite(sigma_y + sigma_x)
    heights = np.linspace(z_um.min(), z_um.max(), 4 * z_um.shape[1])
    step = 1.5 * float(np.abs(np.diff(z_um, axis=1)).mean())
    near = np.abs(z_um[:, :, None] - heights) < step
    share = (near & known[:, :, None]).any(axis=1).mean(axis=0)
    is_wide = (y.width_px(heights) > MOST_WIDENING * y.sigma_px) | (x.width_px(heights) > MOST_WIDENING * x.sigma_px)
    bad = heights[(share < 0.5) | is_wide]
    low = max((float(each) for each in bad[bad < 0]), default=float(heights[0]))
    high = min((float(each) for each in bad[bad >= 0]), default=float(heights[-1]))
    return low, high


def _centred(y: Defocus, x: Defocus, range_um: tuple[float, float]) -> AstigmaticPsf:
    """Return both curves with height 0 where they cross."""

    def ratio(z: float) -> float:
        return float(np.log(y.width_px(z) / x.width_px(z)))

    near = min(-range_um[0], range_um[1]) / 2
    shift = float(brentq(ratio, -near, near)) if near > 0 and ratio(-near) * ratio(near) < 0 else 0.0
    moved = [each.model_copy(update={"focus_um": each.focus_um - shift}) for each in (y, x)]
    try:
        return AstigmaticPsf(range_um=(range_um[0] - shift, range_um[1] - shift), y=moved[0], x=moved[1])
    except ValueError:
        cure = "take a stack from above to below the focus, at least 0.5 um to each side"
        raise ConfigError(f"the planes show too little of the curve: {cure}") from None


def _rest(axis: Defocus, z_um: Floats, sigma: Floats, psf: AstigmaticPsf) -> Floats:
    """Return what a curve leaves of widths in its range, relative."""
    within = np.isfinite(sigma) & (z_um > psf.range_um[0]) & (z_um < psf.range_um[1])
    return np.log(sigma[within] / axis.width_px(z_um[within]))
