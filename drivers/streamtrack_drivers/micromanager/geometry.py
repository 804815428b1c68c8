"""From distances in the image to distances of the stage, by Micro-Manager's own conventions.

Micro-Manager's affine transform turns the vector from the image's centre to a feature, in px, into the stage move, in
um, that brings the feature to the centre: that is what its double click into the image does (``XYNavigator`` and
``CenterAndDragListener`` of Micro-Manager 2 negate the vector twice). It is stored for 1 x 1 binning; the core corrects
it, and the pixel size, for the binning in use.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import MicroscopeError

AGREEMENT = 0.1
"""An affine transform whose scale is further off the pixel size was never measured: Micro-Manager's rule, too."""


def um_per_px(
    affine: Sequence[float], pixel_size_um: float, mounting: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the matrix of `streamtrack.protocols.Microscope.stage_um_per_px`.

    Parameters
    ----------
    affine
        What ``getPixelSizeAffine`` returns: two rows of three.
    pixel_size_um
        What ``getPixelSizeUm`` returns.
    mounting
        Shape (2, 2): `mounting` of the camera. It counts where only the pixel size is known.

    Raises
    ------
    MicroscopeError
        The pixel size is not known.
    """
    if not pixel_size_um > 0:
        cure = "calibrate it in Micro-Manager (Devices > Pixel Size Calibration)"
        raise MicroscopeError(f"no pixel size is known for this objective and camera: {cure}")
    matrix = np.array(affine, np.float64).reshape(2, 3)[:, :2]
    scale_um = float(np.sqrt(abs(np.linalg.det(matrix))))
    if abs(scale_um - pixel_size_um) <= AGREEMENT * pixel_size_um:
        return matrix
    return pixel_size_um * (np.eye(2) if mounting is None else mounting)


def mounting(setting: Callable[[str], str | None]) -> NDArray[np.float64]:
    """Return how a camera is mounted, shape (2, 2): its axes are swapped first, then mirrored.

    ``setting(name)`` returns a property of the camera, None where it has none of that name.
    """
    if setting("TransposeCorrection") == "1":  # the driver has turned the images already
        return np.eye(2)
    matrix = np.eye(2)[::-1] if setting("TransposeXY") == "1" else np.eye(2)
    signs = [-1.0 if setting(name) == "1" else 1.0 for name in ("TransposeMirrorX", "TransposeMirrorY")]
    return np.diag(signs) @ matrix
