"""Images of particles at some height, as a cylindrical lens shows them."""

from math import ceil, erf, floor, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamtrack.compiling import compiled
from streamtrack.psf import STANDARD, AstigmaticPsf
from streamtrack.simulation.render import GAUSSIAN_REACH_SIGMAS, amplitude_from_snr

BACKGROUND_E = 10.0
"""As in the simulated movies."""

Floats = NDArray[np.float64]


def add_astigmatic_spots(
    image: NDArray[np.float32], y: Floats, x: Floats, z_um: Floats, amplitude: Floats, psf: AstigmaticPsf
) -> None:
    """Add particles to an image (H, W), in place; light that falls outside is lost.

    Parameters
    ----------
    y, x, z_um
        Shape (N,): places, px, and heights.
    amplitude
        Shape (N,): of the brightest pixel, if the particle were in the middle of one, at its own height. Pixels
        integrate the light that falls on them.
    """
    _add(image, y, x, amplitude, *psf.widths_px(z_um))


def depth_frame(
    rng: np.random.Generator,
    y: Floats,
    x: Floats,
    z_um: Floats,
    snr: ArrayLike,
    shape: tuple[int, int],
    psf: AstigmaticPsf = STANDARD,
) -> NDArray[np.uint16]:
    """Draw a frame of particles, with shot noise; ``snr``, A / sqrt(A + background), is that at their own heights."""
    image = np.full(shape, BACKGROUND_E, np.float32)
    amplitude = [float(amplitude_from_snr(each, BACKGROUND_E)) for each in np.broadcast_to(snr, len(y))]
    add_astigmatic_spots(image, y, x, z_um, np.array(amplitude, np.float64), psf)
    return rng.poisson(image).clip(0, 65535).astype(np.uint16)


def bead_stack(
    rng: np.random.Generator,
    planes_um: Floats,
    beads: int = 12,
    size_px: int = 160,
    light_e: float = 30_000.0,
    psf: AstigmaticPsf = STANDARD,
) -> NDArray[np.uint16]:
    """Draw a stack (Z, S, S) of beads on glass at height 0, the focus drive at some places, with shot noise.

    ``light_e`` is what a bead sends in all; beads lie on a grid, each a little off.
    """
    side = ceil(sqrt(beads))
    grid = (np.indices((side, side)).reshape(2, -1)[:, :beads] + 0.5) * size_px / side
    y, x = grid + rng.uniform(-2, 2, grid.shape)
    stack = np.empty((len(planes_um), size_px, size_px), np.uint16)
    for plane, drive_um in enumerate(planes_um):
        z_um = np.full(beads, -drive_um)
        sigma_y, sigma_x = psf.widths_px(z_um)
        image = np.full((size_px, size_px), BACKGROUND_E, np.float32)
        add_astigmatic_spots(image, y, x, z_um, light_e * _brightest(sigma_y) * _brightest(sigma_x), psf)
        stack[plane] = rng.poisson(image).clip(0, 65535)
    return stack


def _brightest(sigma_px: Floats) -> Floats:
    """Return the share of a line's light that falls on the pixel in whose middle it is."""
    return np.array([erf(0.5 / (sqrt(2.0) * each)) for each in sigma_px])


@compiled
def _add(image: NDArray[np.float32], y: Floats, x: Floats, amplitude: Floats, sigma_y: Floats, sigma_x: Floats) -> None:
    height, width = image.shape
    for k in range(len(y)):
        wide_y, wide_x = sqrt(2.0) * sigma_y[k], sqrt(2.0) * sigma_x[k]
        reach_y, reach_x = GAUSSIAN_REACH_SIGMAS * sigma_y[k], GAUSSIAN_REACH_SIGMAS * sigma_x[k]
        scale = amplitude[k] / (4.0 * erf(0.5 / wide_y) * erf(0.5 / wide_x))
        for row in range(max(0, ceil(y[k] - reach_y)), min(height, floor(y[k] + reach_y) + 1)):
            along_y = scale * (erf((row + 0.5 - y[k]) / wide_y) - erf((row - 0.5 - y[k]) / wide_y))
            for column in range(max(0, ceil(x[k] - reach_x)), min(width, floor(x[k] + reach_x) + 1)):
                along_x = erf((column + 0.5 - x[k]) / wide_x) - erf((column - 0.5 - x[k]) / wide_x)
                image[row, column] += np.float32(along_y * along_x)
