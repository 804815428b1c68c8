"""NDTiff, the data sets of pycromanager and of newer Micro-Manager: TIFF files, and an index of the images in them.

github.com/micro-manager/NDStorage, "NDTiff Format Specification", versions 2 and 3. The index is written along with the
images, so that one that breaks off is all that was known when the acquisition was killed, or copied.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from streamtrack.errors import SourceError
from streamtrack_drivers.paths import NDTIFF_INDEX, NDTIFF_NAMED
from streamtrack_drivers.tiff_stack import mmstack
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import PagedMovie, squeezed
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import CUT_OFF, LostPageError, Page
from streamtrack_drivers.tiff_stack.planes import Plane, Stack

_MARK, _MARK_AT = 483729, 8
_LETTERS = {"time": "T", "channel": "C", "z": "Z"}
_OF_IMAGE = struct.Struct("<8I")
_LONGEST = 2**16
_8_BIT, _RGB = (0, 2), 2
"""Types of pixels: grey and RGB; all others have 16."""

Value = int | float | str
Along = dict[Value | None, int]
"""Which index along an axis each of its values is."""


class Entry(NamedTuple):
    """An image in the index: where it is along the axes, its pixels in a file, and the bits of each.

    Attributes
    ----------
    shape
        (H, W); None for what is no grey image.
    metadata
        Offset and length of what is said of the image, as JSON.
    """

    axes: Mapping[str, Value]
    file: str
    offset: int
    bits: int
    shape: tuple[int, int] | None
    metadata: tuple[int, int]


class NDTiff(NamedTuple):
    """A data set as a movie.

    Attributes
    ----------
    channel_names, position_names
        Empty where they have none. Positions are all that is neither time, channel nor z, rows and columns as well.
    pixel_size_um, frame_interval_s
        None where the metadata do not say them.
    """

    movie: PagedMovie
    channel_names: Sequence[str]
    position_names: Sequence[str]
    pixel_size_um: float | None
    frame_interval_s: float | None


def is_ndtiff(pages: Pages) -> bool:
    """Return whether the file has the header of a data set's files."""
    return pages.uint32(_MARK_AT) == _MARK


def belongs_to_data_set(files: FileSet) -> bool:
    """Return whether an index lies beside a file that is of it by its header, or by its name where that is damaged."""
    return (files.folder / NDTIFF_INDEX).is_file() and (NDTIFF_NAMED in files.name or is_ndtiff(files.first))


def first_file(folder: Path) -> str:
    """Return the name of the first file of the data set in a folder; raises SourceError where none is there."""
    named = list(dict.fromkeys(entry.file for entry in read_index(folder)[0]))
    there = [name for name in named if (folder / name).is_file()]
    if not there:
        missing = f"none of its files is there ({named[0]})" if named else "it names no image"
        raise SourceError(f"its {NDTIFF_INDEX} cannot be used: {missing}")
    return there[0]


def read_index(folder: Path) -> tuple[list[Entry], bool]:
    """Return the images that the index of a folder names, and whether it is whole."""
    if not (folder / NDTIFF_INDEX).is_file():
        cure = f"copy {NDTIFF_INDEX} to it, or pass --axes TYX if its pages are time points"
        raise SourceError(f"is of an NDTiff data set whose index is missing, so that nobody knows its images: {cure}")
    entries, _, is_whole = entries_in((folder / NDTIFF_INDEX).read_bytes())
    return entries, is_whole


def entries_in(data: bytes) -> tuple[list[Entry], int, bool]:
    """Return the images in a part of an index, where the last one's entry ends, and whether nothing comes after it."""
    at, entries = 0, list[Entry]()
    while data[at : at + 4] not in (b"", b"\0\0\0\0"):  # zeros: room that was never written to
        try:
            entry, end = _entry(data, at)
        except (struct.error, ValueError, RecursionError):
            return entries, at, False
        entries.append(entry)
        at = end
    return entries, at, True


