"""The pages that are in a TIFF file: the list of them, and what is wrong with it."""

from functools import cached_property
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from streamtrack_drivers.tiff_stack.directory import DirectoryReader
from streamtrack_drivers.tiff_stack.pixels import LostPageError, Page, PixelReader
from streamtrack_drivers.tiff_stack.survey import Span, Survey, Surveyor, read_page

_NEW_SUBFILE_TYPE, _DESCRIPTION = 254, 270


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

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return int(self.file.filehandle.size)

    @property
    def first(self) -> int:
        """Where the first directory is."""
        return int(self.file.pages.first.offset)

    def uint32(self, at: int) -> int:
        """Return a number in the file's header, for which writers have a place of their own."""
        self.file.filehandle.seek(at)
        return int.from_bytes(self.file.filehandle.read(4), "little" if self.file.byteorder == "<" else "big")

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
        known = self.__dict__["survey"].pages.get(directory) if "survey" in self.__dict__ else None
        if isinstance(known, str):
            raise LostPageError(known)
        return known if isinstance(known, Page) else read_page(self._directories, self._directories.read(directory))

    def samples(self, directory: int) -> list[Page]:
        """Return the colours of a page as pages of their own; none where they do not lie apart."""
        return self._directories.samples(self._directories.read(directory))

    def next(self, directory: int) -> int | None:
        """Return where the next directory is; 0 after the last one, None where the file ends before it says."""
        return self._directories.data(directory)[1]

    def spans(self, directory: int) -> list[Span]:
        """Return what of the file a directory and the values of its tags take, header and pixels left out."""
        read = self._directories.read(directory)
        values = [(start, start + n_bytes, 0) for start, n_bytes in self._directories.values_elsewhere(read)]
        return [(directory, directory + len(read.data), 0), *values]

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
        """What all pages of the list are like; takes as long as their number asks for."""
        surveyor = Surveyor(self._directories, self.n_bytes)
        for offset in self.offsets:
            surveyor.look(offset)
        return surveyor.survey()
