"""Frames as a screen shows them: 8 bits, between two values that change slowly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.sinks.contrast import stretch

MOST_PX = 2048
"""Longer side of what is shown."""
SAMPLED_PX = 256
"""Along each side, from which black and white are found."""
FOLLOWS = 0.15
"""Share of the way to a frame's own contrast that is taken with it: light that flickers is seen to flicker."""


class Contrast:
    """Black and white of a stream of images: what somebody chose, or what they themselves ask for."""

    def __init__(self) -> None:
        self.chosen: tuple[float, float] | None = None
        self._seen: tuple[float, float] | None = None

    def __call__(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], int, tuple[float, float]]:
        """Return an image (H, W) in 8 bits, how many px one of it stands for, and its black and white."""
        n = -(-max(image.shape) // MOST_PX)
        small = image[::n, ::n]
        low, high = self.chosen or self._asked_for(small)
        return _in_8_bits(small, low, high), n, (low, high)

    def _asked_for(self, image: NDArray[Any]) -> tuple[float, float]:
        step = -(-max(image.shape) // SAMPLED_PX)
        now = stretch(image[::step, ::step])
        if self._seen is None or not _overlap(self._seen, now):
            self._seen = now
        else:
            low, high = (old + FOLLOWS * (new - old) for old, new in zip(self._seen, now, strict=True))
            self._seen = low, high
        return self._seen


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether two spans have half of each in common: otherwise the light was switched."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common > 0.5 * max(one[1] - one[0], other[1] - other[0])


def _in_8_bits(image: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scale = 255.0 / max(high - low, 1e-12)
    if image.dtype.kind == "u":
        values = np.arange(np.iinfo(image.dtype).max + 1, dtype=np.float32)
        table = np.clip((values - low) * scale, 0, 255).astype(np.uint8)
        looked_up: NDArray[np.uint8] = table[image]
        return looked_up
    with np.errstate(invalid="ignore"):
        in_8_bits: NDArray[np.uint8] = np.clip(np.nan_to_num((image - low) * scale), 0, 255).astype(np.uint8)
    return in_8_bits
