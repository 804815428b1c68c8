"""A look at all pages of a TIFF file: what they are like, which lie where others are, and what belongs to none."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from streamtrack_drivers.tiff_stack.directory import HEADER_BYTES, Directory, DirectoryReader, Model
from streamtrack_drivers.tiff_stack.pixels import Layout, LostPageError, Page

_UNCHECKED = {5, 32773}  # LZW and PackBits decode whatever they are given
_NO_PIXELS = 0
OVERLAP = "damaged page: its pixels would lie where something else is"

Span = tuple[int, int, int]
"""Start and end of something, and its owner: of pixels in a file, the page with this directory."""


class Survey(NamedTuple):
    """What the pages of a file are like.

    Attributes
    ----------
    pages
        By the offsets of their directories: a page, or what is wrong with it. Of pages with several strips, which
        would fill the memory, it is the layout.
    unclaimed_bytes
        How much of the file belongs to no page and no directory.
    stored_bytes
        How much the pixels of all pages take.
    n_damaged
        How many pages have no pixels of which it is known where they are.
    n_before_gap
        How many pages come before a place where there is room for one more; None where there is no such place.
    """

    pages: dict[int, Page | Layout | str]
    unclaimed_bytes: int
    stored_bytes: int
    n_damaged: int
    n_before_gap: int | None

    def layout(self, directory: int) -> Layout | None:
        """Return what a page is like, None if it is damaged."""
        page = self.pages[directory]
        return page.layout if isinstance(page, Page) else None if isinstance(page, str) else page


class Surveyor:
    """Looks at one page after the other, in the order of their list."""

    def __init__(self, directories: DirectoryReader, file_bytes: int) -> None:
        self._directories, self._file_bytes = directories, file_bytes
        self._model: Model | None = None
        self._values: list[tuple[int, int]] = []  # of tags: where they are, how long
        self._value_bytes = 0
        self._pages: dict[int, Page | Layout | str] = {}
        self._spans: list[Span] = [(0, HEADER_BYTES, _NO_PIXELS)]
        self._places: set[tuple[int, int]] = set()
        self._claimed = self._stored = self._last_end = self._n_empty = 0
        self._n_before_gap: int | None = None

    def look(self, offset: int) -> None:
        """Look at the page that has its directory at an offset."""
        data, following = self._directories.data(offset)
        self._spans.append((offset, offset + len(data), _NO_PIXELS))
        page: Page | str | None = self._model.page(offset, data) if self._model else None
        if page is None:
            page = self._read(offset, data, following)
        else:
            self._claimed += self._value_bytes
        if isinstance(page, str):
            self._pages[offset] = page
        else:
            self._pages[offset] = page if len(page.offsets) == 1 else page.layout
            self._place(offset, page, len(data))

    def survey(self) -> Survey:
        """Return what was found; pages that lie where others are count as damaged."""
        spans = sorted(self._spans)
        for owner in overlapping(spans) - {_NO_PIXELS}:
            self._pages[owner] = OVERLAP
        claimed = self._claimed + sum(end - start for start, end, _ in spans)
        for start, n_bytes in self._values:  # damaged tags may seem to fill the file
            before = spans[bisect_left(spans, (start + n_bytes,)) - 1]
            claimed += n_bytes if before[1] <= start and start + n_bytes <= self._file_bytes else 0
        n_damaged = self._n_empty + sum(isinstance(page, str) for page in self._pages.values())
        return Survey(self._pages, self._file_bytes - claimed, self._stored, n_damaged, self._n_before_gap)

    def _read(self, offset: int, data: bytes, following: int | None) -> Page | str:
        self._model = None
        try:
            directory = self._directories.parse(offset, data, following)
            values = self._directories.values_elsewhere(directory)
            self._values += values
            self._value_bytes = sum(n_bytes for _, n_bytes in values)
            if not directory.is_alone:
                self._claimed += self._file_bytes  # all may belong to directories that are not in the list
            page = read_page(self._directories, directory)
        except LostPageError as error:
            return str(error)
        self._model = self._directories.model(directory, page)
        return page

    def _place(self, offset: int, page: Page, directory_bytes: int) -> None:
        """Note where the pixels of a page are."""
        stored = min(sum(page.counts), self._file_bytes)
        self._stored += stored
        self._n_empty += stored == 0
        gap = page.offsets[0] - self._last_end - directory_bytes - 2 * self._value_bytes
        if self._last_end and gap > stored // 2 and self._n_before_gap is None:
            self._n_before_gap = len(self._pages) - 1
        self._last_end = page.offsets[-1] + page.counts[-1]
        span = _pixels(page)
        if span is None:
            self._claimed += stored
        elif span[:2] not in self._places:  # equal images may well be stored once
            self._places.add(span[:2])
            self._spans.append(span)


def read_page(directories: DirectoryReader, directory: Directory) -> Page:
    """Return the page of a directory; raises LostPageError, also if its pixels lie over its tags."""
    page = directories.page(directory)
    pixels = _pixels(page)
    if pixels is not None:
        values = ((start, start + n_bytes, _NO_PIXELS) for start, n_bytes in directories.values_elsewhere(directory))
        own = (directory.offset, directory.offset + len(directory.data), _NO_PIXELS)
        if directory.offset in overlapping([pixels, own, *values]):
            raise LostPageError(OVERLAP)
    return page


def _pixels(page: Page) -> Span | None:
    """Return where the pixels of a page are; None where reading or decoding them shows whether they are."""
    if page.offsets[0] < HEADER_BYTES:
        return None
    if page.is_raw:  # of more than its bytes, reading shows that it is wrong
        return page.offsets[0], page.offsets[0] + min(page.layout.n_bytes, sum(page.counts)), page.directory
    if page.layout.compression in _UNCHECKED and page.is_in_one_piece:
        return page.offsets[0], page.offsets[-1] + page.counts[-1], page.directory
    return None


def overlapping(spans: Iterable[Span]) -> set[int]:
    """Return the owners of spans that overlap."""
    found: set[int] = set()
    furthest = (0, 0, 0)
    for span in sorted(spans):
        if span[0] < furthest[1]:
            found |= {span[2], furthest[2]}
        if span[1] > furthest[1]:
            furthest = span
    return found
