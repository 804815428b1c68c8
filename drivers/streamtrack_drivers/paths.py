"""Which paths the sources here read, told by name and first bytes. Nothing heavy is imported to tell."""

from pathlib import Path

TIFF_ENDINGS = (".tif", ".tiff", ".btf")
TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little or big endian, TIFF or BigTIFF."""
NDTIFF_INDEX = "NDTiff.index"
NDTIFF_NAMED = "_NDTiffStack"
"""In the names of all TIFF files of an NDTiff data set."""
BIOIO_ENDINGS = (".nd2", ".czi", ".lif", ".dv", ".r3d", ".sld", ".sldy", ".sldyz")
"""Of formats that a reader of bioio's knows; others are read as ``bioio:PATH``."""
NUMPY_ENDINGS = (".npy", ".npz")
NUMPY_MARK = b"\x93NUM"
ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup")
ADDRESSES = ("http", "https", "s3", "gs")
"""How addresses begin that zarr is read from."""
ZIP_MARK = b"PK\3\4"


def is_address(path: object) -> bool:
    """Return whether this is the address of something on a network, as ``https://...``."""
    return "://" in str(path)


def is_bioio(path: str) -> bool:
    """Return whether this is a file for bioio, by its name: what bioio knows of its content takes seconds to ask."""
    if is_address(path):
        return False
    return Path(path).suffix.lower() in BIOIO_ENDINGS and _first_bytes(Path(path)) not in TIFF_MARKS


def is_numpy(path: str) -> bool:
    """Return whether this is a file by numpy, or would be by its name."""
    file = Path(path)
    if is_address(path):
        return False
    return file.suffix.lower() in NUMPY_ENDINGS or _first_bytes(file) == NUMPY_MARK


def is_tiff(path: str) -> bool:
    """Return whether this is a TIFF file or a folder of them, or would be by its name."""
    file = Path(path)
    if is_address(path):
        return False
    if file.is_dir():
        if is_zarr(path) or any(is_zarr(str(each)) for each in folders(file)):
            return False  # one movie, or several
        inside = (each for folder in (file, *folders(file)) for each in folder.iterdir())
        return any(each.suffix.lower() in TIFF_ENDINGS for each in inside)
    return file.name == NDTIFF_INDEX or file.suffix.lower() in TIFF_ENDINGS or _first_bytes(file) in TIFF_MARKS


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder: acquisitions mostly write one into the one that was named."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def is_zarr(path: str) -> bool:
    """Return whether this is a zarr array or group, in a folder or a zip file, or would be by its name.

    Of addresses all are taken that do not name another format: nothing else is read over the network.
    """
    place = Path(path)
    if is_address(path):
        others = (*TIFF_ENDINGS, *BIOIO_ENDINGS, *NUMPY_ENDINGS)
        return path.partition("://")[0].lower() in ADDRESSES and place.suffix.lower() not in others
    if any(".zarr" in part.lower() for part in place.parts):
        return True
    around = (place, *place.parents)
    if place.is_dir():
        return any((folder / name).is_file() for folder in around for name in ZARR_METADATA)
    file = next((each for each in around if each.is_file()), place)
    return _first_bytes(file) == ZIP_MARK


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(4)
    except (OSError, ValueError):
        return b""
