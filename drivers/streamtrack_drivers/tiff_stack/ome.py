"""OME-TIFF: what its XML says of the planes, and in which pages of which files they are.

The Open Microscopy Environment: "OME-TIFF specification" and the OME schema of 2016-06.
"""

import math
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from streamtrack.errors import SourceError, foreign_errors
from streamtrack_drivers.axes import duration_s, length_um, moment_s, place_um, select_named, square_pixel_um
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import PagedMovie, squeezed, the_only
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Stack, stack, unnamed
from streamtrack_drivers.tiff_stack.survey import overlapping

PlaceUm = tuple[float | None, float | None, float | None]


class TiffDataBlock(NamedTuple):
    """Planes of an image that are in consecutive pages of a file.

    Attributes
    ----------
    first
        Number of the first plane.
    page
        Number of the first page.
    n_planes
        None: as many as the file has.
    file
        None: the file with this XML.
    """

    first: int
    page: int
    n_planes: int | None
    file: str | None


class OmeImage(NamedTuple):
    """One image in OME-XML.

    Attributes
    ----------
    axes, shape
        In the order of the planes; the last two are Y and X.
    times_s
        Of planes, by their T, C, Z.
    places_um
        Where the stage was, z, y, x, of planes by their T, C, Z; None for what is not said.
    """

    axes: str
    shape: tuple[int, ...]
    blocks: Sequence[TiffDataBlock]
    channel_names: Sequence[str]
    pixel_size_um: float | None
    frame_interval_s: float | None
    times_s: Mapping[tuple[int, int, int], float]
    places_um: Mapping[tuple[int, int, int], PlaceUm]
    name: str = ""


def is_ome(text: str) -> bool:
    """Return whether a description is OME-XML."""
    return "<OME" in text[:4096]


def read_images(text: str, file_name: str) -> list[OmeImage]:
    """Read OME-XML; raises SourceError where it cannot be understood."""
    if "<!ENTITY" in text or "<!DOCTYPE" in text:  # entities of entities grow to gigabytes
        raise SourceError("its OME-XML cannot be read: it defines entities, which no writer of images does")
    with foreign_errors(SourceError, "its OME-XML cannot be read"):
        root = ElementTree.fromstring(text)
        if (elsewhere := root.find("{*}BinaryOnly")) is not None:
            raise SourceError(f"its OME-XML is in {elsewhere.get('MetadataFile')}: give that file")
        uuid = root.get("UUID")
        images = [
            _read_image(pixels, uuid, file_name)._replace(name=image.get("Name", ""))
            for image in root.iterfind("{*}Image")
            for pixels in image.iterfind("{*}Pixels")
        ]
    if len({block.file for image in images for block in image.blocks}) == 1:  # a file that was renamed
        return [image._replace(blocks=[block._replace(file=None) for block in image.blocks]) for image in images]
    return images


def movie(
    files: FileSet, images: Sequence[OmeImage], position: int | str | None = None
) -> tuple[PagedMovie, OmeImage, int | str | None]:
    """Return the movie of an OME-TIFF, which of its images that is, and what of the position is left to choose."""
    image = _chosen(images, position)
    position = position if len(images) == 1 else None
    stacks = _Stacks(files, image)
    own = stacks.first()
    named = [block for each in images for block in each.blocks if block.file is None]
    missing = None if own.is_block else unnamed(files.first, _left_out(files.first, named))
    if missing and own.n_there < stacks.n_pages(None) and not files.first.breaks_off:
        raise SourceError("its OME-XML names pages that are not there, and leaves out others: it is of another file")
    if any(block.first + (block.n_planes or 0) > stacks.n for block in image.blocks):
        missing = f"its OME-XML names more planes than the {stacks.n} of its sizes"
    n_there = sum(min(block.n_planes or stacks.n, stacks.n) for block in image.blocks)
    whole = Stack(stacks.plane, own.reference, n_there)
    return PagedMovie.of("ome", *squeezed(image.axes, image.shape), whole, missing), image, position


def _chosen(images: Sequence[OmeImage], position: int | str | None) -> OmeImage:
    """Return the image of a position; without one the only image that is no thumbnail."""
    if position is not None and len(images) > 1:
        return images[select_named("position", position, len(images), [image.name for image in images])]
    try:
        return the_only(images, [squeezed(each.axes, each.shape) for each in images])
    except SourceError:
        if len({each.shape for each in images}) == 1 and len(images) > 1:  # positions, and not different images
            select_named("position", None, len(images), [image.name for image in images])
        raise


