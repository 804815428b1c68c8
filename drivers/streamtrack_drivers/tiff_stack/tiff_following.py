"""A TIFF file that another process still writes: its pages as they come to be in the list of pages.

Writers put the pixels of a page down first and its directory after them (tifffile, libtiff, and what is built on them),
or the list leads to the directory last; so a page whose directory is whole is there. A page of which the list does not
know yet is not looked for: pixels that lie behind others may be anything.
"""

import math
import os
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import SourceError, one_line
from streamtrack.types import SourceInfo
from streamtrack_drivers.following import GRACE_S, NotYetError, WrittenImage, check_there, on_the_loops_clock
from streamtrack_drivers.paths import TIFF_MARKS
from streamtrack_drivers.tiff_stack import mmstack, ndtiff, ome
from streamtrack_drivers.tiff_stack.files import FileSet, open_pages
from streamtrack_drivers.tiff_stack.movies import PagedMovie, axes_and_shape, is_shaped
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import Layout, LostPageError, Page
from streamtrack_drivers.tiff_stack.planes import Stack

_DARK = "an image of zeros, and none that is not after it: never written, or dark"
_PARTLY = "an edge of zeros, or an image of zeros behind it: not written so far, or dark"
_AGAIN_S = {_DARK: 0.25, _PARTLY: 0.02}
"""How often it is looked for later images, which end the doubt."""
_MOST_AT_ONCE = 1000
"""Pages that are added to the list before the first of them is read: a long movie begins at once."""
_MOST_AHEAD = 32
"""Pages behind a dark one that are looked at to see whether it was written."""

Planes = Callable[[int], Iterable[int]]
"""Gives the numbers of the pages of a frame."""


def begun_file(path: Path) -> Path:
    """Return the path of a file, once its first page is there; raises NotYetError, or SourceError where none will be.

    What is written in one go has no page before its end: tifffile writes the first directory when all pixels are there.
    """
    if not path.exists():
        raise NotYetError("no such file or folder: check the path")
    if not _leads_to_a_page(path):  # tifffile would log each look
        raise NotYetError("has no first page: one that is written in one go can be read when it is whole")
    try:
        pages = open_pages(path)
    except SourceError as error:
        raise NotYetError(f"{error}, so far; one that is written in one go can be read when it is whole") from error
    try:
        if ndtiff.is_ndtiff(pages) or mmstack.is_mmstack(pages):
            raise SourceError("is a stack by Micro-Manager, which has its index at the end: leave --follow out")
        if any(text and text.startswith("ImageJ=") for text in pages.descriptions(pages.first)):
            raise SourceError("is a stack for ImageJ, which does not tell what is written already: leave --follow out")
        pages.pixels(pages.page(pages.first))
    except SourceError:
        raise
    except Exception as error:  # whatever half a page leads to
        raise NotYetError(f"its first page is not there: {one_line(error)}") from error
    finally:
        pages.close()
    return path


