"""How many nuclei there are in squares of images: counted one by one, or by the integral of their density."""

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from benchmarks.detection.nuclei_images import Annotated
from streamtrack.config import PluginConfig
from streamtrack.registry import build

SQUARE_PX, LEAST_NUCLEI, SPREAD_PX = 256, 5, 10.0

Row = dict[str, Any]
Floats = NDArray[np.float64]
InSquare = Callable[[Floats, int, int], float]
"""What is said of places (N, 2 or more) in a square, by its first row and column."""


def errors_of_places(images: Sequence[Annotated], found: Sequence[Floats]) -> Row:
    """Return the errors of counting what was found (N, 2 or more) in each image, and of the density around it."""
    pairs = list(zip(images, found, strict=True))
    counts, densities = (
        [np.array([inside(here, *square) for square in squares(image)]) for image, here in pairs]
        for inside in (n_inside, density_inside)
    )
    return _errors(images, counts, densities)


def _errors(images: Sequence[Annotated], counts: Sequence[Floats], densities: Sequence[Floats]) -> Row:
    """Return the errors of what was said of the squares of each image: how many nuclei, and the density's integral."""
    return {
        "count_error": mean_error(images, n_inside, counts),
        "density_error": mean_error(images, density_inside, densities),
    }


def squares(image: Annotated) -> list[tuple[int, int]]:
    """Return first row and column of the squares of an image that have `LEAST_NUCLEI` or more."""
    corners = product(*(range(0, size - SQUARE_PX + 1, SQUARE_PX) for size in image.pixels.shape))
    return [corner for corner in corners if n_inside(image.nuclei, *corner) >= LEAST_NUCLEI]


def n_inside(places: Floats, top: int, left: int) -> float:
    """Return how many places (N, 2 or more) lie in a square."""
    return float(((places[:, :2] >= (top, left)) & (places[:, :2] < (top + SQUARE_PX, left + SQUARE_PX))).all(1).sum())


def density_inside(places: Floats, top: int, left: int) -> float:
    """Return the integral over a square of the density of places (N, 2 or more)."""
    from_corner = places[:, :2] + 0.5 - (top, left)
    below = erf((SQUARE_PX - from_corner) / (SPREAD_PX * 2**0.5))
    return float((0.5 * (below + erf(from_corner / (SPREAD_PX * 2**0.5)))).prod(1).sum())


def mean_error(images: Sequence[Annotated], truth: InSquare, said: Sequence[Floats]) -> float:
    """Return the mean of |said - true| / true over the squares of all images."""
    true = np.concatenate([[truth(image.nuclei, *square) for square in squares(image)] for image in images])
    return float(np.mean(np.abs(np.concatenate(said) - true) / true)) if len(true) else float("nan")


def score_density(images: Sequence[Annotated]) -> Row:
    """Return how well ``density`` tells the integral over the squares of whole images."""
    said = []
    with closing(_density()) as engine:
        for image in images:
            engine.prepare(image.pixels.shape, image.pixels.dtype.name)
            density = engine.detect(image.pixels, denoise=True)[1]
            said.append(np.array([density[_square(*corner)].sum() for corner in squares(image)]))
    return {"method": "density", **_errors(images, said, said)}


def score_density_alone(images: Sequence[Annotated]) -> Row:
    """Return how well ``density`` counts in squares of which it does not see what is around, and how well it knows."""
    said, off = [], []
    with closing(_density()) as engine:
        engine.prepare((SQUARE_PX, SQUARE_PX), images[0].pixels.dtype.name)
        for image in images:
            cut = [np.ascontiguousarray(image.pixels[_square(*corner)]) for corner in squares(image)]
            values = [engine.detect(each, denoise=False)[0].frame_values for each in cut]
            said.append(np.array([each["count"] for each in values]))
            true = [density_inside(image.nuclei, *corner) for corner in squares(image)]
            off += [abs(each["count"] - n) / each["count_sigma"] for each, n in zip(values, true, strict=True)]
    within = {f"within_{n}_sigma": float(np.mean(np.array(off) <= n)) for n in (1, 2)}
    return {"method": "density, squares alone", **_errors(images, said, said), **within}


def _density() -> Any:
    return build("engines", PluginConfig.model_validate({"kind": "density", "threads": 1})).instance


def _square(top: int, left: int) -> tuple[slice, slice]:
    return slice(top, top + SQUARE_PX), slice(left, left + SQUARE_PX)
