"""Images whose class is known: a folder of class folders, or simulated particles."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import zoom

from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.simulation.kinds import KINDS, kind_patches

_STRICT = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Patches whose class is known.

    Attributes
    ----------
    patches
        (N, P, P) float32.
    labels
        (N,) int64: index in ``classes``.
    classes
        Names.
    """

    patches: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


class Folder(BaseModel):
    """A folder that holds one folder of TIFF or PNG images for each class."""

    model_config = _STRICT

    kind: Literal["folder"]
    path: Path
    resize: bool = False
    """Each image is scaled to the size of the patches; otherwise its middle is taken, as cut out of a frame."""

    def read(self, size_px: int, seed: int) -> Labelled:
        """Return all images in patches of a size; raises ConfigError."""
        folders = sorted(each for each in self.path.glob("*") if each.is_dir())
        files = [(path, label) for label, each in enumerate(folders) for path in sorted(each.iterdir())]
        files = [(path, label) for path, label in files if path.suffix.lower() in _READERS]
        n_of_class = np.bincount([label for _, label in files], minlength=len(folders))
        if len(folders) < 2 or n_of_class.min() < 4:
            few = ", ".join(f"{each.name}: {n}" for each, n in zip(folders, n_of_class, strict=True))
            raise ConfigError(
                f"path {self.path} has too few images (.tif, .tiff or .png) in its folders ({few or 'none'}): make one "
                "folder for each of two classes or more, with 4 images at least"
            )
        patches = np.stack([self._patch(path, size_px) for path, _ in files])
        return Labelled(patches, np.array([label for _, label in files]), tuple(each.name for each in folders))

    def _patch(self, path: Path, size_px: int) -> NDArray[np.float32]:
        with foreign_errors(ConfigError, f"cannot read the image {path}"):
            image = np.asarray(_READERS[path.suffix.lower()](path), np.float32)
        if image.ndim == 3 and image.shape[-1] in (3, 4):
            image = image[..., :3].mean(-1)
        if image.ndim != 2 or not np.isfinite(image).all():
            raise ConfigError(f"{path} is {image.shape}, or not finite: each file must be one 2-D image")
        return scaled(image, size_px) if self.resize else middle(image, size_px)


class Kinds(BaseModel):
    """Simulated vesicles, comets, doublets, hot pixels and debris."""

    model_config = _STRICT

    kind: Literal["kinds"]
    n: Annotated[int, Field(ge=100)] = 40000
    snr: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (2.0, 12.0)

    def read(self, size_px: int, seed: int) -> Labelled:
        """Return `kind_patches`."""
        patches, kinds = kind_patches(np.random.default_rng(seed), self.n, size_px, self.snr)
        return Labelled(patches[:, 0], kinds, KINDS)


def _png(path: Path) -> NDArray[np.generic]:
    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


_READERS: dict[str, Callable[[Path], NDArray[np.generic]]] = {
    ".tif": tifffile.imread,
    ".tiff": tifffile.imread,
    ".png": _png,
}


def scaled(image: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Return an image (H, W) interpolated to (size_px, size_px)."""
    factors = (size_px / image.shape[0], size_px / image.shape[1])
    return np.asarray(zoom(image, factors, order=1, mode="nearest", grid_mode=True), np.float32)


def middle(image: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Return the middle (size_px, size_px) of an image (H, W); beyond it, the nearest pixel stands in."""
    rows, columns = ((np.arange(size_px) + (side - size_px) // 2).clip(0, side - 1) for side in image.shape)
    patch: NDArray[np.float32] = image[rows[:, None], columns]
    return patch
