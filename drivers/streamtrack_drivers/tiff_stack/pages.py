"""The pages that are in a TIFF file: the list of them, and what is wrong with it."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from streamtrack_drivers.tiff_stack.directory import HEADER_BYTES, DirectoryReader, Model
from streamtrack_drivers.tiff_stack.pixels import Layout, LostPageError, Page, PixelReader

_NEW_SUBFILE_TYPE, _DESCRIPTION = 254, 270

_Span = tuple[int, int, int]
"""Start and end of something in the file, and the directory of the page whose pixels it is, 0 if it is none."""


class Survey(NamedTuple):
    """What all pages of a file are like.

    Attributes
    ----------
    layouts
        By the offsets of their directories; None where a page is damaged.
    unclaimed_bytes
        How much of the file belongs to no page and no directory.
    largest_bytes
        How much the largest page takes.
    """

    layouts: dict[int, Layout | None]
    unclaimed_bytes: int
    largest_bytes: int


class Pages:
    """The pages of one TIFF file.

    Parameters
    ----------
    file
        Closed with this; read by nobody else meanwhile.
    """

    def __init__(self, file: tifffile.TiffFile) -> None:
        self.file = file
        self._directories, self._reader = DirectoryReader(file), PixelReader(file)
        self._known: dict[int, Page | str] = {}

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return int(self.file.filehandle.size)

    @property
    def first(self) -> int:
        """Where the first directory is."""
        return int(self.file.pages.first.offset)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self.file.close()

    @cached_property
    def _list(self) -> tuple[list[int], str | None]:
        offsets: dict[int, None] = {}
        offset: int | None = self.first
        while offset:
            if offset in offsets:
                return list(offsets), "the list of pages turns in a circle"
            try:
                _, following = self._directories.data(offset)
            except LostPageError:
                break
            offsets[offset], offset = None, following
        return list(offsets), None if offset == 0 else "the file is cut off"

    @property
    def offsets(self) -> list[int]:
        """Where the directory of each page is, in the order of the list of pages."""
        return self._list[0]

    @property
    def breaks_off(self) -> str | None:
        """How the list of pages ends too early; None where it does not."""
        return self._list[1]

    def page(self, directory: int) -> Page:
        """Return the page that has its directory at an offset; raises LostPageError."""
        known = self._known.get(directory)
        if isinstance(known, str):
            raise LostPageError(known)
        return known or self._directories.page(self._directories.read(directory))

    def next(self, directory: int) -> int | None:
        """Return where the next directory is; 0 after the last one, None where the file ends before it says."""
        return self._directories.data(directory)[1]

    def descriptions(self, directory: int) -> list[str | None]:
        """Return the texts that describe a page; None stands for one that is not in the file."""
        tags = self._directories.read(directory).all_tags
        return [self._directories.text(tag) for tag in tags if tag[0] == _DESCRIPTION]

    def text(self, directory: int, code: int) -> str | None:
        """Return the text of a tag; None where it is not in the file."""
        tag = self._directories.read(directory).tags.get(code)
        return self._directories.text(tag) if tag else None

    def is_reduced(self, directory: int) -> bool:
        """Return whether a page says that it is a smaller copy of another one."""
        return bool(self._directories.number(self._directories.read(directory), _NEW_SUBFILE_TYPE, 0) & 1)

    def dtype(self, page: Page) -> np.dtype[Any] | None:
        """Return the dtype of the pixels, native byte order; None if numpy has none."""
        return self._reader.dtype(page)

    def pixels(self, page: Page) -> NDArray[Any]:
        """Return the image, shape (H, W), native byte order; raises LostPageError, or whatever a codec raises."""
        return self._reader.read(page)

    @cached_property
    def survey(self) -> Survey:
        """What all pages of the list are like; from then on those that lie where others are count as damaged."""
        surveyor = _Surveyor(self._directories, self.n_bytes)
        for offset in self.offsets:
            page = surveyor.look(offset)
            if isinstance(page, str) or len(page.offsets) == 1:  # more would fill the memory
                self._known[offset] = page
        for offset in _overlapping(surveyor.spans):
            self._known[offset] = "damaged page: its pixels would lie where another page is"
        return Survey(surveyor.layouts, self.n_bytes - surveyor.claimed, surveyor.largest)


class _Surveyor:
    """Looks at one page after the other."""

    def __init__(self, directories: DirectoryReader, file_bytes: int) -> None:
        self._directories, self._file_bytes = directories, file_bytes
        self._model: Model | None = None
        self._elsewhere = 0
        self.layouts: dict[int, Layout | None] = {}
        self.spans: list[_Span] = []
        self.claimed, self.largest = HEADER_BYTES, 1

    def look(self, offset: int) -> Page | str:
        """Return the page with its directory at an offset, or what is wrong with it."""
        data, following = self._directories.data(offset)
        self.spans.append((offset, offset + len(data), 0))
        page = (self._model and self._model.page(offset, data)) or self._read(offset, data, following)
        self.claimed += len(data) + self._elsewhere
        if isinstance(page, str):
            self.layouts[offset] = None
            return page
        self.layouts[offset] = page.layout
        stored = min(sum(page.counts), self._file_bytes)
        self.claimed, self.largest = self.claimed + stored, max(self.largest, stored)
        if page.is_raw:
            self.spans.append((page.offsets[0], page.offsets[0] + page.layout.n_bytes, offset))
        return page

    def _read(self, offset: int, data: bytes, following: int | None) -> Page | str:
        self._model = None
        directory = self._directories.parse(offset, data, following)
        self._elsewhere = sum(map(self._directories.bytes_elsewhere, directory.all_tags))
        if not directory.is_alone:
            self._elsewhere = self._file_bytes  # all of it may belong to directories that are not in the list
        try:
            page = self._directories.page(directory)
        except LostPageError as error:
            return str(error)
        self._model = self._directories.model(directory, page)
        return page


def _overlapping(spans: list[_Span]) -> set[int]:
    """Return the pages whose pixels lie partly where other pixels or a directory lie; the same place is no harm."""
    found: set[int] = set()
    furthest = (0, 0, 0)
    for span in sorted(spans):
        if span[0] < furthest[1] and span[:2] != furthest[:2]:
            found |= {span[2], furthest[2]}
        if span[1] > furthest[1]:
            furthest = span
    return found - {0}
