"""Micro-Manager's multipage TIFF: how many images were planned, and an index of those that were recorded.

micro-manager.org, "Micro-Manager File Formats". The index is written at the end: a killed acquisition has none, but
each of its pages says which image it is.
"""

import glob
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import tifffile

from streamtrack.errors import SourceError
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import Movie, squeezed
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Planes, Stack

_INDEX_HEADER = 54773648
_METADATA = 51123
_AXES = "TPZC"
_PLANNED = {"T": "Frames", "P": "Positions", "Z": "Slices", "C": "Channels"}
_INDEX_OF = {"T": "FrameIndex", "P": "PositionIndex", "Z": "SliceIndex", "C": "ChannelIndex"}
_COLUMN = {"C": 0, "Z": 1, "T": 2, "P": 3}

Coordinates = tuple[int, ...]
"""Of an image along the axes T, P, Z, C."""
Place = tuple[str | None, int]
"""Of an image: its file (None: the one that was named) and the offset of its directory."""


def is_mmstack(pages: Pages) -> bool:
    """Return whether the file has Micro-Manager's header."""
    pages.file.filehandle.seek(8)
    header = pages.file.filehandle.read(4)
    return int.from_bytes(header, "little" if pages.file.byteorder == "<" else "big") == _INDEX_HEADER


def movie(files: FileSet) -> Movie | None:
    """Return the movie of a Micro-Manager stack, None where it does not say which images it has."""
    metadata = _metadata(files.first, {"Summary"})
    planned = metadata.get("Summary")
    planned = planned if isinstance(planned, dict) else {}
    recorded = list(_recorded(files.first, None))
    if not recorded:
        return None
    positions = {coordinates[1] for coordinates, _ in recorded}
    sizes = [max(_number(planned.get(_PLANNED[axis])), 1) for axis in _AXES]
    if len(positions) == 1:  # a file for each position
        sizes[1] = 1
    if len(recorded) < math.prod(sizes):
        recorded += [each for each in _in_other_files(files) if each[0][1] in positions]
    if len(positions) == 1:
        recorded = [((t, 0, z, c), place) for (t, _, z, c), place in recorded]
    columns = zip(*(coordinates for coordinates, _ in recorded), strict=True)
    shape = [max(size, 1 + max(column)) for size, column in zip(sizes, columns, strict=True)]
    places, n = _places(recorded, shape), math.prod(shape)
    ended = f"never recorded: the acquisition ended after {len(places)} of {n} images"

    def plane(index: int) -> Plane:
        if index not in places:
            raise LostPageError(ended)
        place = places[index]
        if place is None:
            raise LostPageError("damaged page: the index has two images in its place")
        pages = files.get(place[0])
        return pages, pages.page(place[1])

    planes = Stack(plane, _reference(plane, places, planned), max(places) + 1)
    layout = planes.reference[1].layout
    axes, full = squeezed(_AXES + "YX", (*shape, layout.height, layout.width))
    return Movie.of("mmstack", axes, full, planes)


def _metadata(pages: Pages, keys: set[str]) -> dict[str, Any]:
    try:
        return dict(tifffile.read_micromanager_metadata(pages.file.filehandle, keys))
    except Exception:  # whatever damaged metadata lead to: the pages have some of their own
        return {}


def _recorded(pages: Pages, file: str | None) -> Iterator[tuple[Coordinates, Place]]:
    """Yield which images a file has, by its index or by what each page says."""
    index = _metadata(pages, {"IndexMap"}).get("IndexMap")
    if index is not None:
        for row in index.tolist():
            yield tuple(row[_COLUMN[axis]] for axis in _AXES), (file, row[4])
        return
    for directory in pages.offsets:
        try:
            said = json.loads(pages.text(directory, _METADATA) or "")
            yield tuple(_number(said.get(_INDEX_OF[axis])) for axis in _AXES), (file, directory)
        except (LostPageError, ValueError, AttributeError, RecursionError):
            continue  # lost: nobody knows which image that was


def _in_other_files(files: FileSet) -> Iterator[tuple[Coordinates, Place]]:
    """Yield the images in the other files of the acquisition; Micro-Manager begins a new one every 4 GB."""
    prefix, is_set, _ = files.name.partition("_MMStack")
    for path in sorted(files.folder.glob(f"{glob.escape(prefix)}_MMStack*.tif")) if is_set else ():
        if path.name != files.name:
            try:
                yield from _recorded(files.get(path.name), path.name)
            except LostPageError:
                continue


def _places(recorded: list[tuple[Coordinates, Place]], shape: list[int]) -> dict[int, Place | None]:
    """Return where each image is by its number; None where two have the same number or the same place."""
    places: dict[int, Place | None] = {}
    taken: dict[Place, int] = {}
    for coordinates, place in recorded:
        number = 0
        for size, index in zip(shape, coordinates, strict=True):
            number = number * size + index
        other = taken.setdefault(place, number)
        places[number] = None if number in places or other != number else place
        if other != number:
            places[other] = None
    return places


def _reference(plane: Planes, places: Mapping[int, Any], planned: Mapping[str, Any]) -> Plane:
    """Return the first image that can be read, and has the size that was planned if there is one."""
    cause, other = "holds no image", None
    for number in sorted(places):
        try:
            found = plane(number)
        except LostPageError as error:
            cause = str(error)
            continue
        layout = found[1].layout
        if (planned.get("Width", layout.width), planned.get("Height", layout.height)) == (layout.width, layout.height):
            return found
        other = other or found
    if other is None:
        raise SourceError(f"holds no image that can be read: {cause}")
    return other


def _number(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
