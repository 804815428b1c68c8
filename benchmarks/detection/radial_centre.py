"""Where the centre of a round particle is by the symmetry of its light, to compare with.

Every gradient of a round particle points to its centre, or away from it (Parthasarathy, Nat. Methods 9 (2012) 724).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Floats = NDArray[np.float64]


def radial_centres(crops: NDArray[np.float32], window_px: int) -> Floats:
    """Return centres (N, 2), y, x, from the middle pixel of crops (N, P, P), px, by the square of pixels around it.

    The point with the least sum of squared distances to the lines along the gradients, each weighted with the square of
    the gradient over the distance to the gradients' own centroid. Limited to the square.
    """
    middle, half = crops.shape[-1] // 2, window_px // 2
    part = slice(middle - half, middle + half + 1)
    image = crops[:, part, part].astype(np.float64)
    along = image[:, 1:, 1:] - image[:, :-1, :-1]
    across = image[:, 1:, :-1] - image[:, :-1, 1:]
    along, across = (uniform_filter(each, (0, 3, 3), mode="constant") for each in (along, across))
    slope_y, slope_x = along + across, along - across
    side = np.arange(window_px - 1) - (window_px - 2) / 2
    y, x = np.broadcast_to(side[:, None], slope_y.shape), np.broadcast_to(side, slope_y.shape)
    squares = slope_y**2 + slope_x**2 + 1e-12
    total = squares.sum((1, 2), keepdims=True)
    cy, cx = ((squares * each).sum((1, 2), keepdims=True) / total for each in (y, x))
    weights = 1 / np.hypot(y - cy, x - cx).clip(1e-3)  # the square of the gradient is in the normals
    yy, yx, xx = slope_x**2 * weights, -slope_y * slope_x * weights, slope_y**2 * weights
    a, b, d = (each.sum((1, 2)) for each in (yy, yx, xx))
    p, q = (yy * y + yx * x).sum((1, 2)), (yx * y + xx * x).sum((1, 2))
    determinant = a * d - b * b
    centres = np.stack([(d * p - b * q) / determinant, (a * q - b * p) / determinant], 1)
    return centres.clip(-half, half)
