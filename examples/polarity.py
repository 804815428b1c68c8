"""Is RNA where a cell moves to? ``python examples/polarity.py RUN/detections.parquet cells.tif --wound 250 900``.

The wound index of DeepSpot's paper (Bouilhol et al., Biological Imaging 2 (2022) e4, section 4.5) on the spots of a
run. Around its middle, that of its nucleus where ``--nuclei`` gives these, each cell has three sections of 120 degrees;
one looks at the wound. How many spots per pixel are there, and how many in the two others? The index is how much more
often the former is greater, over all cells: from 1, always, to -1, never; 0 where the wound does not matter. It comes
with the median and the deviation of 100 bootstraps, as cells are few.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from streamtrack.formats.tables import read_tracks

SECTIONS = 3
BOOTSTRAPS = 100


def main() -> None:
    """Print the densities of all cells, and the index."""
    parser = argparse.ArgumentParser(description="Wound index of the spots of a run.")
    parser.add_argument("detections", type=Path, help="detections.parquet of a run, or another table of spots")
    parser.add_argument("cells", type=Path, help="image with the number of its cell in each pixel, 0 beside them")
    parser.add_argument("--wound", type=float, nargs=2, required=True, metavar=("Y", "X"), help="where it is, px")
    parser.add_argument("--nuclei", type=Path, help="image, 0 beside nuclei: spots in them do not count")
    arguments = parser.parse_args()
    spots = read_tracks(arguments.detections)[["y", "x"]].to_numpy()
    cells = tifffile.imread(arguments.cells)
    nuclei = np.zeros(cells.shape, bool) if arguments.nuclei is None else tifffile.imread(arguments.nuclei) != 0

    signs = []
    for cell in np.unique(cells[cells > 0]):
        densities = section_densities(spots, cells == cell, nuclei, arguments.wound)
        print(f"cell {cell}: {densities[0]:.3g} spots/px to the wound, {densities[1]:.3g} elsewhere")
        signs.append(np.sign(densities[0] - densities[1]))
    if not signs:
        raise SystemExit(f"{arguments.cells} holds no cell: all of its pixels are 0")
    estimates = np.random.default_rng(0).choice(signs, (BOOTSTRAPS, len(signs))).mean(1)
    median = np.median(estimates)
    deviation = np.sqrt(np.mean((estimates - median) ** 2))
    print(f"wound index of {len(signs)} cells: {np.mean(signs):.2f}")
    print(f"{BOOTSTRAPS} bootstraps: median {median:.2f}, deviation {deviation:.2f}")


def section_densities(
    spots: NDArray[np.float64], cell: NDArray[np.bool_], nuclei: NDArray[np.bool_], wound: tuple[float, float]
) -> tuple[float, float]:
    """Return spots (N, 2) per pixel of a cell's cytoplasm (H, W) in the section to the wound, and in the others."""
    middle = np.argwhere(cell & nuclei if (cell & nuclei).any() else cell).mean(0)
    cytoplasm = cell & ~nuclei
    pixel = np.rint(spots).astype(int)
    inside = spots[((pixel >= 0) & (pixel < cell.shape)).all(1)]
    inside = inside[cytoplasm[tuple(np.rint(inside).astype(int).T)]]
    to_wound = [is_to(places - middle, np.subtract(wound, middle)) for places in (inside, np.argwhere(cytoplasm))]
    here, there = (np.bincount(each, minlength=2) for each in to_wound)
    density = here / np.maximum(there, 1)
    return float(density[1]), float(density[0])


def is_to(places: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which places (N, 2) around a middle lie in the section whose axis is a direction."""
    angle = np.arctan2(*places.T) - np.arctan2(*direction)
    return np.abs((angle + np.pi) % (2 * np.pi) - np.pi) < np.pi / SECTIONS


if __name__ == "__main__":
    main()
