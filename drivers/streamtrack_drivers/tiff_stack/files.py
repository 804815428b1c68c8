"""The files of a TIFF movie: the one that was named, and those beside it that belong to the same image."""

from pathlib import Path

import tifffile

from streamtrack.errors import SourceError, foreign_errors, one_line
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError

_MOST_OPEN = 8


def open_pages(path: Path) -> Pages:
    """Open a TIFF file; raises SourceError."""
    if not path.exists():
        raise SourceError("no such file: check the path")
    if path.is_dir():
        raise SourceError("is a folder, not a TIFF file: give one file, or use the source 'zarr'")
    if not path.is_file():
        raise SourceError("is no ordinary file")
    with foreign_errors(SourceError, "cannot be opened as TIFF"):
        file = tifffile.TiffFile(path)
    if not file.pages or not file.pages.first.tags:
        file.close()
        raise SourceError("holds no image: it has no TIFF page with pixels")
    return Pages(file)


class FileSet:
    """The files that an image is in; those beside the first are opened when they are needed.

    Attributes
    ----------
    first, name
        The file that was named.
    folder
        Where all of them are.
    """

    def __init__(self, path: Path) -> None:
        self.first, self.name, self.folder = open_pages(path), path.name, path.parent
        self._others: dict[str, Pages | str] = {}

    def get(self, name: str | None) -> Pages:
        """Return a file by its name, None for the first; raises LostPageError where it is missing or damaged."""
        if name is None:
            return self.first
        if name not in self._others:
            self._make_room()
            self._others[name] = self._open(name)
        found = self._others[name]
        if isinstance(found, str):
            raise LostPageError(found)
        return found

    def close(self) -> None:
        """Close all files."""
        for pages in (self.first, *self._others.values()):
            if isinstance(pages, Pages):
                pages.close()

    def _open(self, name: str) -> Pages | str:
        path = self.folder / Path(name).name
        if not path.exists():
            return f"missing file {name}"
        try:
            return open_pages(path)
        except (SourceError, OSError) as error:
            return f"unreadable file {name}: {one_line(error)}"

    def _make_room(self) -> None:
        opened = [(name, pages) for name, pages in self._others.items() if isinstance(pages, Pages)]
        for name, pages in opened[: len(opened) + 1 - _MOST_OPEN]:
            pages.close()
            del self._others[name]
