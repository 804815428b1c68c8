"""Movies of which each image is a TIFF file of its own, with numbers in the names."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import NamedTuple

from streamtrack.errors import SourceError
from streamtrack_drivers.paths import NDTIFF_INDEX, NDTIFF_NAMED, TIFF_ENDINGS, folders
from streamtrack_drivers.tiff_stack import ndtiff, ome
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.mmstack import MMSTACK_NAMED
from streamtrack_drivers.tiff_stack.movies import PagedMovie
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Stack

_LABELS = {"t": "T", "time": "T", "frame": "T", "c": "C", "ch": "C", "channel": "C", "z": "Z", "slice": "Z"}
_LABELS |= {"p": "P", "pos": "P", "position": "P", "xy": "P", "s": "P"}
_LABEL = re.compile(rf"(?:^|[^a-z])({'|'.join(_LABELS)})[-_=]*$")
_FULL_RESOLUTION = "Full resolution"
"""Beside the smaller copies that NDTiff has of tiled images."""
_MOST_LISTED = 10
_MOST_GAPS = 10
"""Times as many numbers as files: more are no numbers of frames, but dates."""


class NumberedFiles(NamedTuple):
    """The files of a folder by their place along the axes.

    Attributes
    ----------
    places
        Names of the files by their number among all images of the shape.
    remark
        What has to be said of the numbers.
    """

    axes: str
    shape: tuple[int, ...]
    places: Mapping[int, str]
    remark: str = ""

    def movie(self, files: FileSet) -> PagedMovie:
        """Return the movie; ``files`` is that of any of the images."""
        if len(files.first.offsets) > 1 and not all(map(files.first.is_reduced, files.first.offsets[1:])):
            raise SourceError(f"is a folder of stacks ({files.name} has several images): give one of its files")

        def plane(index: int) -> Plane:
            if index not in self.places:
                raise LostPageError("missing file: its number is left out in the folder")
            name = self.places[index]
            pages = files.get(None if name == files.name else name)
            return pages, pages.page(pages.first)

        reference = plane(next(number for number, name in self.places.items() if name == files.name))
        layout = reference[1].layout
        shape = (*self.shape, layout.height, layout.width)
        return PagedMovie.of("folder", self.axes + "YX", shape, Stack(plane, reference, len(self.places)))


def open_folder(folder: Path) -> tuple[FileSet, NumberedFiles | None]:
    """Open the images of a folder; a single file is taken as it is. Raises SourceError."""
    folder = _with_images(folder)
    names = _images(folder)
    if (folder / NDTIFF_INDEX).is_file():
        return FileSet(folder / ndtiff.first_file(folder)), None
    if len(names) == 1:
        return FileSet(folder / names[0]), None
    if any(NDTIFF_NAMED in name for name in names):
        raise SourceError(f"is a folder of NDTiff without its {NDTIFF_INDEX}: which image is which is unknown")
    if any(MMSTACK_NAMED in name for name in names):
        return FileSet(folder / _one_acquisition(names)), None
    numbered = _numbered(names)
    for name in numbered.places.values():
        with suppress(SourceError):
            files = FileSet(folder / name)
            return files, None if _names_all(files, names) else numbered
    raise SourceError(f"holds {len(names)} TIFF files, of which none can be opened")


def _with_images(folder: Path) -> Path:
    """Return the folder that has the images, be it one in the one that was named; raises SourceError."""
    if _images(folder) or (folder / NDTIFF_INDEX).is_file():
        return folder
    inside = [each for each in folders(folder) if _images(each) or (each / NDTIFF_INDEX).is_file()]
    inside = [each for each in inside if each.name == _FULL_RESOLUTION] or inside
    if len(inside) > 1:
        listing = ", ".join(each.name for each in inside[:_MOST_LISTED]) + ", ..." * (len(inside) > _MOST_LISTED)
        raise SourceError(f"holds {len(inside)} folders of images: give one of them, {listing}")
    if not inside:
        raise SourceError("is a folder, not a TIFF file: give one file, or use the source 'zarr'")
    return inside[0]


def _images(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if _is_image(each))


def _one_acquisition(names: Sequence[str]) -> str:
    """Return the first file of the only acquisition by Micro-Manager among the files; raises SourceError."""
    prefixes = sorted({name.partition(MMSTACK_NAMED)[0] for name in names})
    if len(prefixes) > 1:
        listing = ", ".join(prefixes[:_MOST_LISTED]) + ", ..." * (len(prefixes) > _MOST_LISTED)
        raise SourceError(f"holds {len(prefixes)} acquisitions by Micro-Manager ({listing}): give a file of one")
    return min(names, key=len)


def _names_all(files: FileSet, names: Sequence[str]) -> bool:
    """Return whether the OME-XML of a file has all files of the folder, as where each has a position."""
    text = next((text for text in files.first.descriptions(files.first.first) if text and ome.is_ome(text)), None)
    with suppress(SourceError):
        images = ome.read_images(text or "", files.name)
        return {files.name} | {block.file for each in images for block in each.blocks} >= set(names)
    return False


def _is_image(path: Path) -> bool:
    named = path.suffix.lower() in TIFF_ENDINGS and not path.name.startswith(".")
    return named and (path.is_file() or path.is_symlink())  # one that leads nowhere is a lost frame


def _numbered(names: Sequence[str]) -> NumberedFiles:
    """Tell axes by the numbers that differ among the names, and what stands before them."""
    parts = {name: re.split(r"(\d+)", name) for name in names}
    texts = {tuple(part.lower() for part in split[::2]) for split in parts.values()}
    if len(texts) > 1:
        example = next(name for name in names if parts[name][::2] != parts[names[0]][::2])
        raise SourceError(
            f"holds files of several kinds ({names[0]}, {example}): put one kind into a folder of its own"
        )
    numbers = {name: tuple(map(int, split[1::2])) for name, split in parts.items()}
    columns = list(zip(*numbers.values(), strict=True))
    varying = [column for column, values in enumerate(columns) if len(set(values)) > 1]
    axes = _axes([parts[names[0]][2 * column].lower() for column in varying], names)
    indices = [_indices(axis, columns[column]) for axis, column in zip(axes, varying, strict=True)]
    shape = tuple(1 + max(index.values()) for index in indices)
    places: dict[int, str] = {}
    for name, number in numbers.items():
        at = [index[number[column]] for index, column in zip(indices, varying, strict=True)]
        place = reduce(lambda before, pair: before * pair[0] + pair[1], zip(shape, at, strict=True), 0)
        if place in places:
            raise SourceError(f"has two files for one image ({places[place]}, {name}): remove one")
        places[place] = name
    counted = [columns[column] for axis, column in zip(axes, varying, strict=True) if axis == "T"]
    remark = "".join(map(_no_gaps, counted))
    return NumberedFiles(axes, shape, dict(sorted(places.items())), remark)


def _axes(before: Sequence[str], names: Sequence[str]) -> str:
    """Return the axes by what stands before the numbers; a single number without a label counts time points."""
    labels = [found[1] if (found := _LABEL.search(text)) else "" for text in before]
    axes = ["T"] if labels == [""] else [_LABELS.get(label, "") for label in labels]
    if "" in axes or len(set(axes)) < len(axes):
        raise SourceError(
            f"names files by several numbers ({names[0]}, {names[-1]}), and which one is the time is unknown: "
            "put t, c, z or p before each, or one position and channel into a folder of its own"
        )
    return "".join(axes)


def _indices(axis: str, values: Sequence[int]) -> dict[int, int]:
    """Return the index of each number: gaps among time points are lost frames, elsewhere there are none."""
    known = sorted(set(values))
    if axis == "T" and not _no_gaps(values):
        step = _step(known)
        return {value: (value - known[0]) // step for value in known}
    return {value: index for index, value in enumerate(known)}


def _step(known: Sequence[int]) -> int:
    return math.gcd(*(value - known[0] for value in known)) or 1


def _no_gaps(values: Sequence[int]) -> str:
    """Return what to say where so many numbers are left out that they are none of frames; empty elsewhere."""
    known = sorted(set(values))
    if (known[-1] - known[0]) // _step(known) < _MOST_GAPS * len(known):
        return ""
    return (
        f"the files are numbered from {known[0]} to {known[-1]}, too far apart for frames: "
        f"the {len(known)} are taken in their order, and none for lost"
    )
