"""From the strips or tiles of a TIFF page to its image: never more memory than the page's shape asks for."""

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

_JPEG = {6, 7, 33007, 34892}
_JPEG_2000 = {33003, 33004, 33005, 34712}
_SELF_DESCRIBING = _JPEG | _JPEG_2000 | {22610, 34887, 34933, 34934, 50001, 50002, 52546}  # PNG, WebP, JPEG XL, ...
"""Compressions whose data say how large the image is, which the codecs believe: a strip can claim gigabytes."""

_KIND = 6  # fields of a layout that come first
_MAY_DIFFER = {"compression", "rows", "columns", "is_tiled"}
_FORMATS = {1: "uint", 2: "int", 3: "float", 4: "uint"}
_SLACK_BYTES = 2**16
_MANY_SEGMENTS = 4
_MOST_LAYOUTS = 64


CUT_OFF = "missing page: the file is cut off"


class LostPageError(Exception):
    """A page cannot be had; the message is the cause of its LostFrame."""


class Layout(NamedTuple):
    """What a page says of its pixels, in the words of TIFF 6.0.

    Attributes
    ----------
    rows, columns
        Of a strip or tile; the last strip may have fewer rows.
    """

    height: int
    width: int
    bits: int
    sample_format: int
    samples: int
    photometric: int
    rows: int
    columns: int
    is_tiled: bool
    compression: int
    predictor: int
    fill_order: int

    @property
    def kind(self) -> tuple[int, ...]:
        """What all frames of a movie have in common."""
        return self[:_KIND]

    def differences(self, other: "Layout") -> str:
        """Return why not both can be frames of a movie; writers do change the compression, but not how they use it."""
        like = self if self.compression == other.compression else self._replace(predictor=other.predictor)
        fields = zip(self._fields, like, other, strict=True)
        return ", ".join(
            f"{name} {mine}, not {its}" for name, mine, its in fields if mine != its and name not in _MAY_DIFFER
        )

    def __str__(self) -> str:
        colours = f", {self.samples} colours" if self.samples > 1 else ""
        pixels = f"{_FORMATS.get(self.sample_format, f'format {self.sample_format}, bits ')}{self.bits}"
        return f"{self.height} x {self.width} px, {pixels}{colours}"

    @property
    def n_across(self) -> int:
        """Strips or tiles beside each other."""
        return -(-self.width // self.columns)

    @property
    def n_segments(self) -> int:
        """Strips or tiles of the page."""
        return self.n_across * -(-self.height // self.rows)

    @property
    def is_plain(self) -> bool:
        """Whether strips or tiles, one behind the other, are the pixels of the image as they are."""
        as_stored = (self.compression, self.predictor, self.fill_order) == (1, 1, 1) and self.bits in (8, 16, 32, 64)
        return as_stored and self.columns == self.width and not (self.is_tiled and self.height % self.rows)

    @property
    def n_bytes(self) -> int:
        """Bytes of the image without compression."""
        return self.height * -(-self.width * self.samples * self.bits // 8)

    @property
    def in_one_strip(self) -> "Layout":
        """The layout of the same pixels in a single strip."""
        return self._replace(rows=self.height, columns=self.width, is_tiled=False)

    def segment_shape(self, index: int) -> tuple[int, int]:
        """Return rows and columns of a strip or tile; tiles are whole at the edges, too."""
        if self.is_tiled:
            return self.rows, self.columns
        return min(self.rows, self.height - index * self.rows), self.columns

    def segment_bytes(self, index: int) -> int:
        """Return the bytes of a strip or tile without compression."""
        rows, columns = self.segment_shape(index)
        return rows * -(-columns * self.samples * self.bits // 8)


class Page(NamedTuple):
    """Where the pixels of a page are, and how they are stored.

    Attributes
    ----------
    directory
        Offset of its directory.
    offsets, counts
        Of its strips or tiles, bytes.
    tables
        Shared by all JPEG strips of the page.
    """

    layout: Layout
    directory: int
    offsets: Sequence[int]
    counts: Sequence[int]
    tables: bytes | None = None

    @property
    def is_in_one_piece(self) -> bool:
        """Whether its strips or tiles follow one another in the file."""
        if len(self.offsets) == 1:
            return True
        ends = map(add, self.offsets, self.counts)
        return all(end == start for end, start in zip(ends, self.offsets[1:], strict=False))

    @property
    def is_raw(self) -> bool:
        """Whether its pixels lie in the file in one piece, as they are."""
        return self.layout.is_plain and self.is_in_one_piece

    @property
    def has_plausible_counts(self) -> bool:
        """Whether there is a byte count for each strip or tile, and it is enough for the pixels and not too much."""
        layout = self.layout
        if len(self.counts) < layout.n_segments:
            return False
        full, last = layout.segment_bytes(0), layout.segment_bytes(layout.n_segments - 1)
        if layout.compression != 1:
            return max(self.counts) <= 2 * full + _SLACK_BYTES
        another_row = full // layout.segment_shape(0)[0]  # with one more, they were of another size
        return (
            min((*self.counts[:-1], full)) >= full and self.counts[-1] >= last and max(self.counts) < full + another_row
        )


class PixelReader:
    """Reads and decodes pages of one open file; tifffile knows how, for each layout that pages have.

    Parameters
    ----------
    file
        Read by nobody else meanwhile.
    """

    def __init__(self, file: tifffile.TiffFile) -> None:
        self._file = file
        self._decoders: dict[Layout, tifffile.TiffPage] = {}

    def close(self) -> None:
        """End the threads that decode."""
        if "_pool" in self.__dict__:
            self._pool.shutdown()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2), "streamtrack-tiff")

    def dtype(self, page: Page) -> np.dtype[Any] | None:
        """Return the dtype of the pixels, native byte order; None if numpy has none."""
        dtype: np.dtype[Any] | None = self._decoder(page).dtype
        if dtype is None or not page.is_raw or dtype.itemsize * 8 == page.layout.bits:
            return dtype
        return np.dtype(f"u{page.layout.bits // 8}")  # the layout is known better than by its tags

    def read(self, page: Page) -> NDArray[Any]:
        """Return the image, shape (H, W), native byte order; raises LostPageError, or whatever a codec raises."""
        layout, decoder = page.layout, self._decoder(page)
        self._require_bytes(page)
        if page.is_raw:
            self._file.filehandle.seek(page.offsets[0])
            dtype = self.dtype(page) or decoder.dtype
            order = self._file.byteorder
            pixels: NDArray[Any] = self._file.filehandle.read_array(
                dtype.newbyteorder(order), layout.height * layout.width
            )
            return pixels.reshape(layout.height, layout.width)
        image = np.empty((layout.height, layout.width), decoder.dtype)

        def put(index: int, data: bytes | memoryview) -> None:
            y, x = index // layout.n_across * layout.rows, index % layout.n_across * layout.columns
            place = image[y : y + layout.rows, x : x + layout.columns]
            place[:] = _decode(decoder, page, index, data)[: place.shape[0], : place.shape[1]]

        if layout.n_segments < _MANY_SEGMENTS:
            for index, data in enumerate(self._segments(page)):
                put(index, data)
        else:
            list(self._pool.map(put, range(layout.n_segments), self._segments(page)))
        return image

    def _decoder(self, page: Page) -> tifffile.TiffPage:
        """Return tifffile's view of a page, for all that have its layout."""
        decoder = self._decoders.get(page.layout)
        if decoder is None:
            self._file.filehandle.seek(page.directory)
            decoder = tifffile.TiffPage(self._file, 0)
            if decoder.shaped[1:] != (1, page.layout.height, page.layout.width, 1):  # colours that lie apart come first
                raise LostPageError(f"unreadable page: of shape {decoder.shaped}")
            if len(self._decoders) == _MOST_LAYOUTS:
                self._decoders.clear()
            self._decoders[page.layout] = decoder
        return decoder

    def _require_bytes(self, page: Page) -> None:
        """Raise LostPageError unless every strip or tile is in the file."""
        layout, part = page.layout, "tile" if page.layout.is_tiled else "strip"
        if min(len(page.offsets), len(page.counts)) < layout.n_segments:
            raise LostPageError(f"unreadable page: its list of {part}s is too short")
        if min(page.offsets) < 8 or min(page.counts) < 1:
            raise LostPageError(f"unwritten page: a {part} has no place in the file")
        if max(map(add, page.offsets, page.counts)) > self._file.filehandle.size:
            raise LostPageError(CUT_OFF)
        if not page.has_plausible_counts:
            raise LostPageError(f"unreadable page: its pixels do not take as many bytes as a {part} has")

    def _segments(self, page: Page) -> Iterator[bytes | memoryview]:
        """Yield the data of all strips or tiles, with one read if they follow one another."""
        handle = self._file.filehandle
        if page.is_in_one_piece:
            handle.seek(page.offsets[0])
            data = memoryview(handle.read(sum(page.counts)))
            for end, count in zip(accumulate(page.counts), page.counts, strict=True):
                yield data[end - count : end]
            return
        for offset, count in zip(page.offsets, page.counts, strict=True):
            handle.seek(offset)
            yield handle.read(count)


def _decode(decoder: tifffile.TiffPage, page: Page, index: int, data: bytes | memoryview) -> NDArray[Any]:
    """Return the pixels of a strip or tile, at least as many rows and columns as are inside the page."""
    shape = page.layout.segment_shape(index)
    if page.layout.compression not in _SELF_DESCRIBING:
        pixels: NDArray[Any] = decoder.decode(data, index)[0]
        if pixels.dtype != decoder.dtype:  # fax, of two levels
            raise LostPageError(f"unreadable page: compression {page.layout.compression} gives {pixels.dtype}")
        return pixels.reshape(shape)
    try:
        return _decode_image(decoder, page, shape, data)
    except ValueError:  # encoders cut tiles at the edge of the page, or fill the last strip up
        y, x = index // page.layout.n_across * page.layout.rows, index % page.layout.n_across * page.layout.columns
        inside = min(page.layout.rows, page.layout.height - y), min(page.layout.columns, page.layout.width - x)
        return _decode_image(decoder, page, inside if page.layout.is_tiled else page.layout[6:8], data)


def _decode_image(
    decoder: tifffile.TiffPage, page: Page, shape: tuple[int, int], data: bytes | memoryview
) -> NDArray[Any]:
    """Decode into an array of this shape; raises ValueError where the data are an image of another one."""
    compression = page.layout.compression
    if compression in _JPEG_2000:
        _check_jpeg_2000(bytes(data), shape)
    tables = {"tables": page.tables} if compression in _JPEG else {}
    out = np.empty(shape, decoder.dtype)
    image: NDArray[Any] = tifffile.TIFF.DECOMPRESSORS[compression](data, out=out, **tables)
    return image


def _check_jpeg_2000(data: bytes, shape: tuple[int, int]) -> None:
    """Compare the shape in the header: OpenJPEG looks at the array that it shall fill only when all is decoded."""
    at = data.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    if (bottom - top, right - left) != shape:
        raise ValueError(f"an image of {bottom - top} x {right - left} px for {shape[0]} x {shape[1]}")
