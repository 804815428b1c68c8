"""Planes that follow one another in a TIFF file: a page for each, or one page with all of them behind it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from streamtrack.errors import SourceError
from streamtrack.types import MIN_FRAME_PX
from streamtrack_drivers.tiff_stack.directory import HEADER_BYTES
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import Layout, LostPageError, Page
from streamtrack_drivers.tiff_stack.survey import overlapping

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
    cause = pages.breaks_off or f"the file has {len(directories)} of {n}"
    if len(directories) < n and pages.breaks_off is None and pages.survey.n_before_gap:
        directories = directories[: pages.survey.n_before_gap]
        cause = "the list of pages leaves out some, and which ones is unknown"
    layouts = [pages.survey.layout(directory) for directory in directories]
    reference = directories[layouts.index(usual(layouts))]

    def plane(index: int) -> Plane:
        if index >= len(directories):
            raise LostPageError(f"missing page: {cause}")
        return pages, pages.page(directories[index])

    return Stack(plane, (pages, pages.page(reference)), len(directories))


def usual(layouts: Iterable[Layout | None]) -> Layout:
    """Return what most pages are like, thumbnails set aside; raises SourceError where no page can be read."""
    known = [layout for layout in layouts if layout]
    large = [layout for layout in known if is_large(layout)] or known
    if not large:
        raise SourceError("holds no image: it has no TIFF page with pixels")
    return Counter(large).most_common(1)[0][0]


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
    if not first.is_raw or not first.has_plausible_counts or following is None:
        return False
    if following == 0:
        return may_be_alone and _has_room(pages, first, n)
    end = first.offsets[0] + n * first.layout.n_bytes
    return end <= following < end + _PADDING_BYTES and _is_second(pages, following, first)


def _is_second(pages: Pages, directory: int, first: Page) -> bool:
    """Return whether a page lies right behind the first one; one that is cut off, with all others, may well do."""
    try:
        second = pages.page(directory)
    except LostPageError:
        return True
    return second.layout == first.layout and second.offsets[0] == first.offsets[0] + first.layout.n_bytes


def _has_room(pages: Pages, first: Page, n: int) -> bool:
    """Return whether ``n`` planes can lie behind the only directory; raises SourceError where they cannot."""
    start, n_bytes = first.offsets[0], n * first.layout.n_bytes
    spans = [(0, HEADER_BYTES, 0), *pages.spans(first.directory)]
    others = [span for span in spans if span[1] <= pages.n_bytes]  # not those of damaged tags
    all_bytes = n_bytes + sum(end - start for start, end, _ in others)
    if 1 in overlapping([*others, (start, start + n_bytes, 1)]) or all_bytes <= pages.n_bytes < start + n_bytes:
        raise SourceError("its pixels cannot lie where it says: it is damaged")
    return True


def _block(pages: Pages, directory: int, n: int) -> Stack:
    first = pages.page(directory)
    start, n_bytes, layout = first.offsets[0], first.layout.n_bytes, first.layout.in_one_strip

    def plane(index: int) -> Plane:
        return pages, Page(layout, directory, (start + index * n_bytes,), (n_bytes,))

    return Stack(plane, (pages, first), min(n, (pages.n_bytes - start) // n_bytes), is_block=True)