def _entry(data: bytes, at: int) -> tuple[Entry, int]:
    axes, at = _text(data, at)
    name, at = _text(data, at)
    offset, width, height, pixel_type, compression, *metadata, _ = _OF_IMAGE.unpack_from(data, at)
    is_grey = not compression and pixel_type != _RGB
    shape, bits = (height, width) if is_grey else None, 16 - 8 * (pixel_type in _8_BIT)
    entry = Entry(_values(json.loads(axes)), Path(name).name, offset, bits, shape, (metadata[0], metadata[1]))
    return entry, at + _OF_IMAGE.size


def _text(data: bytes, at: int) -> tuple[str, int]:
    """Return a text that stands behind its length, and where it ends; raises ValueError or struct.error."""
    (length,) = struct.unpack_from("<I", data, at)
    text = data[at + 4 : at + 4 + length]
    if len(text) < length or length > _LONGEST:
        raise ValueError("cut off")
    return text.decode(), at + 4 + length


def _values(axes: Any) -> Mapping[str, Value]:
    if not isinstance(axes, dict) or not all(type(value) in (int, float, str) for value in axes.values()):
        raise ValueError(f"axes {axes}")
    return axes


def open_movie(files: FileSet) -> NDTiff:
    """Return the movie of a data set, ``files`` being that of any of its files; raises SourceError."""
    entries, is_whole = read_index(files.folder)
    entries = list({frozenset(entry.axes.items()): entry for entry in entries}.values())  # written anew: the last
    if not entries:
        raise SourceError(f"its {NDTIFF_INDEX} names no image")
    along, names = _axes(entries)
    shape = [max(indices.values()) + 1 for indices in along.values()]
    places = {_number(entry, along, shape): entry for entry in entries}
    images = _Images(files, entries)
    reference = images.reference()

    def plane(number: int) -> Plane:
        if number not in places:
            raise LostPageError(f"never recorded: {NDTIFF_INDEX} does not name it")
        return images.plane(places[number])

    layout = reference[1].layout
    axes, full = squeezed("TPZCYX", (*shape, layout.height, layout.width))
    missing = images.left_out() if is_whole else f"{NDTIFF_INDEX} is cut off: what it named after that is unknown"
    movie = PagedMovie.of("ndtiff", axes, full, Stack(plane, reference, max(places) + 1), missing)
    said = [mmstack.header(files.first, "Summary"), mmstack.of_image(*_directory(reference))]
    summary, of_first = (each if isinstance(each, dict) else {} for each in said)
    pixel_size_um = mmstack.pixel_size_um(summary) or mmstack.pixel_size_um(of_first)
    return NDTiff(
        movie,
        names["C"],
        names["P"] or mmstack.position_names(summary),
        pixel_size_um,
        mmstack.frame_interval_s(summary),
    )


def axes_values(entry: Entry) -> dict[str, Value | None]:
    """Return where an image is along T, C, Z and P."""
    return {letter: entry.axes.get(axis) for axis, letter in _LETTERS.items()} | {"P": _place(entry)}


def chosen_values(entries: Sequence[Entry], chosen: Mapping[str, int]) -> dict[str, Value | None]:
    """Return the values along C, Z and P that have these indices."""
    along, _ = _axes(entries)
    return {letter: list(along[letter])[index] for letter, index in chosen.items()}


def _directory(plane: Plane) -> tuple[Pages, int]:
    return plane[0], plane[1].directory


def _axes(entries: Sequence[Entry]) -> tuple[dict[str, Along], dict[str, list[str]]]:
    """Return the indices along T, P, Z and C, in this order, and the names that they have."""
    along = {letter: _indices([entry.axes.get(axis) for entry in entries]) for axis, letter in _LETTERS.items()}
    times = list(along["T"])
    if all(isinstance(time, int) for time in times) and min(times) >= 0:  # type: ignore[type-var, operator]
        along["T"] = {time: time for time in times}  # type: ignore[misc]
    positions = sorted({_place(entry): None for entry in entries}, key=_sorted_as)
    along["P"] = {place: index for index, place in enumerate(positions)}
    channels = [value for value in along["C"] if isinstance(value, str)]
    names = {"C": channels, "P": [place for place in positions if isinstance(place, str)]}
    return {letter: along[letter] for letter in "TPZC"}, names


