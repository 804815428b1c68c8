"""What a TIFF file promises: which pages are the planes of its movie, by what its writer says in the first one."""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from streamtrack.errors import SourceError, foreign_errors
from streamtrack.types import MIN_FRAME_PX
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Planes, Stack, chain, implied_length, stack, unnamed, usual
from streamtrack_drivers.tiff_stack.survey import Survey

_ORDERS = {"czt": "TZC", "ctz": "ZTC", "zct": "TCZ", "ztc": "CTZ", "tcz": "ZCT", "tzc": "CZT"}  # fastest to slowest

Image = TypeVar("Image")


@dataclass(frozen=True, slots=True)
class PagedMovie:
    """An image of several planes.

    Attributes
    ----------
    kind
        The writer's format, for the report.
    axes, shape
        In the order of the planes; the last two are Y and X.
    plane, reference, n_there
        As of a `Stack`.
    missing
        Why more is missing than the planes that the shape tells of; None where no more is.
    """

    kind: str
    axes: str
    shape: tuple[int, ...]
    plane: Planes
    reference: Plane
    n_there: int
    missing: str | None = None

    @classmethod
    def of(
        cls, kind: str, axes: str, shape: tuple[int, ...], planes: Stack, missing: str | None = None
    ) -> "PagedMovie":
        """Return the movie of planes that follow one another; raises SourceError if they do not fit its shape."""
        layout = planes.reference[1].layout
        if layout.samples != 1:
            pages, page = planes.reference
            apart = ", or say by --axes TYX that they are frames" if pages.samples(page.directory) else ""
            raise SourceError(f"is a colour image ({layout}): save one colour as a grey stack{apart}")
        if shape[-2:] != (layout.height, layout.width):
            raise SourceError(f"its description tells of shape {shape}, but its pages are {layout}")
        return cls(kind, axes, shape, planes.plane, planes.reference, planes.n_there, missing)


def of_pages(pages: Pages, kind: str = "pages") -> PagedMovie:
    """Return the movie of a file that has nothing but its list of pages: they are time points."""
    layouts = {directory: pages.survey.layout(directory) for directory in pages.offsets}
    like = usual(layouts.values())
    frames = [o for o, layout in layouts.items() if not layout or layout.kind == like.kind or not pages.is_reduced(o)]
    kinds = Counter(layout.kind == like.kind for layout in map(layouts.get, frames) if layout)
    if kinds[False] >= kinds[True]:
        listing = Counter(str(layout) for layout in layouts.values() if layout).most_common(4)
        found = ", ".join(f"{n} of {each}" for each, n in listing)
        raise SourceError(f"holds pages of several kinds ({found}): save the stack to track as a file of its own")
    missing = pages.breaks_off and f"{pages.breaks_off} after page {len(layouts)}: how many are missing is unknown"
    if missing is None and _has_room_for_more(pages.survey):
        missing = f"{pages.survey.unclaimed_bytes} bytes of the file belong to none of its pages: some may be missing"
    shape = (len(frames),) * (len(frames) > 1) + (like.height, like.width)
    return PagedMovie.of(kind, "IYX"[-len(shape) :], shape, chain(pages, frames, len(frames)), missing)


def of_samples(pages: Pages) -> PagedMovie | None:
    """Return the movie of images that were written as the colours of pages; None where it is none of such.

    ``tifffile.imwrite`` takes three or four images for colours, unless it is told that they are grey.
    """
    first = pages.samples(pages.first)
    if not first:
        return None

    def plane(index: int) -> Plane:
        number, sample = divmod(index, len(first))
        found = pages.samples(pages.offsets[number])
        if len(found) != len(first):
            raise LostPageError(f"page of another kind: {len(found)} colours, not {len(first)}")
        return pages, found[sample]

    layout, n = first[0].layout, len(pages.offsets)
    axes, shape = squeezed("QQYX", (n, len(first), layout.height, layout.width))
    missing = pages.breaks_off and f"{pages.breaks_off} after page {n}: how many are missing is unknown"
    return PagedMovie.of("colours", axes, shape, Stack(plane, (pages, first[0]), n * len(first)), missing)


def _has_room_for_more(survey: Survey) -> bool:
    """Return whether what belongs to no page would hold one more, the pixels of damaged ones put aside."""
    mean = survey.stored_bytes / max(1, len(survey.pages) - survey.n_damaged)
    return survey.unclaimed_bytes >= (survey.n_damaged + 0.5) * mean


def of_cut_off(pages: Pages) -> PagedMovie:
    """Return the movie of a file whose description is cut off, as of an OME-TIFF: its pages are taken as time points.

    Where its first page is not compressed, the directories lie behind all pixels: that tells how many there were.
    """
    n = implied_length(pages)
    if n == 1:
        movie = of_pages(pages)
    else:
        planes = stack(pages, pages.first, n, may_be_alone=False)
        layout = planes.reference[1].layout
        movie = PagedMovie.of("pages", "IYX", (n, layout.height, layout.width), planes)
    if movie.missing is None and movie.n_there == math.prod(movie.shape[:-2]):
        return replace(movie, missing="the file is cut off, and with it the description of its pages")
    return movie


def is_shaped(text: str) -> bool:
    """Return whether a description is tifffile's."""
    return text.startswith("shape=") or (text.startswith("{") and '"shape":' in text)


