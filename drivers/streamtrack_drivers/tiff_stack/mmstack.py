"""Micro-Manager's multipage TIFF: how many images were planned, and an index of those that were recorded.

micro-manager.org, "Micro-Manager File Formats". The index is written at the end: a killed acquisition has none, but
each of its pages says which image it is.
"""

import glob
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import tifffile

from streamtrack_drivers import axes
from streamtrack_drivers.axes import duration_s, length_um, moment_s
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import PagedMovie, squeezed
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Planes, Stack, usual
from streamtrack_drivers.tiff_stack.survey import OVERLAP

MMSTACK_NAMED = "_MMStack"
"""In the names of all files of an acquisition, behind its own name."""

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
    return pages.uint32(8) == _INDEX_HEADER


def movie(files: FileSet, *, every_position: bool) -> PagedMovie | None:
    """Return the movie of a Micro-Manager stack, None where it does not say which images it has.

    Parameters
    ----------
    every_position
        Whether files of other positions belong to it.
    """
    summary = header(files.first, "Summary")
    planned = [_number(summary.get(_PLANNED[axis])) if isinstance(summary, dict) else 0 for axis in _AXES]
    recorded = list(_recorded(files.first, None))
    if not recorded:
        return None
    positions = {coordinates[1] for coordinates, _ in recorded}
    if len(positions) == 1 and not every_position:  # a file for each position
        planned[1] = 1
    if len(recorded) < math.prod(planned):
        recorded += [each for each in _in_other_files(files) if every_position or each[0][1] in positions]
    positions = {coordinates[1] for coordinates, _ in recorded}
    planned[1] = min(planned[1], len(positions)) if len(positions) == 1 else planned[1]
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


def header(pages: Pages, key: str) -> Any:
    """Return what the file's header says under this key, as of the whole acquisition; None where it does not."""
    try:
        return tifffile.read_micromanager_metadata(pages.file.filehandle, {key}).get(key)
    except Exception:  # whatever damaged metadata lead to: the pages have some of their own
        return None


def _recorded(pages: Pages, file: str | None) -> Iterator[tuple[Coordinates, Place]]:
    """Yield which images a file has, by its index or by what each page says."""
    index = header(pages, "IndexMap")
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
    said = of_image(pages, directory)
    return tuple(_number(said.get(_INDEX_OF[axis])) for axis in _AXES) if said is not None else None


def of_image(pages: Pages, directory: int) -> dict[str, Any] | None:
    """Return what a page says of its image; None where it says nothing."""
    try:
        said = json.loads(pages.text(directory, _METADATA) or "")
    except (LostPageError, ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def elapsed_s(plane: Plane) -> float | None:
    """Return how long after its start the acquisition had this image; None where its page does not say."""
    pages, page = plane
    return moment_s((of_image(pages, page.directory) or {}).get("ElapsedTime-ms"), "ms")


def place_um(plane: Plane) -> tuple[float | None, float | None, float | None]:
    """Return where the stage was, z, y, x, as the page of an image says it."""
    pages, page = plane
    known = of_image(pages, page.directory) or {}
    said = (known.get(f"{axis}PositionUm", known.get(f"{axis}Position_um")) for axis in "ZYX")
    z, y, x = (axes.place_um(place, "um") for place in said)
    return z, y, x


def position_names(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the stage positions, in versions 2 and 1.4; none where an acquisition has none."""
    found = summary.get("StagePositions") or summary.get("InitialPositionList") or []
    listed = found if isinstance(found, list) else []
    return [str(each.get("Label") or "") for each in listed if isinstance(each, dict)]


def pixel_size_um(said: Mapping[str, Any]) -> float | None:
    """Return the side of a pixel that the metadata of an acquisition or image have, by any of its names."""
    return length_um(said.get("PixelSize_um", said.get("PixelSizeUm")), "um")


def frame_interval_s(said: Mapping[str, Any]) -> float | None:
    """Return the interval that the metadata of an acquisition plan; None where frames come as fast as they can."""
    return duration_s(said.get("Interval_ms"), "ms")


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


def other_files(files: FileSet) -> list[str]:
    """Return the names of the other files of the acquisition; Micro-Manager begins a new one every 4 GB."""
    prefix, is_set, _ = files.name.partition(MMSTACK_NAMED)
    found = files.folder.glob(f"{glob.escape(prefix)}{MMSTACK_NAMED}*.tif") if is_set else ()
    return sorted(path.name for path in found if path.name != files.name)


def _in_other_files(files: FileSet) -> Iterator[tuple[Coordinates, Place]]:
    for name in other_files(files):
        with suppress(LostPageError):
            yield from _recorded(files.get(name), name)


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
