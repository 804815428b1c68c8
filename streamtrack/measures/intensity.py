"""How bright each particle is."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.measures.aperture import N_QUANTITIES, photometry, rings
from streamtrack.settings import checks_settings
from streamtrack.types import Column, Detections, Pixels


@checks_settings
class Intensity:
    """Measures the light within a circle around each particle, above the local background.

    Columns, in camera counts: ``intensity``, the sum above the background; ``intensity_mean``, the mean within the
    circle, background included; ``background``, the mean of the ring around it; ``snr``, the sum over its standard
    deviation from the background's noise. Not measured, NaN, where the circle reaches beyond the image or the crowd
    leaves no ring. Pixels that are nearer to another particle are left out of the ring; in the circle, those opposite
    stand for them.

    Unlike ``mass``, which the engine estimates, it is a plain sum of pixels: linear in the light, and the same with
    every engine.

    Parameters
    ----------
    radius_px
        Of the circle. Within three times the sigma of a Gaussian spot are 99 % of its light.
    most_per_frame
        Particles that are measured in one frame; by default all.
    average
        Whether the columns hold the mean over the track's frames so far.
    """

    columns = (
        Column("intensity", "counts"),
        Column("intensity_mean", "counts"),
        Column("background", "counts"),
        Column("snr"),
    )

    def __init__(
        self,
        *,
        radius_px: Annotated[float, Field(ge=1.0, le=50.0)] = 4.0,
        most_per_frame: Annotated[int | None, Field(ge=1)] = None,
        average: bool = False,
    ) -> None:
        self.most_per_frame, self.averages = most_per_frame, average
        self._radius_px, self._ring_px = radius_px, rings(radius_px)
        self._owner = np.zeros((0, 0), np.int32)

    @property
    def info(self) -> Mapping[str, Any]:
        """The radii of circle and ring, px."""
        return {"radius_px": self._radius_px, "ring_px": list(self._ring_px)}

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Compile for frames of this shape and dtype."""
        self._owner = np.zeros(shape, np.int32)
        self.measure(np.zeros(shape, dtype), Detections.empty(), np.empty(0, np.intp))

    def measure(self, pixels: Pixels, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the columns of the particles in these rows, shape (R, 4)."""
        measured = np.empty((len(rows), N_QUANTITIES), np.float32)
        photometry(pixels, found.y, found.x, rows, self._radius_px, *self._ring_px, self._owner, measured)
        return measured

    def values(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same."""
        return seen