def _place(entry: Entry) -> Value | None:
    """Return the position of an image: its number or name, or all that is neither time, channel nor z in words."""
    left = {name: value for name, value in entry.axes.items() if name not in _LETTERS}
    if list(left) == ["position"]:
        return left["position"]
    return ", ".join(f"{name} {value}" for name, value in sorted(left.items())) or None


def _indices(values: Sequence[Value | None]) -> Along:
    """Return the index of each value, numbers by their size, names as they come; None is on an axis without values."""
    known = sorted({value: None for value in values if value is not None}, key=_sorted_as)
    indices: Along = {value: index for index, value in enumerate(known)}
    return indices | ({None: 0} if None in values else {})


def _sorted_as(value: Value | None) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _number(entry: Entry, along: Mapping[str, Along], shape: Sequence[int]) -> int:
    """Return the number of an image among all of the shape."""
    values = axes_values(entry)
    at = [indices[values[letter]] for letter, indices in along.items()]
    return reduce(lambda before, pair: before * pair[0] + pair[1], zip(shape, at, strict=True), 0)


class _Images:
    """The images of a data set, found by where its index says that their pixels are."""

    def __init__(self, files: FileSet, entries: Sequence[Entry]) -> None:
        self._files, self._entries = files, entries
        self._directories: dict[str, tuple[Pages, dict[int, int]]] = {}
        claimed = Counter((entry.file, entry.offset) for entry in entries)
        self._twice = {place for place, n in claimed.items() if n > 1}

    def plane(self, entry: Entry) -> Plane:
        """Return an image; raises LostPageError where it is not in its file, or another one claims to be there."""
        if (entry.file, entry.offset) in self._twice:
            raise LostPageError(f"damaged page: {NDTIFF_INDEX} names its place twice")
        pages, directories = self._of(entry.file)
        if entry.offset not in directories:
            is_beyond = not directories or entry.offset > max(directories)
            raise LostPageError(CUT_OFF if is_beyond else f"damaged page: not where {NDTIFF_INDEX} says")
        return pages, _of_bits(pages.page(directories[entry.offset]), entry.bits)

    def reference(self) -> Plane:
        """Return the first image that can be had; raises SourceError where none can."""
        for entry in self._entries:
            with suppress(LostPageError):
                return self.plane(entry)
        raise SourceError(f"none of the {len(self._entries)} images that {NDTIFF_INDEX} names can be read")

    def left_out(self) -> str | None:
        """Return what to say of images that are there, but not in the index: it was killed before they came there."""
        named = {entry.file for entry in self._entries}
        others = sorted(
            path.name for path in self._files.folder.glob(f"*{NDTIFF_NAMED}*.tif") if path.name not in named
        )
        if others:
            return f"{NDTIFF_INDEX} does not name {others[0]}, which lies beside it"
        last = self._entries[-1].file
        with suppress(LostPageError):
            end = max(entry.offset for entry in self._entries if entry.file == last)
            n = sum(offset > end for offset in self._of(last)[1])
            return f"{NDTIFF_INDEX} leaves out {n} images at the end of {last}" if n else None
        return None

    def _of(self, file: str) -> tuple[Pages, dict[int, int]]:
        """Return a file, and the directories of its pages by where their pixels are."""
        pages = self._files.get(None if file == self._files.name else file)
        if file not in self._directories or self._directories[file][0] is not pages:  # not opened anew
            self._directories[file] = pages, dict(_directories(pages))
        return self._directories[file]


def _of_bits(page: Page, bits: int) -> Page:
    """Return a page with the bits of the index where its bytes agree: ndstorage tags 8-bit images as of 16."""
    layout = page.layout._replace(bits=bits)
    return page._replace(layout=layout) if sum(page.counts) == layout.n_bytes else page


def _directories(pages: Pages) -> Iterator[tuple[int, int]]:
    for directory, page in pages.survey.pages.items():
        if isinstance(page, Page):
            yield page.offsets[0], directory
