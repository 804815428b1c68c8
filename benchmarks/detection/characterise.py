"""How large and how bright each particle is, told from a crop round it: a measure, to compare with ``size``.

DeepTrack 2 (Midtvedt et al., Appl. Phys. Rev. 8 (2021) 011310, IV.3) tells so radius and refractive index. No part of
the product, as it is no better than ``size``: docs/decisions/0040-localise.md.
"""

from math import log

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import Column, Detections, Pixels
from streamtrack_engines.classify.measure import patches_at
from streamtrack_engines.places.file import CropFile
from streamtrack_engines.places.networks import QUANTITIES

_DIAMETER, _LIGHT = QUANTITIES.index("log_diameter"), QUANTITIES.index("log_light")
_LEAST_INFORMATION = 1e-3


class Characterise:
    """Tells the diameter and the light of each spot, from all the frames of its track so far.

    Columns: ``diameter``, px, the full width at half maximum; ``light``, counts, above the background. Each frame
    counts by what it says: the network tells its own error, and what it knew before it saw anything is taken out of
    each frame, so that means do not stay near the middle of what it learnt from.
    """

    columns = (Column("diameter", "px"), Column("light", "counts"))
    averages = True
    most_per_frame = None

    def __init__(self) -> None:
        self._file = CropFile("spots", 1)
        size_px = self._file.metadata.crop_px
        self._reach = np.arange(size_px) - size_px // 2
        least, most = (log(each) for each in self._file.metadata.recipe["data"]["diameter_px"])
        self._middle, self._information = (least + most) / 2, 12 / (most - least) ** 2  # of what is learnt from
        self.info = {"weights": "spots"}

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Do nothing."""

    def measure(self, pixels: Pixels, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return information times logarithm, and information, of diameter and light: (R, 4)."""
        y, x = found.y[rows], found.x[rows]
        said = self._file.said(patches_at(pixels, y, x, self._reach)).astype(np.float64)
        n = len(QUANTITIES)
        values, known = said[:, [_DIAMETER, _LIGHT]], np.exp(-2 * said[:, [n + _DIAMETER, n + _LIGHT]])
        before = np.array([self._information, 0.0])
        told = known * values - before * [self._middle, 0.0]
        seen = np.column_stack((told, np.maximum(known - before, _LEAST_INFORMATION)))[:, [0, 2, 1, 3]]
        return seen.astype(np.float32)

    def values(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return diameter, px, and light, counts, (N, 2), for what was seen on average."""
        return np.exp((seen[:, 0::2] / seen[:, 1::2]).clip(-20, 40)).astype(np.float32)
