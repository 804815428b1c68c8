"""From distances in the image to distances of the stage, by Micro-Manager's own conventions.

Micro-Manager's affine transform turns the vector from the image's centre to a feature, in px, into the stage move, in
um, that brings the feature to the centre: that is what its double click into the image does (``XYNavigator`` and
``CenterAndDragListener`` of Micro-Manager 2 negate the vector twice). It is stored for 1 x 1 binning; the core corrects
it, and the pixel size, for the binning in use.

A transform that was never measured says nothing of directions. Micro-Manager then goes by how the camera is mounted,
and the other way round: it negates the vector once. Here it is an error, for a loop that moves the wrong way runs away.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, MicroscopeError

StageMatrix = tuple[float, float] | tuple[tuple[float, float], tuple[float, float]]
"""How far along x and y, or the rows of a matrix."""
AGREEMENT = 0.1
"""An affine transform whose scale is further off the pixel size was never measured: Micro-Manager's rule, too."""
CURE = "run 'streamtrack calibrate stage RUN.toml', or set stage_um_per_px in [microscope]"


def um_per_px(affine: Sequence[float], pixel_size_um: float) -> NDArray[np.float64]:
    """Return the matrix of `streamtrack.protocols.Microscope.stage_um_per_px`.

    Parameters
    ----------
    affine
        What ``getPixelSizeAffine`` returns: two rows of three.
    pixel_size_um
        What ``getPixelSizeUm`` returns.

    Raises
    ------
    MicroscopeError
        The pixel size is not known, or the transform was not measured: it does not fit the pixel size, or is no more
        than the pixel size written as a matrix.
    """
    if not pixel_size_um > 0:
        raise MicroscopeError(f"no pixel size is known for this objective and camera: {CURE}")
    matrix = np.array(affine, np.float64).reshape(2, 3)[:, :2]
    scale_um = float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))
    fits = abs(scale_um - pixel_size_um) <= AGREEMENT * pixel_size_um
    if not fits or np.allclose(matrix, pixel_size_um * np.eye(2), rtol=0, atol=1e-6 * pixel_size_um):
        raise MicroscopeError(f"which way the image moves with the stage was never measured: {CURE}")
    return matrix


def stage_matrix(setting: Sequence[Any]) -> NDArray[np.float64]:
    """Return the matrix (2, 2) that the setting ``stage_um_per_px`` stands for: two numbers are its diagonal.

    Raises ConfigError where it is neither, not finite, or cannot be inverted.
    """
    try:
        numbers = np.array(setting, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    matrix = np.diag(numbers) if numbers.shape == (2,) else numbers
    if matrix.shape != (2, 2) or not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix)) > 0:
        cure = "give x and y, with signs, or the rows x and y of a matrix that can be inverted, in um per unbinned px"
        raise ConfigError(f"stage_um_per_px = {setting} is not understood: {cure}")
    return matrix


def binning_of(value: str) -> tuple[int, int]:
    """Return the binning along x and y that a camera's property says: ``"2"``, ``"2x2"``; 1 where it says none."""
    factors = [int(each) for each in re.findall(r"\d+", value)] or [1]
    return max(1, factors[0]), max(1, factors[-1])
