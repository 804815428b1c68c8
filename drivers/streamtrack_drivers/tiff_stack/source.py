"""The source of frames in a TIFF file."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.arrays import frame_dtype
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError, one_line
from streamtrack.settings import checks_settings
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack_drivers.axes import (
    ALONE,
    MovieView,
    naming,
    resolve_axes,
)
from streamtrack_drivers.following import Follower, followed_frames, opened_within
from streamtrack_drivers.paths import NDTIFF_INDEX
from streamtrack_drivers.tiff_stack import mmstack, ndtiff, ome
from streamtrack_drivers.tiff_stack.files import FileSet
from streamtrack_drivers.tiff_stack.folder import open_folder
from streamtrack_drivers.tiff_stack.movies import (
    PagedMovie,
    imagej,
    is_shaped,
    of_cut_off,
    of_pages,
    of_samples,
    of_tifffile,
    shaped,
)
from streamtrack_drivers.tiff_stack.ndtiff_following import GrowingNDTiff, begun, is_data_set
from streamtrack_drivers.tiff_stack.pixels import LostPageError
from streamtrack_drivers.tiff_stack.scale import TiffScale, imagej_scale, mmstack_scale
from streamtrack_drivers.tiff_stack.tiff_following import GrowingTiff, begun_file, growing_movie
from streamtrack_drivers.times import FrameTimes, frame_times

MOST_MISSING = 2**20
"""More missing frames than these at the end are one lost frame: a plan without an end, or a number gone wrong."""

_ONLY_TIFFFILE = (
    *("lsm", "fluoview", "stk", "sis", "svs", "scn", "qpi", "ndpi", "bif", "avs", "eer"),
    *("philips", "scanimage", "nih", "mdgel"),
)


@checks_settings
class TiffSource:
    """A movie in a TIFF, OME-TIFF, ImageJ or Micro-Manager file, read page by page.

    A page is a lost frame if it is missing, damaged, cut off, never written, or of another size or dtype than the
    others. What the file promises counts: the shape in its description, OME-XML, the frames that were planned. Where
    its list of pages breaks off and nothing tells how many there were, one LostFrame after the last page stands for
    all that are missing; so it does for pages that the description leaves out. Where the file says when each plane was
    exposed, as OME-XML and Micro-Manager do, these are the times, and the interval is their median.

    Parameters
    ----------
    path
        A TIFF file with one image (stack) in it. Other files of the same image are found beside it. Or a folder of
        files with an image each, in the order of the numbers in their names: one that is left out is a lost frame.
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
    position
        Index of a position, or which of the images of an OME-TIFF, by its index or its name.
    follow
        For a file or an NDTiff data set that another process still writes: it is over when nothing new came for so many
        seconds. By default it is read as it is. See `streamtrack_drivers.tiff_stack.tiff_following.GrowingTiff`.

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
        position: int | str | None = None,
        follow: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        with naming(path), ExitStack() as opened:
            place = Path(path).expanduser()
            said = {axis for axis, chosen in (("C", channel), ("Z", z), ("P", position)) if chosen is not None}
            if follow is not None:
                seen = partial(begun, place, all_axes=bool(said)) if is_data_set(place) else partial(begun_file, place)
                place = opened_within(follow, seen)
            place = place.parent if place.name == NDTIFF_INDEX else place
            files, numbered = open_folder(place) if place.is_dir() else (FileSet(place), None)
            self._of_numbers = "" if numbered is None else numbered.remark
            opened.callback(files.close)
            if follow is not None and place.is_file():
                movie, image = growing_movie(files)
                scale = imagej_scale(files.first.file) if image is None else TiffScale.of_ome(image)
            elif numbered is not None:
                movie, scale = numbered.movie(files), imagej_scale(files.first.file)
            else:
                movie, scale, position = _find_movie(files, axes, position, every_position=place.is_dir())
            self._movie, self._stored = movie, _stored_dtype(movie)
            self._dtype = frame_dtype(self._stored)
            self._axes = _page_axes(axes, movie)
            shape, missing = _without_end(movie, self._axes)
            self._view = MovieView.select(
                self._axes,
                shape,
                channel=channel,
                z=z,
                frames=frames if follow is None else None,
                channel_names=scale.channel_names,
                position=position,
                position_names=scale.position_names,
            )
            self._choices = self._view.choices(scale.channel_names, scale.position_names)
            self._missing = missing if frames is None or frames.rstrip().endswith(":") else None
            self._times = self._times_of(scale)
            self._against_plan = self._times.against(scale.frame_interval_s) if self._times else None
            self._info = self._describe(str(path), scale)
            self._closed = threading.Event()
            self._reading = threading.Lock()
            self._follower = None if follow is None else self._follow(place, follow, frames, said, opened)
            self._files = opened.pop_all()

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        return self._info

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return what there is along the axes of which ``channel`` and ``z`` choose one; ``"all"`` takes each."""
        return self._choices

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; ``index`` counts from the start of the whole movie."""
        if self._follower is not None:
            yield from self._followed(self._follower)
            return
        for index in self._view.frames:
            frame = self.frame_at(index)
            if self._closed.is_set():
                return
            yield frame
        if self._missing is not None and not self._closed.is_set():
            yield LostFrame(self._view.frames.stop, self._missing)

    def indices(self) -> range:
        """Return the indices of all frames that the file has pages for."""
        return self._view.frames

    def frame_at(self, index: int) -> Frame | LostFrame:
        """Return one frame."""
        image = self._image(index)
        if isinstance(image, str):
            return LostFrame(index, image)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is masked later
            pixels = np.ascontiguousarray(image, dtype=self._dtype)
        return Frame(index, pixels, monotonic_ns(), self._time_s(index))

    def remarks(self) -> Sequence[str]:
        """Return what a reader of the results has to know."""
        ended = self._follower.remarks() if self._follower is not None else ()
        return [remark for remark in (self._against_plan, self._of_numbers, *ended) if remark]

    def close(self) -> None:
        """Close the files, once the frame that is being read is done."""
        self._closed.set()
        with self._reading:
            self._files.close()

    def _follow(self, place: Path, idle_s: float, frames: str | None, said: set[str], opened: ExitStack) -> Follower:
        """Return the frames of what is being written, and say of it that its length is not known."""
        view, wanted = self._view, followed_frames(frames)
        self._times = self._against_plan = None
        details = {**self._info.details, "frames": list(wanted)}
        self._info = replace(self._info, n_frames=None, follow_s=idle_s, clock="nominal", details=details)
        if place.is_file():
            like = self._movie.reference[1].layout
            growing = opened.enter_context(closing(GrowingTiff(place, self._plane_numbers, like, self._info)))
            return Follower(growing, wanted, idle_s, "page", self._closed)
        if view.z == "max":
            raise SourceError("z = 'max' is not followed in NDTiff: choose a plane with --z")
        first = mmstack.elapsed_s(self._movie.plane(next(self._plane_numbers(view.frames.start))))
        self._info = replace(self._info, clock="nominal" if first is None else "camera")
        chosen = {"C": view.channel, "Z": view.z, "P": view.position}
        return Follower(GrowingNDTiff(place, chosen, said, self._info), wanted, idle_s, "image", self._closed)

    def _followed(self, follower: Follower) -> Iterator[Frame | LostFrame]:
        interval_s, last_s = self._info.frame_interval_s or 1.0, None
        for item in follower.frames():
            if isinstance(item, LostFrame):
                yield item
                continue
            index, image = item
            last_s = index * interval_s if self._info.clock == "nominal" else image.after(last_s, interval_s)
            yield Frame(index, image.pixels, monotonic_ns(), last_s, written_ns=image.written_ns)

    def _describe(self, name: str, scale: "TiffScale") -> SourceInfo:
        view, file = self._view, self._movie.reference[0].file
        stored = self._stored.newbyteorder(file.byteorder).str
        return SourceInfo(
            name=name,
            shape=view.frame_shape,
            dtype=self._dtype.name,
            n_frames=len(view.frames) + (self._missing is not None),
            pixel_size_um=scale.pixel_size_um,
            frame_interval_s=self._times.interval_s if self._times else scale.frame_interval_s,
            **self._place_um(scale),
            clock="camera" if self._times else "nominal",
            details={"stored_dtype": stored, **view.details(), "format": f"tiff {self._movie.kind}"},
        )

    def _time_s(self, index: int) -> float:
        return self._times[index] if self._times else index * (self._info.frame_interval_s or 1.0)

    def _place_um(self, scale: "TiffScale") -> dict[str, Any]:
        """Return where the stage was at the first frame, as OME-XML says it, or the page of Micro-Manager's files."""
        view, index = self._view, self._view.frames.start
        place = scale.places_um.get((index, view.channel, 0 if view.z == "max" else view.z))
        if place is None and self._movie.kind in ("mmstack", "ndtiff"):
            with suppress(LostPageError):
                place = mmstack.place_um(self._movie.plane(next(self._plane_numbers(index))))
        z, y, x = place or (None, None, None)
        known = {} if y is None or x is None else {"origin_um": (y, x)}
        return known | ({} if z is None or view.z == "max" else {"z_um": z})

    def _times_of(self, scale: "TiffScale") -> FrameTimes | None:
        """Return the times of the frames as OME-XML has them, or the pages of Micro-Manager's files."""
        view = self._view
        plane = 0 if view.z == "max" else view.z
        known = {t: time_s for (t, c, z), time_s in scale.times_s.items() if (c, z) == (view.channel, plane)}
        if not known and self._movie.kind in ("mmstack", "ndtiff"):
            for index in view.frames:
                with suppress(LostPageError):
                    time_s = mmstack.elapsed_s(self._movie.plane(next(self._plane_numbers(index))))
                    known |= {index: time_s} if time_s is not None else {}
        return frame_times(known, view.frames)

    def _image(self, index: int) -> NDArray[Any] | str:
        """Return a frame, shape (H, W), or why it cannot be had."""
        with self._reading:
            if self._closed.is_set():
                return "closed"
            try:
                numbers = self._plane_numbers(index)
                image = self._plane(next(numbers))
                for number in numbers:
                    np.maximum(image, self._plane(number), out=image)
                return image
            except LostPageError as error:
                return str(error)
            except Exception as error:  # whatever a codec raises on damaged bytes
                return f"unreadable page: {one_line(error)}"

    def _plane_numbers(self, index: int) -> Iterator[int]:
        """Yield the numbers of the planes of a frame."""
        sizes = dict(zip(self._axes[:-2], self._movie.shape, strict=False))
        for z in range(sizes.get("Z", 1)) if self._view.z == "max" else (self._view.z,):
            place = {"T": index, "C": self._view.channel, "Z": z, "P": self._view.position, ALONE: 0}
            yield reduce(lambda number, axis: number * sizes[axis] + place[axis], sizes, 0)

    def _plane(self, number: int) -> NDArray[Any]:
        pages, page = self._movie.plane(number)
        like = self._movie.reference[1].layout
        if differences := page.layout.differences(like):
            raise LostPageError(f"page of another kind: {differences}")
        return pages.pixels(page)


