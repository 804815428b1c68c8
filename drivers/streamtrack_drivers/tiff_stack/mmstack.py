"""Micro-Manager's multipage TIFF: how many images were planned, and an index of those that were recorded.

micro-manager.org, "Micro-Manager File Formats". The index is written at the end: a killed acquisition has none, but
each of its pages says which image it is.
"""

import glob
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import tifffile

from streamtrack_drivers.axes import moment_s
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import PagedMovie, squeezed
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Planes, Stack, usual
from streamtrack_drivers.tiff_stack.survey import OVERLAP

_INDEX_HEADER = 54773648
_METADATA = 51123
_SAMPLE = 9
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


def movie(files: FileSet) -> PagedMovie | None:
    """Return the movie of a Micro-Manager stack, None where it does not say which images it has."""
    summary = _metadata(files.first, "Summary")
    planned = [_number(summary.get(_PLANNED[axis])) if isinstance(summary, dict) else 0 for axis in _AXES]
    recorded = list(_recorded(files.first, None))
    if not recorded:
        return None
    positions = {coordinates[1] for coordinates, _ in recorded}
    if len(positions) == 1:  # a file for each position
        planned[1] = 1
    if len(recorded) < math.prod(planned):
        recorded += [each for each in _in_other_files(files) if each[0][1] in positions]
    recorded = [each for each in recorded if _is_believable(files, *each, planned)]
    if len(positions) == 1:
        recorded = [((t, 0, z, c), place) for (t, _, z, c), place in recorded]
    columns = zip(*(coordinates for coordinates, _ in recorded), strict=True)
    shape = [max(size, 1 + max(column)) for size, column in zip(planned, columns, strict=True)]
    places = _places(recorded, shape)
    ended = f"never recorded: the acquisition ended after {len(places)} of {math.prod(shape)} images"

    def plane(index: int) -> Plane:
        if index not in places:
            raise LostPageError(ended)
        place = places[index]
        if place is None:
            raise LostPageError("damaged page: the index has two images in its place")
        return _image(files.get(place[0]), place[1])

    reference = _reference(plane, places)
    axes, full = squeezed(_AXES + "YX", (*shape, reference[1].layout.height, reference[1].layout.width))
    return PagedMovie.of("mmstack", axes, full, Stack(plane, reference, max(places) + 1))


def _image(pages: Pages, directory: int) -> Plane:
    """Return the image with this directory: Micro-Manager puts it between this one and the next."""
    page, following = pages.page(directory), pages.next(directory)
    if page.offsets[0] < directory or 0 < (following or 0) < page.offsets[-1] + page.counts[-1]:
        raise LostPageError(OVERLAP)
    return pages, page


def _metadata(pages: Pages, key: str) -> Any:
    try:
        return tifffile.read_micromanager_metadata(pages.file.filehandle, {key}).get(key)
    except Exception:  # whatever damaged metadata lead to: the pages have some of their own
        return None


def _recorded(pages: Pages, file: str | None) -> Iterator[tuple[Coordinates, Place]]:
    """Yield which images a file has, by its index or by what each page says."""
    index = _metadata(pages, "IndexMap")
    if index is not None:
        for row in index.tolist():
            yield tuple(row[_COLUMN[axis]] for axis in _AXES), (file, row[4])
        return
    for directory in pages.offsets:
        coordinates = _said(pages, directory)
        if coordinates is not None:  # else it is lost: nobody knows which image that was
            yield coordinates, (file, directory)


def _said(pages: Pages, directory: int) -> Coordinates | None:
    """Return which image a page says that it is."""
    try:
        said = json.loads(pages.text(directory, _METADATA) or "")
        return tuple(_number(said.get(_INDEX_OF[axis])) for axis in _AXES)
    except (LostPageError, ValueError, AttributeError, RecursionError):
        return None


def elapsed_s(plane: Plane) -> float | None:
    """Return how long after its start the acquisition had this image; None where its page does not say."""
    pages, page = plane
    try:
        return moment_s(json.loads(pages.text(page.directory, _METADATA) or "").get("ElapsedTime-ms"), "ms")
    except (LostPageError, ValueError, AttributeError, RecursionError):
        return None


def _is_believable(files: FileSet, coordinates: Coordinates, place: Place, planned: Sequence[int]) -> bool:
    """Return whether an image is one of those planned, or at least its page says the same as the index."""
    beyond = [size for index, size in zip(coordinates, planned, strict=True) if index >= size]
    if not beyond:
        return True
    try:
        said = _said(files.get(place[0]), place[1])
    except LostPageError:
        return True
    return said == coordinates or (said is None and max(beyond) <= 1)  # nothing was planned


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


def _reference(plane: Planes, places: Iterable[int]) -> Plane:
    """Return an image that is like most of the first ones; raises SourceError where none can be read."""
    found: list[Plane] = []
    for number in sorted(places):
        with suppress(LostPageError):
            found.append(plane(number))
        if len(found) == _SAMPLE:
            break
    like = usual(page.layout for _, page in found)
    return next(each for each in found if each[1].layout == like)


def _number(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0
