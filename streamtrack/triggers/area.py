"""A part of the image: a rectangle, a polygon, or a mask drawn in another program."""

from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import distance_transform_edt

from streamtrack.errors import ConfigError
from streamtrack.mask_file import read_mask, size
from streamtrack.triggers.checks import require, require_one

Range = tuple[float, float]
Polygon = Annotated[list[tuple[float, float]], Field(min_length=3)]
Mask = NDArray[np.bool_]
AT_ONCE = 32
"""Rows of pixels that are compared with a polygon: while a run goes on, its loop waits for no more."""
MOST_POINTS = 2000
"""Of the outlines of a mask."""


class Area:
    """A set of pixels; a particle is in it when its pixel is.

    Parameters
    ----------
    y_px, x_px
        A rectangle, from and to; where one of them is left out, it reaches across the image.
    polygon_px
        Corners (y, x), three or more.
    mask
        TIFF, PNG, ``.npy`` or zarr of the size of the image; pixels that are not 0 belong to the area.

    Raises
    ------
    ConfigError
        The area is given in no way or in several, or is not possible. `prepare` raises it for what does not fit the
        image, and for a mask that cannot be read.
    """

    def __init__(self, y_px: Range | None, x_px: Range | None, polygon_px: Polygon | None, mask: Path | None) -> None:
        rectangle = None if y_px is None and x_px is None else (y_px or (-np.inf, np.inf), x_px or (-np.inf, np.inf))
        require_one({"y_px and x_px": rectangle, "polygon_px": polygon_px, "mask": mask})
        for name, limits in (("y_px", y_px), ("x_px", x_px)):
            require(limits is None or limits[0] <= limits[1], name, limits, "from low to high")
        self._rectangle, self._polygon_px, self._mask = rectangle, polygon_px, mask
        self._outlines: list[list[tuple[float, float]]] | None = None

    def prepare(self, shape: tuple[int, int]) -> None:
        """Lay the area over images of (H, W) px."""
        inside = self._inside(shape)
        if not inside.any():
            raise ConfigError(f"the area holds no pixel of an image of {size(shape)}: positions are px, y before x")
        self._distance_px = distance_transform_edt(~inside).astype(np.float32)

    def drawn(self, shape: tuple[int, int]) -> dict[str, Any]:
        """Return its settings, and the outlines of it in images of (H, W) px: corners y, x."""
        if self._mask is not None:
            if self._outlines is None:
                self._outlines = outlines_of(self._inside(shape))
            return {"outlines": self._outlines}
        if self._polygon_px is not None:
            return {"polygon_px": self._polygon_px, "outlines": [self._polygon_px]}
        assert self._rectangle is not None
        sides = [
            (max(side[0], -0.5), min(side[1], size - 0.5)) for side, size in zip(self._rectangle, shape, strict=True)
        ]
        (top, bottom), (left, right) = sides
        named = zip(("y_px", "x_px"), self._rectangle, strict=True)
        said = {name: side for name, side in named if np.isfinite(side).all()}
        return {**said, "outlines": [[(top, left), (top, right), (bottom, right), (bottom, left)]]}

    def distance_px(self, y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each position (N,) is from the area, by pixels' centres: 0 inside, 1 or more outside."""
        height, width = self._distance_px.shape
        row = np.clip(np.rint(y).astype(np.intp), 0, height - 1)
        column = np.clip(np.rint(x).astype(np.intp), 0, width - 1)
        distance: NDArray[np.float32] = self._distance_px[row, column]
        return distance

    def _inside(self, shape: tuple[int, int]) -> Mask:
        if self._mask is not None:
            return read_mask(self._mask, shape)
        y, x = np.indices(shape)
        if self._polygon_px is not None:
            parts = [slice(at, at + AT_ONCE) for at in range(0, shape[0], AT_ONCE)]
            return np.concatenate([_in_polygon(y[rows], x[rows], self._polygon_px) for rows in parts])
        assert self._rectangle is not None
        (top, bottom), (left, right) = self._rectangle
        return np.asarray((y >= top) & (y <= bottom) & (x >= left) & (x <= right))


@runtime_checkable
class HasArea(Protocol):
    """A trigger that looks at a part of the image, which may be moved while the run runs.

    Attributes
    ----------
    area
        None for the whole image.
    """

    area: Area | None

    def look_at(self, area: Area) -> None:
        """Look at another part of the image from the next frame on; it is prepared. Called between two frames."""
        ...


def outlines_of(inside: Mask) -> list[list[tuple[float, float]]]:
    """Return the borders of a mask, no more points of them than a page can draw."""
    from contourpy import contour_generator

    lines = contour_generator(z=np.pad(inside.astype(np.float32), 1)).lines(0.5)
    step = -(-sum(len(line) for line in lines) // MOST_POINTS)
    return [[(float(y) - 1, float(x) - 1) for x, y in np.asarray(line)[:: max(step, 1)]] for line in lines]


def _in_polygon(y: NDArray[np.intp], x: NDArray[np.intp], corners: list[tuple[float, float]]) -> Mask:
    from matplotlib.path import Path as Outline

    points = np.column_stack((y.ravel(), x.ravel()))
    return np.asarray(Outline(corners).contains_points(points).reshape(y.shape))