_Position = int | str | None


def _find_movie(
    files: FileSet, axes: str | None, position: _Position, *, every_position: bool
) -> tuple[PagedMovie, TiffScale, _Position]:
    """Return the movie by what its writer says in the first page, and which position is still to be chosen in it.

    The user's axes make up for broken OME-XML, and for an index that is not there.
    """
    pages = files.first
    texts = pages.descriptions(pages.first)
    said = [text for text in texts if text]
    of_ome = next(filter(ome.is_ome, said), None)
    of_imagej = next((text for text in said if text.startswith(("ImageJ=", "SCIFIO="))), None)
    if axes is not None and (movie := of_samples(pages)) is not None:
        return movie, imagej_scale(pages.file), position
    if any(map(is_shaped, said)):
        return shaped(pages), imagej_scale(pages.file), position
    if ndtiff.belongs_to_data_set(files) or (ndtiff.is_ndtiff(pages) and axes is None):
        found = ndtiff.open_movie(files)
        return found.movie, TiffScale.of_ndtiff(found), position
    if mmstack.is_mmstack(pages) and (movie := mmstack.movie(files, every_position=every_position)) is not None:
        return movie, mmstack_scale(files, of_ome, position), position
    if every_position and (others := mmstack.other_files(files)):
        raise SourceError(f"is a folder of {1 + len(others)} stacks, and {files.name} does not say of what: give one")
    if of_ome is not None:
        try:
            images = ome.read_images(of_ome, files.name)
        except SourceError as error:
            if of_imagej is None and axes is None:
                raise SourceError(f"{error}; if its pages are time points, pass --axes TYX") from error.__cause__
        else:
            movie, image, left = ome.movie(files, images, position)
            return movie, TiffScale.of_ome(image, images), left
    scale = imagej_scale(pages.file)
    if of_imagej is not None:
        return imagej(pages, of_imagej), scale, position
    if any(getattr(pages.file, f"is_{kind}", False) for kind in _ONLY_TIFFFILE):
        return of_tifffile(pages), scale, position
    return (of_cut_off if None in texts else of_pages)(pages), scale, position


def _stored_dtype(movie: PagedMovie) -> np.dtype[Any]:
    pages, page = movie.reference
    stored = pages.dtype(page)
    if stored is None:
        raise SourceError(f"pixels of {page.layout} cannot be tracked: convert them to uint8, uint16 or float32")
    return stored


def _page_axes(axes: str | None, movie: PagedMovie) -> str:
    letters = resolve_axes(axes, list(movie.axes), movie.shape)
    if not letters.endswith("YX"):
        raise SourceError(f"axes {letters}: a page of TIFF is Y and X, so that they are the last ones")
    return letters


def _without_end(movie: PagedMovie, axes: str) -> tuple[tuple[int, ...], str | None]:
    """Return the shape without a long end where nothing is, and why more than what is in it is missing."""
    if not axes.startswith("T") or movie.shape[0] <= movie.n_there + MOST_MISSING:
        return movie.shape, movie.missing
    there = max(movie.n_there, 1)
    return (there, *movie.shape[1:]), f"frames {there} to {movie.shape[0] - 1} are not in the file"
