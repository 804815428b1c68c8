"""Masks that were drawn in another program: files of the size of the image, 0 where it does not count."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which pixels of an image of (H, W) px a mask says, all that are not 0.

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
        image = _read_image(path)
    except Exception as error:  # readers of damaged files raise all sorts
        raise ConfigError(f"cannot read the mask {path}: {error or type(error).__name__}") from error
    if image.shape != shape:
        raise ConfigError(f"the mask {path} has {size(image.shape)}, the image {size(shape)}: they must be the same")
    return np.asarray(image != 0)


def size(shape: tuple[int, ...]) -> str:
    """Return a shape in words."""
    return " x ".join(map(str, shape)) + " px"


def _read_image(path: Path) -> NDArray[np.generic]:
    """Return the image of a file: shape (H, W), 0 where it is black or transparent."""
    kind = path.suffix.lower()
    if not path.exists():
        raise ConfigError("No such file or folder")
    if kind in (".tif", ".tiff"):
        import tifffile

        image: NDArray[np.generic] = np.squeeze(tifffile.imread(path))
    elif kind == ".png":
        from matplotlib.image import imread

        image = np.asarray(imread(path))
    elif kind == ".npy":
        image = np.squeeze(np.load(path))
    elif path.is_dir():
        image = _read_zarr(path)
    else:
        raise ConfigError("it must be a .png, .tif, .tiff or .npy file, or an array in zarr")
    if image.ndim == 3 and image.shape[2] in (3, 4):
        colours, opacity = image[..., :3], image[..., 3:]
        image = (colours != 0).any(axis=2) & (opacity != 0).all(axis=2)
    if image.ndim != 2:
        raise ConfigError(f"it has the shape {image.shape}, not that of one image")
    return image


def _read_zarr(path: Path) -> NDArray[np.generic]:
    """Return an array in zarr; of an OME-Zarr image the finest level."""
    import zarr

    node = zarr.open(path, mode="r", use_consolidated=False)
    if isinstance(node, zarr.Group):
        node = node["0"]
    if not isinstance(node, zarr.Array):
        raise ConfigError("it holds no array: give the path of one")
    return np.squeeze(np.asarray(node[:]))
