"""Masks that were drawn in another program: files of the size of the image, 0 where it does not count."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of an image of (H, W) px a mask says, all that are not 0 or NaN.

    Parameters
    ----------
    path
        TIFF, PNG (where it is neither black nor transparent), ``.npy``, or an array in zarr.
    shape
        Of the image.

    Raises
    ------
    ConfigError
        The file cannot be read, or is of another size.
    """
    try:
        image = _read_image(path, shape)
    except Exception as error:  # readers of damaged files raise all sorts
        raise ConfigError(f"cannot read the mask {path}: {error or type(error).__name__}") from error
    if image.shape != shape:
        raise ConfigError(f"the mask {path} has {size(image.shape)}, the image {size(shape)}: they must be the same")
    if image.dtype.kind not in "biuf":
        raise ConfigError(
            f"the mask {path} holds {image.dtype}: it must hold numbers, 0 where the image does not count"
        )
    return np.asarray((image != 0) & (image == image))


def size(shape: tuple[int, ...]) -> str:
    """Return a shape in words."""
    return " x ".join(map(str, shape)) + " px"


def _read_image(path: Path, shape: tuple[int, int]) -> NDArray[np.generic]:
    """Return the image of a file: shape (H, W), 0 where it is black or transparent.

    What is larger than ``shape`` by far is not read.
    """
    kind = path.suffix.lower()
    if not path.exists():
        raise ConfigError("No such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise ConfigError("it is no ordinary file")
    if kind in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as file:
            _check_size(file.series[0].shape, shape)
            image: NDArray[np.generic] = np.squeeze(file.series[0].asarray())
    elif kind == ".png":
        from matplotlib.image import imread

        image = np.asarray(imread(path))
    elif kind == ".npy":
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_size(stored.shape, shape)
        image = np.squeeze(np.array(stored))
    elif path.is_dir():
        image = _read_zarr(path, shape)
    else:
        raise ConfigError("it must be a .png, .tif, .tiff or .npy file, or an array in zarr")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        colours, opacity = image[..., :3], image[..., 3:]
        image = (colours != 0).any(axis=2) & (opacity != 0).all(axis=2)
    if image.ndim != 2:
        raise ConfigError(f"it has the shape {image.shape}, not that of one image")
    return image


def _check_size(stored: tuple[int, ...], shape: tuple[int, int]) -> None:
    """Raise ConfigError where this is not one image, perhaps with colours and opacity, or one that is too large."""
    sides = tuple(side for side in stored if side != 1)
    if len(sides) > 2 and sides[2:] not in ((3,), (4,)):
        raise ConfigError(f"it has the shape {stored}, not that of one image")
    if math.prod(stored) > 4 * math.prod(shape):
        raise ConfigError(f"it has {size(stored)}, the image {size(shape)}: they must be the same")


def _read_zarr(path: Path, shape: tuple[int, int]) -> NDArray[np.generic]:
    """Return an array in zarr; of an OME-Zarr image the finest level."""
    import zarr

    node: zarr.Array[Any] | zarr.Group | None = zarr.open(path, mode="r", use_consolidated=False)
    if isinstance(node, zarr.Group):
        node = node.get("0")
    if not isinstance(node, zarr.Array):
        raise ConfigError("it holds no array: give the path of one")
    _check_size(node.shape, shape)
    return np.squeeze(np.asarray(node[:]))
