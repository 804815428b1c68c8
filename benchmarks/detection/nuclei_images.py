"""Images of nuclei that somebody annotated."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_OFFSET, _READ_NOISE_E = 100.0, 2.0


class Annotated(NamedTuple):
    """An image, and y, x and radius (N, 3), px, of its nuclei."""

    name: str
    pixels: NDArray[np.uint16]
    nuclei: NDArray[np.float64]

    def faint(self, e_per_count: float, blur_px: float, seed: int) -> "Annotated":
        """Return the image as a camera sees it that gets few electrons, through a lens that blurs by a Gaussian."""
        rng = np.random.default_rng(seed)
        blurred = gaussian_filter(self.pixels.astype(np.float64), blur_px)
        seen = rng.poisson(e_per_count * (blurred - np.quantile(blurred, 0.01)).clip(0))
        counts = seen + rng.normal(_OFFSET, _READ_NOISE_E, seen.shape)
        return self._replace(pixels=counts.round().clip(0, 65535).astype(np.uint16))


def read(folder: Path, part: str) -> Iterator[Annotated]:
    """Yield the images of a part, ``train`` or ``validation``, by name."""
    nuclei = defaultdict(list)
    with (folder / "nuclei.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            nuclei[row["image"]].append([float(row[name]) for name in ("y", "x", "radius_px")])
    for path in sorted(folder.glob(f"{part}_*.tif")):
        yield Annotated(path.name, tifffile.imread(path), np.array(nuclei[path.name]).reshape(-1, 3))
