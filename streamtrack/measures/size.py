"""How large and how round the image of each particle is."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.measures.aperture import BACKGROUND, N_QUANTITIES, photometry, rings
from streamtrack.measures.gaussians import fits, moments
from streamtrack.settings import checks_settings
from streamtrack.types import Column, Detections, Pixels


@checks_settings
class Size:
    """Measures width and aspect of the spots of bright particles.

    Columns: ``psf_sigma``, px, the standard deviation of the spot as it is in the image, the geometric mean of its two
    axes; ``aspect``, the longer axis over the shorter one. Not measured, NaN, where the spot lies at the border of the
    image, the crowd leaves no background, or there is no spot brighter than it.

    Parameters
    ----------
    method
        ``moments``: by moments with a weight of the spot's own shape. ``fit``: by a fit of an elliptical Gaussian,
        twice as slow, and less led astray by neighbours.
    radius_px
        Pixels within it are looked at: three times the sigma of the widest spot. The background is from a ring around.
    most_per_frame
        Particles that are measured in one frame; by default all.
    average
        Whether the columns hold the mean over the track's frames so far.
    """

    columns = (Column("psf_sigma", "px"), Column("aspect"))

    def __init__(
        self,
        *,
        method: Literal["moments", "fit"] = "moments",
        radius_px: Annotated[float, Field(ge=2.0, le=50.0)] = 5.0,
        most_per_frame: Annotated[int | None, Field(ge=1)] = None,
        average: bool = False,
    ) -> None:
        self.most_per_frame, self.averages = most_per_frame, average
        self._method, self._radius_px, self._ring_px = method, radius_px, rings(radius_px)
        self._owner = np.zeros((0, 0), np.int32)

    @property
    def info(self) -> Mapping[str, Any]:
        """Method and radii, px."""
        return {"method": self._method, "radius_px": self._radius_px, "ring_px": list(self._ring_px)}

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Compile for frames of this shape and dtype."""
        self._owner = np.zeros(shape, np.int32)
        self.measure(np.zeros(shape, dtype), Detections.empty(), np.empty(0, np.intp))

    def measure(self, pixels: Pixels, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the columns of the particles in these rows, shape (R, 2)."""
        light = np.empty((len(rows), N_QUANTITIES), np.float32)
        photometry(pixels, found.y, found.x, rows, self._radius_px, *self._ring_px, self._owner, light)
        background = light[:, BACKGROUND].copy()
        measured = np.empty((len(rows), 5), np.float32)
        moments(pixels, found.y, found.x, rows, background, self._radius_px, measured)
        if self._method == "fit":
            fits(pixels, background, self._radius_px, measured)
        return _sigma_and_aspect(measured[:, 2:].astype(np.float64))

    def values(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same."""
        return seen


def _sigma_and_aspect(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what covariances (R, 3) yy, yx, xx say of the axes."""
    yy, yx, xx = covariance.T
    middle, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    return np.column_stack(((middle**2 - apart**2) ** 0.25, np.sqrt((middle + apart) / (middle - apart)))).astype(
        np.float32
    )
