"""Planes that follow one another in a TIFF file: a page for each, or one page with all of them behind it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from streamtrack.errors import SourceError
from streamtrack.types import MIN_FRAME_PX
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import Layout, LostPageError, Page

_PADDING_BYTES = 64

Plane = tuple[Pages, Page]
Planes = Callable[[int], Plane]
"""Gives a plane by its number; raises LostPageError."""


class Stack(NamedTuple):
    """Planes that follow one another.

    Attributes
    ----------
    reference
        What all of them have to be like.
    n_there
        How many there are at most.
    is_block
        Whether they are found without their directories.
    """

    plane: Planes
    reference: Plane
    n_there: int
    is_block: bool = False


def stack(pages: Pages, directory: int, n: int, *, may_be_alone: bool) -> Stack:
    """Return the planes that begin with the page at an offset.

    Parameters
    ----------
    n
        How many they should be.
    may_be_alone
        Whether the writer leaves out all directories but the first, as ImageJ does.
    """
    if n > 1 and _is_block(pages, directory, n, may_be_alone=may_be_alone):
        return _block(pages, directory, n)
    start = pages.offsets.index(directory)
    return chain(pages, pages.offsets[start : start + n], n)


def chain(pages: Pages, directories: Sequence[int], n: int) -> Stack:
    """Return the planes that have a directory each, ``n`` if none were missing."""
    layouts = [pages.survey.layouts[directory] for directory in directories]
    like = usual(layouts)
    reference = next(o for o, layout in zip(directories, layouts, strict=True) if layout and layout.kind == like.kind)

    def plane(index: int) -> Plane:
        if index >= len(directories):
            raise LostPageError(f"missing page: {pages.breaks_off or f'the file has {len(directories)} of {n}'}")
        return pages, pages.page(directories[index])

    return Stack(plane, (pages, pages.page(reference)), len(directories))


def usual(layouts: Iterable[Layout | None]) -> Layout:
    """Return what most pages are like, thumbnails set aside; raises SourceError where no page can be read."""
    known = [layout for layout in layouts if layout]
    large = [layout for layout in known if is_large(layout)] or known
    if not large:
        raise SourceError("holds no image: it has no TIFF page with pixels")
    kind, _ = Counter(layout.kind for layout in large).most_common(1)[0]
    return next(layout for layout in large if layout.kind == kind)


def is_large(layout: Layout) -> bool:
    """Return whether a page may be a frame, and no thumbnail."""
    return min(layout.height, layout.width) >= MIN_FRAME_PX


def unnamed(pages: Pages, directories: Iterable[int]) -> str | None:
    """Return what to say of pages that no metadata name; thumbnails and small copies are no loss."""

    def may_be_frame(directory: int) -> bool:
        try:
            return is_large(pages.page(directory).layout) and not pages.is_reduced(directory)
        except LostPageError:
            return True

    n = sum(map(may_be_frame, directories))
    return f"its description leaves out {n} pages that are in the file" if n else None


def implied_length(pages: Pages) -> int:
    """Return how many planes lie before the second directory, be it in the file or not; 1 if they do not fill that."""
    try:
        first, following = pages.page(pages.first), pages.next(pages.first) or 0
    except LostPageError:
        return 1
    n, rest = divmod(following - first.offsets[0], first.layout.n_bytes)
    return n if first.is_raw and n > 0 and rest < _PADDING_BYTES else 1


def _is_block(pages: Pages, directory: int, n: int, *, may_be_alone: bool) -> bool:
    """Return whether ``n`` planes lie one behind the other: the next directory comes after them, if there is one."""
    try:
        first, following = pages.page(directory), pages.next(directory)
    except LostPageError:
        return False
    end = first.offsets[0] + n * first.layout.n_bytes
    if not first.is_raw or following is None:
        return False
    return may_be_alone if following == 0 else end <= following < end + _PADDING_BYTES


def _block(pages: Pages, directory: int, n: int) -> Stack:
    first = pages.page(directory)
    start, n_bytes, layout = first.offsets[0], first.layout.n_bytes, first.layout.in_one_strip

    def plane(index: int) -> Plane:
        return pages, Page(layout, directory, (start + index * n_bytes,), (n_bytes,))

    return Stack(plane, (pages, first), min(n, (pages.n_bytes - start) // n_bytes), is_block=True)