class _Stacks:
    """The planes of an image in all its files."""

    def __init__(self, files: FileSet, image: OmeImage) -> None:
        self.n = math.prod(image.shape[:-2])
        self._files, self._blocks = files, image.blocks
        self._starts = [block.first for block in image.blocks]
        self._stacks: dict[str | None, Stack] = {}
        self._twice = overlapping((block.first, self._end(block), number) for number, block in enumerate(self._blocks))
        for file in {block.file for block in image.blocks}:
            self._twice |= overlapping(
                (block.page, block.page + self._end(block) - block.first, number)
                for number, block in enumerate(self._blocks)
                if block.file == file
            )

    def plane(self, index: int) -> Plane:
        """Return a plane by its number in the image; raises LostPageError."""
        number = bisect(self._starts, index) - 1
        if number < 0 or index >= self._end(self._blocks[number]):
            raise LostPageError("missing page: its OME-XML does not say where it is")
        if number in self._twice:
            raise LostPageError("damaged page: its OME-XML says twice where it is, or names it for two")
        block = self._blocks[number]
        return self._stack(block.file).plane(block.page + index - block.first)

    def n_pages(self, file: str | None) -> int:
        """Return how many pages a file should have."""
        ends = (block.page + self._end(block) - block.first for block in self._blocks if block.file == file)
        return max(ends, default=0)

    def first(self) -> Stack:
        """Return the pages of the first file that can be read, the named one before all; raises SourceError."""
        cause = "holds no image: its OME-XML names no page"
        for file in sorted({block.file for block in self._blocks}, key=lambda name: name or ""):
            try:
                return self._stack(file)
            except LostPageError as error:
                cause = str(error)
        raise SourceError(cause)

    def _end(self, block: TiffDataBlock) -> int:
        return self.n if block.n_planes is None else block.first + block.n_planes

    def _stack(self, file: str | None) -> Stack:
        pages = self._files.get(file)
        if file not in self._stacks or self._stacks[file].reference[0] is not pages:  # not opened anew
            self._stacks[file] = stack(pages, pages.first, self.n_pages(file), may_be_alone=False)
        return self._stacks[file]


def _left_out(pages: Pages, blocks: Sequence[TiffDataBlock]) -> list[int]:
    """Return the directories of the pages that no block names."""
    left, page = [], 0
    for block in sorted(blocks, key=lambda block: block.page):
        left += pages.offsets[page : block.page]
        page = max(page, len(pages.offsets) if block.n_planes is None else block.page + block.n_planes)
    return left + pages.offsets[page:]


def _read_image(pixels: ElementTree.Element, uuid: str | None, file_name: str) -> OmeImage:
    get = pixels.attrib.get
    order = pixels.attrib["DimensionOrder"]
    if sorted(order) != sorted("XYZCT") or order[:2] != "XY":
        raise ValueError(f"DimensionOrder {order}")
    axes = order[:1:-1] + "YX"
    shape = tuple(int(pixels.attrib[f"Size{axis}"]) for axis in axes)
    if min(shape) < 1:
        raise ValueError(f"an image of {axes} {shape}")
    blocks = [
        TiffDataBlock(first, *_pages(data), _file(data, uuid, file_name))
        for data in pixels.iterfind("{*}TiffData")
        if (first := _first_plane(data, axes, shape)) is not None
    ]
    y_um, x_um = (length_um(get(f"PhysicalSize{a}"), get(f"PhysicalSize{a}Unit", "um")) for a in "YX")
    return OmeImage(
        axes,
        shape,
        sorted(blocks, key=lambda block: block.first) or [TiffDataBlock(0, 0, None, None)],
        [channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")],
        square_pixel_um(y_um, x_um),
        duration_s(get("TimeIncrement"), get("TimeIncrementUnit", "s")),
        dict(_plane_times(pixels)),
        dict(_plane_places(pixels)),
    )


def _plane_times(pixels: ElementTree.Element) -> Iterator[tuple[tuple[int, int, int], float]]:
    for plane in pixels.iterfind("{*}Plane"):
        time_s = moment_s(plane.get("DeltaT"), plane.get("DeltaTUnit", "s"))
        if time_s is not None:
            yield _plane_of(plane), time_s


def _plane_places(pixels: ElementTree.Element) -> Iterator[tuple[tuple[int, int, int], PlaceUm]]:
    """Yield where planes were taken, as far as a unit says it: without one places are in a frame of the stage's own."""
    for plane in pixels.iterfind("{*}Plane"):
        z, y, x = (place_um(plane.get(f"Position{a}"), plane.get(f"Position{a}Unit")) for a in "ZYX")
        if (z, y, x) != (None, None, None):
            yield _plane_of(plane), (z, y, x)


def _plane_of(plane: ElementTree.Element) -> tuple[int, int, int]:
    t, c, z = (int(plane.get(f"The{axis}", 0)) for axis in "TCZ")
    return t, c, z


def _first_plane(data: ElementTree.Element, axes: str, shape: tuple[int, ...]) -> int | None:
    """Return the number of the first plane of a TiffData; None outside the image, as ImageJ leaves it when it crops."""
    first = 0
    for axis, size in zip(axes[:-2], shape[:-2], strict=True):
        place = int(data.get(f"First{axis}", 0))
        if not 0 <= place < size:
            return None
        first = first * size + place
    return first


def _pages(data: ElementTree.Element) -> tuple[int, int | None]:
    """Return the first page of a TiffData, and how many there are; None stands for all in the file."""
    page, count = data.get("IFD"), data.get("PlaneCount", data.get("NumPlanes"))
    n = int(count) if count is not None else None if page is None else 1
    if int(page or 0) < 0 or (n is not None and n < 1):
        raise ValueError(f"TiffData with page {page}, {count} planes")
    return int(page or 0), n


def _file(data: ElementTree.Element, uuid: str | None, file_name: str) -> str | None:
    """Return the name of the file of a TiffData, None for the one with this XML."""
    other = data.find("{*}UUID")
    if other is None or (uuid is not None and other.text == uuid):
        return None
    name = other.get("FileName", "")
    return None if name.lower() == file_name.lower() else name
