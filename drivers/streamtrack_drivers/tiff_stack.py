"""Movies in TIFF: plain stacks, OME-TIFF, ImageJ hyperstacks."""

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import tifffile
import zarr

from streamtrack.errors import SourceError, one_line
from streamtrack.types import MIN_FRAME_PX, Frame, LostFrame
from streamtrack_drivers.axes import duration_s, length_um, naming, square_pixel_um
from streamtrack_drivers.zarr_movie import ArraySource, ChunkStore, StoredImage


class TiffSource(ArraySource):
    """A movie in a TIFF, OME-TIFF or ImageJ file, read page by page.

    A page that is damaged or cut off is a lost frame. Where the file ends in the middle of its list of pages and
    nothing else in it tells how many there were, one LostFrame after the last page stands for all that are missing.

    Parameters
    ----------
    path
        A TIFF file with one image (stack) in it.
    channel
        Index or label. Needed when there are several.
    z
        Index of a z plane, or ``"max"`` for the maximum over z. Needed when there are several.
    frames
        ``"A:B"`` takes frames A to B - 1; works like a python slice. ``Frame.index`` still counts from the start of
        the movie.
    axes
        Axes in stored order, for example ``"TCYX"``; goes before what the metadata says. Pages of a plain stack are
        taken as time points.

    Raises
    ------
    SourceError
        There is no image, it is ambiguous, or its pixels cannot be tracked.
    """

    def __init__(
        self,
        *,
        path: Path,
        channel: int | str | None = None,
        z: int | Literal["max"] | None = None,
        frames: str | None = None,
        axes: str | None = None,
    ) -> None:
        with naming(path), ExitStack() as files:
            tif = files.enter_context(_open(Path(path).expanduser()))
            series = _only_series(tif)
            store = ChunkStore(series.aszarr(level=0, multiscales=False, chunkmode="page"))
            files.callback(store.close)
            to_the_end = frames is None or frames.rstrip().endswith(":")
            self._cut_off = to_the_end and series.kind in ("generic", "uniform") and _is_cut_off(tif)
            super().__init__(
                _describe(tif, series, zarr.open_array(store=store, mode="r")),
                path=path,
                channel=channel,
                z=z,
                frames=frames,
                axes=axes,
                details={"format": f"tiff {series.kind}"},
                files=files,
                part="page",
            )
        if self._cut_off:
            self._info = replace(self._info, n_frames=len(self._view.frames) + 1)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; ``index`` counts from the start of the whole movie."""
        yield from super().frames()
        if self._cut_off and not self._closed.is_set():
            pages = self._view.frames.stop
            yield LostFrame(pages, f"the file is cut off after page {pages}: how many are missing is unknown")


def _open(path: Path) -> tifffile.TiffFile:
    if not path.exists():
        raise SourceError("no such file: check the path")
    if path.is_dir():
        raise SourceError("is a folder, not a TIFF file: give one file, or use the source 'zarr'")
    try:
        return tifffile.TiffFile(path)
    except OSError:
        raise
    except Exception as error:  # whatever tifffile raises on foreign bytes
        raise SourceError(f"cannot be opened as TIFF: {one_line(error)}") from error


def _only_series(tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the one image in a file; thumbnails do not count."""
    try:
        found = [series for series in tif.series if series.size and series.shape]
    except Exception as error:  # as above
        raise SourceError(f"cannot be opened as TIFF: {one_line(error)}") from error
    if not found:
        raise SourceError("holds no image: it has no TIFF page with pixels")
    if (imagej := _cut_off_imagej(tif, found)) is not None:
        return imagej
    listing = ", ".join(f"{series.axes} {series.shape}" for series in found)
    large = [series for series in found if min(series.keyframe.shape[:2]) >= MIN_FRAME_PX]
    if len(found) != 1 and len(large) != 1:
        raise SourceError(f"holds {len(found)} images ({listing}): save the one to track as a file of its own")
    series = found[0] if len(found) == 1 else large[0]
    if "S" in series.axes:
        raise SourceError(f"is a colour image ({listing}, S = red, green, blue): save one colour as a grey stack")
    return series


def _cut_off_imagej(tif: tifffile.TiffFile, found: list[tifffile.TiffPageSeries]) -> tifffile.TiffPageSeries | None:
    """Return the whole stack that an ImageJ file promises, if tifffile gave it up because its end is missing.

    ImageJ stores the planes one after the other behind the first page, so that those before the end can be read.
    """
    meta, page = tif.imagej_metadata, tif.pages.first
    if meta is None or not page.is_final or page.axes != "YX" or any(series.kind == "imagej" for series in found):
        return None
    sizes = [int(meta.get(name, 1)) for name in ("frames", "slices", "channels")]
    if meta.get("order", "czt") != "czt" or sum(len(series) for series in found) >= sizes[0] * sizes[1] * sizes[2]:
        return None
    shape = (*sizes, *page.shape)
    return tifffile.TiffPageSeries([page], shape, page.dtype, "TZCYX", kind="imagej", truncated=True)


def _is_cut_off(tif: tifffile.TiffFile) -> bool:
    """Return whether the last page that can be read points to a next one."""
    form, file = tif.tiff, tif.filehandle
    try:
        file.seek(tif.pages[len(tif.pages) - 1].offset)
        (n_tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        file.seek(n_tags * form.tagsize, 1)
        (next_page,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    except struct.error:
        return True
    return bool(next_page)


def _describe(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, array: zarr.Array[Any]) -> StoredImage:
    pixel_size_um, interval_s, channels = _ome(tif, series) if tif.is_ome else (*_imagej(tif), [])
    return StoredImage(array, list(series.axes), channels, pixel_size_um, interval_s)


def _ome(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[float | None, float | None, list[str]]:
    """Return pixel size in um, frame interval in s and channel names from OME-XML; unknown where it is broken."""
    try:
        pixels = ElementTree.fromstring(tif.ome_metadata or "").findall("{*}Image/{*}Pixels")[tif.series.index(series)]
    except (ElementTree.ParseError, LookupError, ValueError):
        return None, None, []
    get = pixels.attrib.get
    y_um, x_um = (length_um(get(f"PhysicalSize{a}"), get(f"PhysicalSize{a}Unit", "um")) for a in "YX")
    channels = [channel.attrib.get("Name", "") for channel in pixels.findall("{*}Channel")]
    interval_s = duration_s(get("TimeIncrement"), get("TimeIncrementUnit", "s"))
    return square_pixel_um(y_um, x_um), interval_s, channels


def _imagej(tif: tifffile.TiffFile) -> tuple[float | None, float | None]:
    """Return pixel size in um and frame interval in s from ImageJ's description and resolution tags."""
    meta: dict[str, Any] = tif.imagej_metadata or {}
    x_per_unit, y_per_unit = tif.pages.first.get_resolution()
    y_um, x_um = (
        length_um(1 / per_unit if per_unit else None, meta.get("unit")) for per_unit in (y_per_unit, x_per_unit)
    )
    return square_pixel_um(y_um, x_um), duration_s(meta.get("finterval"), meta.get("tunit", "s"))
