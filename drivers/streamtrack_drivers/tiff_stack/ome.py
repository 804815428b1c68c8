"""OME-TIFF: what its XML says of the planes, and in which pages of which files they are.

The Open Microscopy Environment: "OME-TIFF specification" and the OME schema of 2016-06.
"""

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from streamtrack.errors import SourceError, foreign_errors
from streamtrack_drivers.axes import duration_s, length_um, square_pixel_um
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.movies import Movie, squeezed, the_only
from streamtrack_drivers.tiff_stack.pages import Pages
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.planes import Plane, Stack, stack, unnamed


class Block(NamedTuple):
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
    """One image in OME-XML; ``axes`` and ``shape`` in the order of the planes, the last two are Y and X."""

    axes: str
    shape: tuple[int, ...]
    blocks: Sequence[Block]
    channel_names: Sequence[str]
    pixel_size_um: float | None
    frame_interval_s: float | None


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
        return [_read_image(pixels, uuid, file_name) for pixels in root.iterfind("{*}Image/{*}Pixels")]


def movie(files: FileSet, images: Sequence[OmeImage]) -> tuple[Movie, OmeImage]:
    """Return the movie of an OME-TIFF, and which of its images that is."""
    image = the_only(images, [squeezed(each.axes, each.shape) for each in images])
    n = math.prod(image.shape[:-2])
    starts = [block.first for block in image.blocks]
    stacks: dict[str | None, Stack] = {}

    def stack_in(file: str | None) -> Stack:
        pages = files.get(file)
        if file not in stacks or stacks[file].reference[0] is not pages:
            blocks = [block for block in image.blocks if block.file == file]
            n_pages = max(block.page + (n if block.n_planes is None else block.n_planes) for block in blocks)
            stacks[file] = stack(pages, pages.first, n_pages, may_be_alone=False)
        return stacks[file]

    def plane(index: int) -> Plane:
        number = bisect(starts, index) - 1
        block = image.blocks[number] if number >= 0 else None
        if block is None or (block.n_planes is not None and index - block.first >= block.n_planes):
            raise LostPageError("missing page: its OME-XML does not say where it is")
        return stack_in(block.file).plane(block.page + index - block.first)

    own = _first_stack(stack_in, [block.file for block in image.blocks])
    named = [block for each in images for block in each.blocks if block.file is None]
    missing = None if own.is_block else unnamed(files.first, _left_out(files.first, named))
    whole = own._replace(plane=plane, n_there=sum(min(block.n_planes or n, n) for block in image.blocks))
    return Movie.of("ome", *squeezed(image.axes, image.shape), whole, missing), image


def _first_stack(stack_in: Callable[[str | None], Stack], names: Sequence[str | None]) -> Stack:
    """Return the planes in the first file that can be read, the named one first."""
    cause = "holds no image: its OME-XML names no page"
    for name in sorted(set(names), key=lambda name: name or ""):
        try:
            return stack_in(name)
        except LostPageError as error:
            cause = str(error)
    raise SourceError(cause)


def _left_out(pages: Pages, blocks: Sequence[Block]) -> list[int]:
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
        Block(first, *_pages(data), _file(data, uuid, file_name))
        for data in pixels.iterfind("{*}TiffData")
        if (first := _first_plane(data, axes, shape)) is not None
    ]
    if len({block.file for block in blocks}) == 1:  # a file that was renamed
        blocks = [block._replace(file=None) for block in blocks]
    y_um, x_um = (length_um(get(f"PhysicalSize{a}"), get(f"PhysicalSize{a}Unit", "um")) for a in "YX")
    return OmeImage(
        axes,
        shape,
        sorted(blocks, key=lambda block: block.first) or [Block(0, 0, None, None)],
        [channel.get("Name", "") for channel in pixels.iterfind("{*}Channel")],
        square_pixel_um(y_um, x_um),
        duration_s(get("TimeIncrement"), get("TimeIncrementUnit", "s")),
    )


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
    if min(int(page or 0), n or 0) < 0:
        raise ValueError(f"TiffData with page {page}, {count} planes")
    return int(page or 0), n


def _file(data: ElementTree.Element, uuid: str | None, file_name: str) -> str | None:
    """Return the name of the file of a TiffData, None for the one with this XML."""
    other = data.find("{*}UUID")
    if other is None or (uuid is not None and other.text == uuid):
        return None
    name = other.get("FileName", "")
    return None if name.lower() == file_name.lower() else name
