"""Images of a DeepTrack 2 pipeline of one's own: optics, particles and noise that nothing here simulates."""

import random
import runpy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.settings import NotNegative
from streamtrack_engines.training_data.truth import Truth, joined

Picture = tuple[NDArray[np.float32], NDArray[np.float32]]
"""An image (H, W), counts, and its particles (N, 2): y, x, px."""

_LOOKED_AT = 8
_LEAST_SPAN = 50.0
_SPAN = 250.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepTrack:
    """Crops of images that a pipeline of DeepTrack 2 makes (Midtvedt et al., 2021, doi:10.1063/5.0034891).

    ``path`` is a file of Python, which is run; the function ``pipeline`` in it returns ``image & sample``: a feature
    whose first result is the image, and whose others are the scatterers in it. So that a training can go on as if it
    had not been interrupted, draw with ``np.random`` or ``random``: both are seeded for each image.

    A crop that is larger than the image is put together from several. Frames before the current one are the same
    image. Images whose values span less than 50, such as those between 0 and 1, are multiplied by one factor.

    Parameters
    ----------
    path
        The file, from the recipe's folder.
    pipeline
        Name of the function in it that returns the feature.
    beyond_px
        How far beyond a crop particles are told of, px.
    """

    path: Path
    pipeline: str = "pipeline"
    beyond_px: NotNegative = 2.0
    scale: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Run the file and look at some images, so that mistakes show at once."""
        with _seeded(np.random.default_rng(0)):
            spans = [float(np.ptp(_draw(self.path, self.pipeline)[0])) for _ in range(_LOOKED_AT)]
        if max(spans) == 0:
            raise ConfigError(f"{self.path}: {_LOOKED_AT} images of {self.pipeline} are each of one grey level")
        object.__setattr__(self, "scale", 1.0 if max(spans) >= _LEAST_SPAN else _SPAN / max(spans))

    def batch(self, rng: np.random.Generator, n: int, size_px: int, n_before: int) -> Truth:
        """Return ``n`` crops, each of images of its own."""
        return joined([self._crop(rng, size_px, n_before) for _ in range(n)])

    def held_out(self, seed: int, n: int, size_px: int, n_before: int) -> Iterator[tuple[str, Truth]]:
        """Yield crops like those that are learnt from."""
        yield self.pipeline, self.batch(np.random.default_rng(seed), n, size_px, n_before)

    def example(self, n_frames: int, height: int, width: int) -> NDArray[np.float32]:
        """Return a movie of one crop, the one of eight with the most particles."""
        rng = np.random.default_rng(0)
        crops = [self.batch(rng, 1, max(height, width), n_frames - 1) for _ in range(_LOOKED_AT)]
        best = max(crops, key=lambda crop: len(crop.points))
        return np.ascontiguousarray(best.noisy[0, :, :height, :width])

    def _crop(self, rng: np.random.Generator, size_px: int, n_before: int) -> Truth:
        with _seeded(rng):
            image, places = _mosaic(lambda: _draw(self.path, self.pipeline), size_px)
        top, left = (int(rng.integers(0, extent - size_px + 1)) for extent in image.shape)
        part = image[top : top + size_px, left : left + size_px] * np.float32(self.scale)
        places = places - np.array((top, left), np.float32)
        places = places[((places >= -self.beyond_px) & (places <= size_px - 1 + self.beyond_px)).all(axis=1)]
        points = np.column_stack((np.zeros(len(places)), places)).astype(np.float32)
        return Truth(np.repeat(part[None, None], n_before + 1, axis=1), points)


def _mosaic(draw: Callable[[], Picture], least_px: int) -> Picture:
    """Return images side by side, of ``least_px`` squared or more, with all their particles."""
    image, places = draw()
    height, width = image.shape
    rows, columns = ceil(least_px / height), ceil(least_px / width)
    whole = np.empty((rows * height, columns * width), np.float32)
    found = []
    for row, column in np.ndindex(rows, columns):
        if row or column:
            image, places = draw()
        whole[row * height :, column * width :][:height, :width] = image
        inside = (places >= -0.5).all(axis=1) & (places < np.subtract(image.shape, 0.5)).all(axis=1)
        found.append(places[inside | (rows * columns == 1)] + np.array((row * height, column * width), np.float32))
    return whole, np.concatenate(found)


def _draw(path: Path, name: str) -> Picture:
    """Return an image and its particles; raises ConfigError where the pipeline gives something else, or fails."""
    where = f"{path}: {name}"
    with foreign_errors(ConfigError, where):
        made = _feature(path, name).update().resolve()
    first, *others = made if isinstance(made, list | tuple) else [made]
    pixels = np.asarray(first)
    pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if pixels.ndim != 2 or np.iscomplexobj(pixels):
        kind = "a complex field: take its modulus or phase" if np.iscomplexobj(pixels) else f"of shape {pixels.shape}"
        raise ConfigError(f"{where} begins with an image that is {kind}; one of real numbers, (H, W) or (H, W, 1), is")
    if not np.isfinite(pixels).all():
        raise ConfigError(f"{where}: an image has pixels that are no numbers")
    return pixels.astype(np.float32), _places(others, where)


def _places(scatterers: list[Any], where: str) -> NDArray[np.float32]:
    """Return y and x, px, of what was put into the sample."""
    places = []
    for each in scatterers:
        position = getattr(each, "properties", {}).get("position")
        if position is None:
            cure = "have it return image & sample, the same sample that the image is made of"
            raise ConfigError(f"{where} returns {type(each).__name__} without a position: {cure}")
        places.append(np.asarray(position, np.float32)[:2])
    return np.reshape(np.asarray(places, np.float32), (-1, 2))


@lru_cache(maxsize=4)
def _feature(path: Path, name: str) -> Any:
    if find_spec("deeptrack") is None:
        raise ConfigError("training data 'deeptrack': deeptrack is not installed: pip install \".[deeptrack]\"")
    with foreign_errors(ConfigError, str(path)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deeptrack names what it can do without
        made = runpy.run_path(str(path))
    if not callable(made.get(name)):
        raise ConfigError(f"{path} has no function {name}: have it return image & sample, or set pipeline in [data]")
    with foreign_errors(ConfigError, f"{path}: {name}"):
        feature = made[name]()
    if not hasattr(feature, "resolve"):
        raise ConfigError(f"{path}: {name} returns {type(feature).__name__}, not a feature of DeepTrack 2")
    return feature


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    """Within, what the pipeline draws depends on ``rng`` alone; what others draw afterwards does not depend on it."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    np.random.seed(int(rng.integers(2**32)))
    random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