def _leads_to_a_page(path: Path) -> bool:
    """Return whether there is a number of tags where the header says that the first page is; True for another file."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in TIFF_MARKS:
            return bool(head)
        order = "<" if head.startswith(b"II") else ">"
        width = 8 if b"+" in head[2:4] else 4
        at = head[8:16] if width == 8 else head[4:8]
        if len(at) == width and (offset := struct.unpack(order + ("Q" if width == 8 else "I"), at)[0]):
            file.seek(offset)
            return any(file.read(2 if width == 4 else 8))
    return False


def growing_movie(files: FileSet) -> tuple[PagedMovie, ome.OmeImage | None]:
    """Return the movie of a file that is written, as its first page describes it, and the image of its OME-XML.

    Where nothing is said, or only at the end, pages are time points. Raises SourceError where it says that they are in
    an order in which later ones come before earlier ones.
    """
    pages = files.first
    reference = pages.page(pages.first)
    axes, sizes, image = _described(pages, files.name)

    def plane(number: int) -> tuple[Pages, Page]:
        if number:
            raise LostPageError("not looked for")
        return pages, reference

    shape = (max(1, sizes[0]), *sizes[1:], reference.layout.height, reference.layout.width)
    return PagedMovie.of("growing", axes + "YX", shape, Stack(plane, (pages, reference), shape[0])), image


class GrowingTiff:
    """Frames of a file that is written.

    Parameters
    ----------
    path
        Of the file.
    planes
        Which pages are a frame, the first one being 0; of several the maximum is taken.
    like
        What all of them have to be like.
    info
        Of the movie.
    """

    def __init__(self, path: Path, planes: Planes, like: Layout, info: SourceInfo) -> None:
        self._path, self._planes, self._like, self._dtype = path, planes, like, info.dtype
        self._per_frame = max(planes(1)) - max(planes(0))
        self._pages: Pages | None = None
        self._directories: list[int] = []
        self._known: set[int] = set()
        self._breaks_off, self._end = False, 0
        self._doubted, self._doubted_s = -1, 0.0
        self._is_passed, self._looked_s = False, 0.0

    def look(self, index: int, *, at_the_end: bool = False) -> WrittenImage | str | None:
        """Return a frame, why it cannot be read so far, or None where it is not in the list of pages."""
        numbers = list(self._planes(index))
        if max(numbers) >= len(self._directories):
            self._grow()
        if max(numbers) >= len(self._directories):
            return None
        try:
            written_ns = on_the_loops_clock([os.stat(self._path).st_mtime_ns])
            is_next_dark = len(self._directories) > max(self._planes(index + 1)) and not self._shows(index + 1)
            image, doubt = self._read(numbers)
            if is_next_dark:
                doubt = doubt or _PARTLY  # somebody reserved what is not written so far
            if doubt is not None:
                if not self._is_written(index, doubt, at_the_end):
                    return _DARK if at_the_end else None
                self._grow()  # what was read of a file that is open may be kept
                image, _ = self._read(numbers)
            return WrittenImage(image.astype(self._dtype, copy=False), written_ns)
        except SourceError:
            raise
        except Exception as error:  # whatever a codec raises on half a page
            self.close()  # the next time it may be longer
            return str(error) if isinstance(error, LostPageError) else f"unreadable page: {one_line(error)}"

    def latest(self) -> int:
        """Return the index of the last frame whose pages are there, and not dark; -1 for none."""
        self._grow()
        last = len(self._directories) // self._per_frame - 1
        if last < 0 or self._shows(last):
            return last
        near = range(min(self._doubted + _MOST_AHEAD, last), max(self._doubted, -1), -1)
        return next((at for at in near if self._shows(at)), -1)

    def promised(self) -> int:
        """Return how many frames the first page speaks of, or the bytes that are in no page; raises SourceError."""
        check_there([self._path])
        while self._grow():
            pass
        n_planes = len(self._directories) + self._breaks_off
        promised = -(-n_planes // self._per_frame)
        if self._pages is not None:
            with suppress(Exception):  # a file that was never closed
                promised = max(promised, len(self._directories) // self._per_frame + self._in_no_page())
            with suppress(Exception):
                promised = max(promised, _described(self._pages, self._path.name)[1][0])
        return promised

    def close(self) -> None:
        """Close the file."""
        if self._pages is not None:
            self._pages.close()
            self._pages = None

    def _grow(self) -> bool:
        """Open the file anew, and go on with the list of pages where it ended the last time; return whether it did.

        Raises SourceError where what was read before is no longer there.
        """
        self.close()
        try:
            pages = self._pages = open_pages(self._path)
        except (OSError, SourceError):  # held, or gone: it is looked for again
            return False
        if self._directories and pages.n_bytes < self._end:
            raise SourceError("has become shorter than what was read of it: was another movie written in its place?")
        self._breaks_off, n_before = False, len(self._known)
        try:
            offset = pages.next(self._directories[-1]) if self._directories else pages.first
            while offset and offset not in self._known and len(self._known) < n_before + _MOST_AT_ONCE:
                page, following = pages.page(offset), pages.next(offset)
                if following is None:
                    raise LostPageError("its directory is cut off")
                if not pages.is_reduced(offset):
                    self._directories.append(offset)
                    ends = map(add, page.offsets, page.counts)
                    self._end = max(self._end, offset, *(end for end in ends if end <= pages.n_bytes))
                self._known.add(offset)
                offset = following
        except Exception:  # whatever half a page leads to
            self._breaks_off = True
        return len(self._known) > n_before

    def _read(self, numbers: list[int]) -> tuple[NDArray[Any], str | None]:
        """Return an image, and why it may not be written yet; raises LostPageError, or whatever a codec raises.

        Pixels that lie there as they are may be zeros that somebody reserved, all of them or those at an end.
        """
        images, doubt = [], None
        for number in numbers:
            pages, page = self._page(number)
            images.append(pages.pixels(page))
            if page.is_raw and not (images[-1][0].any() and images[-1][-1].any()):
                doubt = doubt or (_PARTLY if images[-1].any() else _DARK)
        return (images[0] if len(images) == 1 else np.maximum.reduce(images)), doubt

    def _page(self, number: int) -> tuple[Pages, Page]:
        if self._pages is None:
            self._grow()
        if self._pages is None:
            raise LostPageError("the file cannot be opened")
        page = self._pages.page(self._directories[number])
        if differences := page.layout.differences(self._like):
            raise LostPageError(f"page of another kind: {differences}")
        return self._pages, page

    def _is_written(self, index: int, doubt: str, at_the_end: bool) -> bool:
        """Return whether a frame of which there is a doubt is as it was written: later ones have been, since."""
        now_s = time.monotonic()
        if self._doubted != index:
            self._doubted, self._doubted_s, self._is_passed = index, now_s, False
            self._looked_s = 0.0
        if at_the_end or now_s - self._looked_s > _AGAIN_S[doubt]:
            self._looked_s = now_s
            self._grow()
            last = min(index + _MOST_AHEAD, len(self._directories) // self._per_frame - 1)
            self._is_passed |= any(self._shows(later) for later in range(index + 1, last + 1))
        waited_s = now_s - self._doubted_s
        if doubt == _PARTLY:
            return self._is_passed or at_the_end or waited_s > GRACE_S
        return self._is_passed and (at_the_end or waited_s > GRACE_S / 2)

    def _shows(self, index: int) -> bool:
        """Return whether the pages of a frame are there, and not dark."""
        try:
            return any(self._read([number])[1] != _DARK for number in self._planes(index))
        except SourceError:
            raise
        except Exception:  # whatever a codec raises; a damaged page was written
            return True

    def _in_no_page(self) -> int:
        """Return how many frames would have room in what belongs to no page."""
        assert self._pages is not None
        survey = self._pages.survey
        mean = survey.stored_bytes / max(1, len(survey.pages) - survey.n_damaged)
        return int(survey.unclaimed_bytes // (mean * self._per_frame)) if mean else 0


def _described(pages: Pages, name: str) -> tuple[str, tuple[int, ...], ome.OmeImage | None]:
    """Return axes and sizes of the planes by the first page, time first, 0 long if nobody says; and OME-XML's image.

    Raises SourceError where pages are not in the order in which they come.
    """
    texts = [text for text in pages.descriptions(pages.first) if text]
    image: ome.OmeImage | None = None
    shape: tuple[int, ...]
    axes, shape = "T", (0,)
    if text := next(filter(ome.is_ome, texts), None):
        images = _images(text, name)
        image = images[0] if images else None
        if image is not None and any(math.prod(each.shape[:-2]) > 1 for each in images):
            if len(images) > 1:
                raise SourceError(f"holds {len(images)} images: only a file of one can be followed")
            if any(block.file is not None or block.page != block.first for block in image.blocks):
                raise SourceError("has its planes in other files, or in another order: it cannot be followed")
            axes, shape = image.axes[:-2], image.shape[:-2]
        else:  # one page after the other, which tifffile takes for images of their own
            axes, shape = "T", (len(images),)
    elif text := next(filter(is_shaped, texts), None):
        said, sizes = axes_and_shape(text)
        axes, shape = said[:-2], sizes[:-2]
        if set(axes) <= set("IQ"):
            axes, shape = "T", (math.prod(shape),)
    long = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1 or axis == "T"]
    if not long or long[0][0] != "T":
        raise SourceError(f"has its planes in the order {axes}: only time as the slowest can be followed")
    return "".join(axis for axis, _ in long), tuple(size for _, size in long), image


def _images(text: str, name: str) -> list[ome.OmeImage]:
    """Return the images in OME-XML; none where it cannot be read: a part of it may be there."""
    with suppress(SourceError):
        return ome.read_images(text, name)
    return []
