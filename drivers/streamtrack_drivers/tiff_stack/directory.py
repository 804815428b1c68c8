"""The directory (IFD) of a TIFF page: its tags, read without trust in what they say.

The numbers of tags and of types are those of TIFF 6.0 and BigTIFF.
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import tifffile

from streamtrack_drivers.tiff_stack.pixels import CUT_OFF, Layout, LostPageError, Page

_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # those of the types that are unsigned numbers
_SIZES = defaultdict(lambda: 1, {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8})
_LAYOUT = {256, 257, 258, 259, 262, 266, 277, 278, 317, 322, 323, 339, 32997}
_STRIPS, _TILES, _COUNTS = 273, 324, {273: 279, 324: 325}
_TILE_WIDTH, _JPEG_TABLES, _ELSEWHERE = 322, 347, (330, 34665, 34853)
_PLANAR, _SEPARATE = 284, 2
_FIRST_CODE, _PRIVATE, _LAST_TYPE = 254, 32768, 18
_MOST_TAGS = 4096
HEADER_BYTES = 8

Tag = tuple[int, int, int, bytes]
"""Code, type, count, and the value or where it is."""


class Directory(NamedTuple):
    """The tags of a page.

    Attributes
    ----------
    tags
        By code; the first one where there are several.
    all_tags
        In the order of the file.
    next
        Offset of the next directory, 0 after the last; None where the file ends before it says.
    data
        Its bytes.
    """

    offset: int
    tags: dict[int, Tag]
    all_tags: list[Tag]
    next: int | None
    data: bytes

    @property
    def is_alone(self) -> bool:
        """Whether it leads to no directories outside the list of pages."""
        return self.tags.keys().isdisjoint(_ELSEWHERE)


class DirectoryReader:
    """Reads directories of one open file.

    Parameters
    ----------
    file
        Read by nobody else meanwhile.
    """

    def __init__(self, file: tifffile.TiffFile) -> None:
        self._form, self._size = file.tiff, int(file.filehandle.size)
        self._seek, self._read_bytes = file.filehandle.seek, file.filehandle.read
        self._tag = struct.Struct(file.tiff.tagheaderformat)
        self._n_tags, self._next = struct.Struct(file.tiff.tagnoformat), struct.Struct(file.tiff.offsetformat)
        self._layouts: dict[Layout, Layout] = {}
        self._usual_bytes = 256

    def data(self, offset: int) -> tuple[bytes, int | None]:
        """Return the bytes of the directory at an offset, and where the next one is, as in a `Directory`.

        Raises LostPageError.
        """
        if not HEADER_BYTES <= offset < self._size:
            raise LostPageError(CUT_OFF)
        self._seek(offset)
        data: bytes = self._read_bytes(self._usual_bytes)
        n_tags = self._n_tags.unpack_from(data)[0] if len(data) >= self._n_tags.size else 0
        if not 1 <= n_tags <= _MOST_TAGS:
            raise LostPageError(f"damaged page: its directory has {n_tags} tags")
        end = self._n_tags.size + n_tags * self._tag.size
        n_bytes = end + self._next.size
        if n_bytes != self._usual_bytes:
            data = data[:n_bytes] if n_bytes < len(data) else data + self._read_bytes(n_bytes - len(data))
            self._usual_bytes = n_bytes
        if len(data) < end:
            raise LostPageError(CUT_OFF)
        return data, self._next.unpack_from(data, end)[0] if len(data) == n_bytes else None

    def read(self, offset: int) -> Directory:
        """Return the directory at an offset; raises LostPageError."""
        return self.parse(offset, *self.data(offset))

    def parse(self, offset: int, data: bytes, following: int | None) -> Directory:
        """Return the directory with these bytes; raises LostPageError if they look like none."""
        head, size = self._n_tags.size, self._tag.size
        tags = list(self._tag.iter_unpack(data[head : head + (len(data) - head) // size * size]))
        if any(tag[0] < _FIRST_CODE or (tag[0] < _PRIVATE and not 1 <= tag[1] <= _LAST_TYPE) for tag in tags):
            raise LostPageError("damaged page: what should be its directory is none")
        return Directory(offset, {tag[0]: tag for tag in reversed(tags)}, tags, following, data)

    def page(self, directory: Directory) -> Page:
        """Return what a directory says of the pixels; raises LostPageError."""
        layout = self._layout(directory)
        if layout.n_segments > self._size:
            raise LostPageError(f"damaged page: {layout.n_segments} strips are more than the file can hold")
        place = _place_tag(directory)
        offsets = self.numbers(directory, place, layout.n_segments)
        if not offsets:
            raise LostPageError("damaged page: it does not say where its pixels are")
        counts = self.numbers(directory, _COUNTS[place], layout.n_segments)
        if not counts and layout.compression == 1:  # some old writers leave them out
            counts = tuple(layout.segment_bytes(index) for index in range(layout.n_segments))
        tables = directory.tags.get(_JPEG_TABLES)
        return Page(layout, directory.offset, offsets, counts, self.value(tables) if tables else None)

    def samples(self, directory: Directory) -> list[Page]:
        """Return the colours of a page as pages of their own; none where they do not lie apart."""
        layout = self._layout(directory)
        if layout.samples == 1 or self.number(directory, _PLANAR, 1) != _SEPARATE:
            return []
        place, n = _place_tag(directory), layout.n_segments
        offsets, counts = (self.numbers(directory, code, layout.samples * n) for code in (place, _COUNTS[place]))
        tables = directory.tags.get(_JPEG_TABLES)
        page = Page(layout._replace(samples=1), directory.offset, (), (), self.value(tables) if tables else None)
        starts = range(0, layout.samples * n, n)
        return [page._replace(offsets=offsets[at : at + n], counts=counts[at : at + n]) for at in starts]

    def model(self, directory: Directory, page: Page) -> "Model | None":
        """Return how to recognise pages that are like this one; None if it has several strips."""
        codes = [code for code in (_place_tag(directory), _COUNTS[_place_tag(directory)]) if code in directory.tags]
        if len(page.offsets) > 1 or page.tables or any(directory.tags[code][2] != 1 for code in codes):
            return None
        head, size, field = self._n_tags.size, self._tag.size, self._form.tagoffsetthreshold
        ends = {tag[0]: head + number * size for number, tag in reversed(list(enumerate(directory.all_tags, 1)))}
        mask = bytearray(b"\xff" * (head + len(directory.all_tags) * size))
        for code in ends.keys() - _LAYOUT:
            mask[ends[code] - field : ends[code]] = bytes(field)
        fields = [
            (struct.Struct(self._form.byteorder + _FORMATS[directory.tags[code][1]]), ends[code] - field)
            for code in codes
        ]
        return Model(page, directory, bytes(mask), fields)

    def numbers(self, directory: Directory, code: int, most: int) -> tuple[int, ...]:
        """Return the numbers of a tag, ``most`` at most; none where it is not there. Raises LostPageError."""
        tag = directory.tags.get(code)
        if tag is None:
            return ()
        if tag[1] not in _FORMATS:
            raise LostPageError(f"damaged page: its tag {code} has no numbers")
        n = min(tag[2], most)
        return struct.unpack(f"{self._form.byteorder}{n}{_FORMATS[tag[1]]}", self.value(tag, n))

    def number(self, directory: Directory, code: int, default: int | None) -> int:
        """Return the first number of a tag; without a default, raises LostPageError where there is none."""
        number = next(iter(self.numbers(directory, code, 1)), default)
        if number is None:
            raise LostPageError(f"damaged page: it has no tag {code}")
        return number

    def text(self, tag: Tag) -> str | None:
        """Return the text of a tag; None where it lies beyond the end of the file."""
        try:
            data = self.value(tag).rstrip(b"\0")
        except LostPageError:
            return None
        try:
            return data.decode("utf-8").strip()
        except UnicodeDecodeError:
            return data.decode("cp1252", "replace").strip()

    def value(self, tag: Tag, count: int | None = None) -> bytes:
        """Return the bytes of the values of a tag, or of the first ones."""
        size = (tag[2] if count is None else count) * _SIZES[tag[1]]
        if not self._bytes_elsewhere(tag):
            return tag[3][:size]
        offset = self._next.unpack(tag[3])[0]
        if offset + self._bytes_elsewhere(tag) > self._size:
            raise LostPageError(f"damaged page: its tag {tag[0]} lies beyond the end of the file")
        self._seek(offset)
        return bytes(self._read_bytes(size))

    def values_elsewhere(self, directory: Directory) -> list[tuple[int, int]]:
        """Return offset and length of all values that are not in the directory itself."""
        outside = (tag for tag in directory.all_tags if self._bytes_elsewhere(tag))
        return [(self._next.unpack(tag[3])[0], self._bytes_elsewhere(tag)) for tag in outside]

    def _bytes_elsewhere(self, tag: Tag) -> int:
        """Return the length of a value that is not in the directory itself."""
        n_bytes = tag[2] * _SIZES[tag[1]]
        return n_bytes if n_bytes > self._form.tagoffsetthreshold else 0

    def _layout(self, directory: Directory) -> Layout:
        height, width = self.number(directory, 257, None), self.number(directory, 256, None)
        is_tiled = _TILE_WIDTH in directory.tags
        rows = self.number(directory, 323, None) if is_tiled else min(self.number(directory, 278, height), height)
        columns = self.number(directory, _TILE_WIDTH, None) if is_tiled else width
        if min(height, width, rows, columns) < 1 or self.number(directory, 32997, 1) != 1:
            raise LostPageError(f"damaged page: {height} x {width} px in parts of {rows} x {columns}, or a volume")
        bits, sample_format, samples, photometric, compression, predictor, fill_order = (
            self.number(directory, code, 1) for code in (258, 339, 277, 262, 259, 317, 266)
        )
        layout = Layout(
            height,
            width,
            bits,
            sample_format,
            samples,
            photometric,
            rows,
            columns,
            is_tiled,
            compression,
            predictor,
            fill_order,
        )
        return self._layouts.setdefault(layout, layout)  # one object for all pages that are alike


class Model:
    """A page with one strip, and how to see at once that a directory is like its own but for where things are.

    In a stack of thousands nearly every page is like the one before: no need to look at its tags one by one.
    """

    def __init__(
        self, page: Page, directory: Directory, mask: bytes, fields: Sequence[tuple[struct.Struct, int]]
    ) -> None:
        self._page, self._fields, self._n_bytes = page, fields, len(mask)
        self._distance = page.offsets[0] - page.directory
        self._mask = int.from_bytes(mask, "little")
        self._masked = self._bits(directory.data)

    def page(self, offset: int, data: bytes) -> Page | None:
        """Return the page with this directory, None if it is not like the model."""
        if self._bits(data) != self._masked:
            return None
        offsets, *counts = [field.unpack_from(data, at) for field, at in self._fields]
        if offsets[0] - offset != self._distance:  # of its pixels from its directory
            return None
        return Page(self._page.layout, offset, offsets, counts[0] if counts else self._page.counts)

    def _bits(self, data: bytes) -> int:
        return int.from_bytes(data[: self._n_bytes], "little") & self._mask


def _place_tag(directory: Directory) -> int:
    """Return the tag that says where strips or tiles are."""
    return _TILES if _TILE_WIDTH in directory.tags and _TILES in directory.tags else _STRIPS
