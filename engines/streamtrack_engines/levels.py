"""What the graph gets of a frame: whole levels, bright spots on dark ground, none larger than the network knows."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import EngineError
from streamtrack.types import DENOISED, MIN_FRAME_PX, Detections, Pixels
from streamtrack_engines.backends.runner import FrameSize

Polarity = Literal["bright", "dark"]

SpotSize = Annotated[float, Field(gt=0, le=60)]
"""Full width at half maximum, px; larger ones are not spots any more."""

Extra = Mapping[str, NDArray[np.float32]]

_ITEMSIZE = {"uint8": 1, "uint16": 2, "float32": 2}
"""Bytes of a pixel for the graph, for frames of each dtype."""
_MAX_LEVEL = 65535

SPOTS_PX, CELLS_PX = 3.5, 20.0
"""A network knows what is up to twice as wide as this, for spots and for cells; larger ones are brought to between this
and twice this."""


def binning_for(spot_size: float | None, known_px: float = SPOTS_PX) -> int:
    """Return how many pixels along each axis become one, for a full width in px and a network's `SPOTS_PX` or so."""
    return 1 if spot_size is None or spot_size < 2 * known_px else int(spot_size / known_px)


class Levels:
    """Turns frames of one shape and dtype into levels, and what was found in these back into pixels and counts.

    Parameters
    ----------
    shape, dtype
        Of the frames.
    binning
        So many pixels along each axis become one; what remains at the lower and right border is left out.
    polarity
        ``"dark"`` turns frames upside down.

    Raises
    ------
    EngineError
        The frames cannot be taken.
    """

    def __init__(self, shape: tuple[int, int], dtype: str, binning: int, polarity: Polarity) -> None:
        if dtype not in _ITEMSIZE:
            raise EngineError(f"frames of dtype {dtype} cannot be taken: convert them to {', '.join(_ITEMSIZE)}")
        least = MIN_FRAME_PX * binning
        if min(shape) < least:
            why = f", as spots of that size are looked for in frames {binning} times smaller" if binning > 1 else ""
            raise EngineError(f"a frame of {shape[0]} x {shape[1]} px is too small: at least {least} x {least}{why}")
        self._shape, self._binning, self._is_dark = shape, binning, polarity == "dark"
        self._is_summed = dtype == "uint8" and binning > 1  # at most 60 / 3.5 squared of 255 fit into two bytes
        self.size = FrameSize(shape[0] // binning, shape[1] // binning, 2 if self._is_summed else _ITEMSIZE[dtype])
        small = (self.size.height, self.size.width)
        self._top = _MAX_LEVEL if self.size.itemsize == 2 else 255
        self._binned: NDArray[Any] = np.empty(
            small if binning > 1 else (0, 0), np.float32 if dtype == "float32" else np.uint32
        )
        self._scaled = np.empty(small if dtype == "float32" else (0, 0))
        self._scale, self._offset = 1.0, 0.0

    def write(self, pixels: Pixels, levels: NDArray[Any]) -> None:
        """Write a frame (H, W) as levels (h, w); raises EngineError if it has pixels that are not finite."""
        values: NDArray[Any] = pixels if self._binning == 1 else self._bin(pixels)
        if pixels.dtype == np.float32:
            self._write_floats(values, levels)
        else:
            levels[:] = values
            self._scale = 1 / self._binning**2 if self._is_summed else 1.0
            self._offset = 0.0
        if self._is_dark:
            np.subtract(self._top, levels, out=levels, casting="unsafe")
            self._offset += self._scale * self._top
            self._scale = -self._scale

    def _bin(self, pixels: Pixels) -> NDArray[Any]:
        """Return sums or means of squares of pixels, in memory that the next call uses again."""
        n, binned = self._binning, self._binned
        height, width = (n * size for size in binned.shape)
        binned[:] = 0
        for row in range(n):
            for column in range(n):
                binned += pixels[row:height:n, column:width:n]
        if binned.dtype == np.float32:
            binned /= n * n
        elif not self._is_summed:
            np.floor_divide(binned + n * n // 2, n * n, out=binned)
        return binned

    def _write_floats(self, values: NDArray[np.float32], levels: NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(high - low):
            raise EngineError("the frame has NaN or infinite pixels: replace them first")
        self._scale, self._offset = (high - low) / _MAX_LEVEL or 1.0, low
        np.subtract(values, low, out=self._scaled, dtype=np.float64)
        np.divide(self._scaled, self._scale, out=self._scaled)
        np.rint(self._scaled, out=levels, casting="unsafe")

    def detections(self, y: Any, x: Any, score: Any, mass: Any, sigma: Any, extra: Extra) -> Detections:
        """Return what was found in the levels of the last frame, in arrays of their own."""
        n = self._binning
        middle = (n - 1) / 2
        return Detections(y * n + middle, x * n + middle, score, self.counts(mass), sigma * n, extra)

    def counts(self, mass: Any) -> Any:
        """Return sums of levels above a background as counts."""
        return mass * (abs(self._scale) * self._binning * self._binning)

    def measured(self, values: NDArray[np.float32], unit: str) -> NDArray[np.float32]:
        """Return a column of lengths (px), sums (counts) or anything else, of the levels of the last frame."""
        if unit == "counts":
            return np.asarray(self.counts(values))
        return values * self._binning if unit == "px" else values.copy()

    def image(self, image: NDArray[np.float32], kind: str = DENOISED) -> NDArray[np.float32]:
        """Return an image (h, w) of a kind as one of the frame (H, W), in an array of its own.

        A denoised one of levels becomes one of counts, a ``"density"`` numbers per pixel of the frame; others stay.
        """
        if kind == DENOISED:
            plain = self._scale == 1 and self._offset == 0
            return self._enlarged(image.copy() if plain else image * self._scale + self._offset)
        return self._enlarged(image / np.float32(self._binning**2) if kind == "density" else image.copy())

    def _enlarged(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._binning == 1:
            return image
        large = np.repeat(np.repeat(image, self._binning, 0), self._binning, 1)
        missing = [(0, whole - part) for whole, part in zip(self._shape, large.shape, strict=True)]
        return np.pad(large, missing, mode="edge")