def shaped(pages: Pages) -> PagedMovie:
    """Return the movie of a file by tifffile, which writes the shape down as JSON."""
    images, n_pages = _shaped_images(pages)
    if images and all(math.prod(shape[:-2]) == 1 for _, _, shape in images):  # written one by one
        return of_pages(pages, "shaped")
    directory, axes, shape = the_only(images, [(axes, shape) for _, axes, shape in images])
    planes = stack(pages, directory, math.prod(shape[:-2]), may_be_alone=True)
    return PagedMovie.of("shaped", axes, shape, planes, unnamed(pages, pages.offsets[n_pages:]))


def _shaped_images(pages: Pages) -> tuple[list[tuple[int, str, tuple[int, ...]]], int]:
    """Return directory, axes and shape of the images that are described, and how many pages they take."""
    images = []
    index = 0
    while index < len(pages.offsets):
        directory = pages.offsets[index]
        text = next((text for text in pages.descriptions(directory) if text and is_shaped(text)), None)
        if text is None:
            break
        with foreign_errors(SourceError, f"its description {text[:60]!r} cannot be understood"):
            images.append((directory, *axes_and_shape(text)))
        is_alone = '"truncated": true' in text or pages.next(directory) == 0
        index += 1 if is_alone else math.prod(images[-1][2][:-2])
    return images, index


def axes_and_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read tifffile's description; raises whatever wrong JSON leads to."""
    if text.startswith("shape="):  # until 2013
        axes, shape = "", tuple(map(int, re.findall(r"\d+", text)))
    else:
        described = json.loads(text)
        axes, shape = str(described.get("axes", "")), tuple(described["shape"])
    if len(shape) < 2 or not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"shape {shape}")
    if len(axes) != len(shape):
        axes = "Q" * (len(shape) - 2) + "YX"
    return (axes[:-1], shape[:-1]) if len(shape) > 2 and shape[-1] == 1 else (axes, shape)


def imagej(pages: Pages, text: str) -> PagedMovie:
    """Return the hyperstack of a file by ImageJ."""
    described = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    with foreign_errors(SourceError, "its ImageJ description cannot be understood"):
        counts = [int(described.get(name, 1)) for name in ("images", "frames", "slices", "channels")]
        if min(counts) < 1:
            raise ValueError(f"images, frames, slices, channels: {counts}")
    n_images, *sizes = counts
    n = math.prod(sizes)
    axes = _ORDERS.get(described.get("order", "czt").lower(), "TZC")
    if n_images > n and n_images % n == 0:
        axes, sizes, n = "I" + axes, [n_images // n, *sizes], n_images
    if n == 1:
        return of_pages(pages, "imagej")
    planes = stack(pages, pages.first, n, may_be_alone=True)
    layout = planes.reference[1].layout
    size = dict(zip("ITZC"[-len(sizes) :], sizes, strict=True)) | {"Y": layout.height, "X": layout.width}
    axes, shape = squeezed(axes + "YX", [size[axis] for axis in axes + "YX"])
    missing = None if planes.is_block else unnamed(pages, pages.offsets[n:])
    if n_images > n:
        missing = f"its description counts {n_images} images, but {n} by frames, slices and channels"
    return PagedMovie.of("imagej", axes, shape, planes, missing)


def of_tifffile(pages: Pages) -> PagedMovie:
    """Return the movie of a file in a format that tifffile alone knows (STK, LSM, FluoView, ...)."""
    found = [series for series in pages.file.series if series.size and series.shape]
    series = the_only(found, [(series.axes, series.shape) for series in found])
    first = pages.page(series.keyframe.offset)
    n = math.prod(series.shape[:-2])
    if series.dataoffset is not None:
        planes = stack(pages, first.directory, n, may_be_alone=True)
    else:

        def plane(index: int) -> Plane:
            page = series[index]
            if page is None:
                raise LostPageError("missing page: it is not in the file")
            like = pages.page(page.offset) if page.offset else first  # some formats have no directory for each
            return pages, like._replace(offsets=page.dataoffsets, counts=page.databytecounts)

        planes = Stack(plane, (pages, first), len(series))
    return PagedMovie.of(series.kind, series.axes, tuple(series.shape), planes)


def the_only(images: Sequence[Image], described: Sequence[tuple[str, Sequence[int]]]) -> Image:
    """Return the one image that is no thumbnail, by axes and shape; raises SourceError where none or several are."""
    if not images:
        raise SourceError("holds no image: it has no TIFF page with pixels")
    sides = [[size for axis, size in zip(axes, shape, strict=False) if axis in "YX"] for axes, shape in described]
    large = [image for image, side in zip(images, sides, strict=True) if min(side, default=0) >= MIN_FRAME_PX]
    if len(images) > 1 and len(large) != 1:
        listing = ", ".join(f"{axes} {tuple(shape)}" for axes, shape in described[:20])
        raise SourceError(f"holds {len(images)} images ({listing}): save the one to track as a file of its own")
    return images[0] if len(images) == 1 else large[0]


def squeezed(axes: str, shape: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Leave out what has length 1, but Y and X."""
    left = [(axis, size) for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX"]
    return "".join(axis for axis, _ in left), tuple(size for _, size in left)
