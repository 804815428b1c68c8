"""Annotated images of kinds that the shipped weights do badly, written as somebody would have them in a folder.

Gains, offsets and brightness are drawn anew for each image. Seeds of training and of evaluation differ.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.detection.everyday_scenes import amplitude, exposed, places, spots

Image = NDArray[np.float64]
SIZE_PX = 256
RING_PX = 20.0
_NUCLEI_CSV = "nuclei.csv"


class Annotated(NamedTuple):
    """An image (H, W) and the places of its particles, (N, 2) y, x in px."""

    image: NDArray[np.uint16]
    yx: Image


def rings(rng: np.random.Generator) -> Annotated:
    """Draw dark rings of 20 px diameter on an uneven bright ground, with specks and debris between them."""
    yx = places(rng, int(rng.integers(12, 30)), apart_px=14.0, size_px=SIZE_PX)
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX]
    background = rng.uniform(150, 500) * np.exp(gaussian_filter(rng.normal(0, 1, y.shape), 40) * 25)
    depth = np.zeros(y.shape)
    for place in yx:
        away = np.hypot(y - place[0], x - place[1]) - RING_PX / 2 * rng.uniform(0.9, 1.1)
        depth = np.maximum(depth, rng.uniform(0.25, 0.5) * np.exp(-0.5 * (away / rng.uniform(1.3, 1.8)) ** 2))
    specks = spots(places(rng, 40, size_px=SIZE_PX), rng.uniform(0.1, 0.4, 40), 1.5, SIZE_PX)
    electrons = background * (1 - depth) * (1 + specks)
    return Annotated((2.0 * exposed(rng, electrons) + 100).clip(0, 65535).astype(np.uint16), yx)


def on_texture(rng: np.random.Generator) -> Annotated:
    """Draw spots of sigma 1.5 px on a texture of the same brightness, whose grains are 2 to 4 px and longer."""
    yx = places(rng, int(rng.integers(30, 60)), apart_px=6.0, size_px=SIZE_PX)
    noise = rng.normal(0, 1, (2, SIZE_PX, SIZE_PX))
    fine, coarse = (
        gaussian_filter(each, sigma) for each, sigma in zip(noise, (rng.uniform(2.5, 3.5), 12.0), strict=True)
    )
    texture = np.exp(0.45 * fine / fine.std() + 0.35 * coarse / coarse.std())
    background = rng.uniform(40, 90) * texture
    height = amplitude(6.0, 60.0) * rng.uniform(0.8, 1.4, len(yx))
    return Annotated(exposed(rng, background + spots(yx, height, 1.5, SIZE_PX)), yx)


def nuclei(folder: Path, which: slice, kind: str) -> list[tuple[Annotated, pd.DataFrame]]:
    """Return images of BBBC039, ``train`` or ``validation``, in the order of their names, with their table's rows."""
    table = pd.read_csv(folder / _NUCLEI_CSV)
    names = sorted(path.name for path in folder.glob(f"{kind}_*.tif"))[which]
    rows = [table[table["image"] == name] for name in names]
    images = [tifffile.imread(folder / name) for name in names]
    return [(Annotated(image, each[["y", "x"]].to_numpy()), each) for image, each in zip(images, rows, strict=True)]


def write_folder(folder: Path, annotated: list[Annotated]) -> None:
    """Write images, and beside each its points as napari saves them."""
    folder.mkdir(parents=True)
    for number, (image, yx) in enumerate(annotated):
        tifffile.imwrite(folder / f"image_{number:02d}.tif", image)
        points = pd.DataFrame({"axis-0": yx[:, 0], "axis-1": yx[:, 1]}).rename_axis("index")
        points.to_csv(folder / f"image_{number:02d}.csv", lineterminator="\n")


MADE: Mapping[str, Callable[[np.random.Generator], Annotated]] = {"dark rings of 20 px": rings, "texture": on_texture}
