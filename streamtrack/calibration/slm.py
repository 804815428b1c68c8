"""Measures where a pixel of a spatial light modulator is in the camera's image: it lights spots, and looks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from streamtrack.errors import MicroscopeError

GRID = 5
"""Spots along each side of the modulator."""
MARGIN = 0.1
"""Of the modulator's side: how far from its border the first of them is."""
SPOT = 1 / 50
"""Radius of a spot, of the modulator's shorter side."""
LEAST_SPOTS = 6
SMOOTH_PX = 1.5
MIN_CLARITY = 8.0
"""Height of a spot above the rest, in the rest's own standard deviations: noise alone reaches 5."""
MOST_OF_IMAGE = 0.25
"""A spot that covers more of the image is none: light that goes everywhere."""
MOST_RESIDUAL_PX = 1.5
"""Root mean square of what the transform leaves of the spots, camera px."""

Image = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SlmFit:
    """What was measured.

    Attributes
    ----------
    camera_to_slm
        Shape (2, 3), from (x, y, 1) of the image to x, y of the modulator, px.
    residual_px, worst_px
        Root mean square of what it leaves of the spots, and the most, camera px.
    residual_slm_px
        The former in px of the modulator.
    seen, shown
        Spots that were found in the image, and all.
    """

    camera_to_slm: NDArray[np.float64]
    residual_px: float
    worst_px: float
    residual_slm_px: float
    seen: int
    shown: int

    @property
    def slm_px(self) -> tuple[float, float]:
        """How many px of the modulator a px of the image is along its x and y."""
        x, y = np.hypot(*self.camera_to_slm[:, :2])
        return float(x), float(y)

    @property
    def is_mirrored(self) -> bool:
        """Whether no rotation alone brings the image's axes onto the modulator's."""
        return bool(np.linalg.det(self.camera_to_slm[:, :2]) < 0)

    @property
    def rotation_deg(self) -> float:
        """Direction of the image's x on the modulator, from its x towards its y."""
        return math.degrees(math.atan2(self.camera_to_slm[1, 0], self.camera_to_slm[0, 0]))


def measure_slm(
    shape: tuple[int, int],
    most_area_px2: float,
    intensity: int,
    show: Callable[[NDArray[np.uint8] | None], None],
    look: Callable[[], Image],
) -> SlmFit:
    """Light one spot after another, look for each in the image, and fit an affine transform.

    Parameters
    ----------
    shape
        The modulator's, height and width, px.
    most_area_px2
        Most pixels of it that may be lit at a time.
    intensity
        Of the spots, 1 to 255.
    show
        Shows an image of that shape, uint8, or (None) nothing.
    look
        Returns an image of the camera, (H, W), that was exposed after the call.

    Raises
    ------
    MicroscopeError
        Too few of the spots are seen, or they do not lie where one transform takes them.
    """
    radius_px = min(max(1.0, SPOT * min(shape)), math.sqrt(most_area_px2 / math.pi))
    on_slm, in_image = [], []
    for x, y in _grid(shape):
        before = look()
        show(_spot(shape, x, y, radius_px, intensity))
        try:
            lit = look()
        finally:
            show(None)
        if (place := find_spot(before, lit)) is not None:
            on_slm.append((x, y))
            in_image.append(place)
    return fit(np.array(on_slm, np.float64).reshape(-1, 2), np.array(in_image).reshape(-1, 2))


def find_spot(before: Image, lit: Image) -> tuple[float, float] | None:
    """Return where an image became brighter in one place, x and y, px; None where it did not, or not clearly.

    A spot that touches the border of the image is not one: its middle may be outside.
    """
    change = ndimage.gaussian_filter(lit - before, SMOOTH_PX, mode="nearest")
    rest, peak = float(np.median(change)), np.unravel_index(int(change.argmax()), change.shape)
    height = float(change[peak]) - rest
    spread = 1.4826 * float(np.median(np.abs(change - rest)))
    if height <= MIN_CLARITY * max(spread, np.finfo(np.float64).tiny):
        return None
    labels, _ = ndimage.label(change - rest > height / 2)
    spot = labels == labels[peak]
    rows, columns = np.nonzero(spot)
    edges = rows.min() == 0 or columns.min() == 0
    edges = edges or rows.max() == spot.shape[0] - 1 or columns.max() == spot.shape[1] - 1
    if edges or len(rows) > MOST_OF_IMAGE * spot.size:
        return None
    weight = change[spot] - rest - height / 2
    return float((weight * columns).sum() / weight.sum()), float((weight * rows).sum() / weight.sum())


def fit(on_slm: NDArray[np.float64], in_image: NDArray[np.float64], shown: int = GRID**2) -> SlmFit:
    """Return the affine transform between spots on the modulator and in the image, both (N, 2), x and y.

    Raises
    ------
    MicroscopeError
        There are too few spots, they lie on a line, or no transform takes the ones to the others.
    """
    if len(on_slm) < LEAST_SPOTS:
        cure = "give more light (slm_intensity, exposure), and a sample that shows it (a mirror, a dye), in focus"
        raise MicroscopeError(f"{len(on_slm)} of {shown} spots of the SLM are seen, {LEAST_SPOTS} are needed: {cure}")
    ones = np.ones((len(on_slm), 1))
    transform, _, rank, _ = np.linalg.lstsq(np.hstack((on_slm, ones)), in_image, rcond=None)
    away_px = np.hypot(*(in_image - np.hstack((on_slm, ones)) @ transform).T)
    residual_px = float(np.sqrt((away_px**2).mean()))
    linear = transform[:2].T
    if rank < 3 or abs(np.linalg.det(linear)) < 1e-3 * np.abs(linear).max() ** 2:
        raise MicroscopeError("the spots of the SLM are seen on one line only: look at its light path")
    if residual_px > MOST_RESIDUAL_PX:
        left = f"{residual_px:.2f} px are left, {away_px.max():.1f} at worst; {MOST_RESIDUAL_PX:g} may be"
        cure = "look for reflections, for something that moves, and whether the camera sees the SLM undistorted"
        raise MicroscopeError(f"the spots do not lie as on the SLM, {left}: {cure}")
    back = np.linalg.inv(linear)
    to_slm = np.hstack((back, -back @ transform[2][:, None]))
    away_slm = np.hypot(*(on_slm - np.hstack((in_image, ones)) @ to_slm.T).T)
    residual_slm_px = float(np.sqrt((away_slm**2).mean()))
    return SlmFit(to_slm, residual_px, float(away_px.max()), residual_slm_px, len(on_slm), shown)


def _grid(shape: tuple[int, int]) -> list[tuple[float, float]]:
    """Return the middles of the spots, whole pixels, x and y, in any order: drift must not look like a transform."""
    ys, xs = (np.rint(np.linspace(MARGIN, 1 - MARGIN, GRID) * (length - 1)) for length in shape)
    places = [(float(x), float(y)) for y in ys for x in xs]
    return [places[each] for each in np.random.default_rng(0).permutation(len(places))]


def _spot(shape: tuple[int, int], x: float, y: float, radius_px: float, intensity: int) -> NDArray[np.uint8]:
    rows, columns = np.indices(shape)
    lit = np.hypot(rows - y, columns - x) <= radius_px
    return np.where(lit, intensity, 0).astype(np.uint8)
