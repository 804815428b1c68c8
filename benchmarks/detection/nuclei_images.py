"""Images of nuclei that somebody annotated."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray


class Annotated(NamedTuple):
    """An image, and y, x and radius (N, 3), px, of its nuclei."""

    name: str
    pixels: NDArray[np.uint16]
    nuclei: NDArray[np.float64]


def read(folder: Path, part: str) -> Iterator[Annotated]:
    """Yield the images of a part, ``train`` or ``validation``, by name."""
    nuclei = defaultdict(list)
    with (folder / "nuclei.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            nuclei[row["image"]].append([float(row[name]) for name in ("y", "x", "radius_px")])
    for path in sorted(folder.glob(f"{part}_*.tif")):
        yield Annotated(path.name, tifffile.imread(path), np.array(nuclei[path.name]).reshape(-1, 3))
