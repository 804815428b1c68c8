"""Movies in zarr: plain arrays of format 2 and 3, OME-Zarr 0.4 and 0.5."""

import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import Field
from zarr.abc.store import Store
from zarr.storage import LocalStore, ZipStore

from streamtrack.arrays import frame_dtype
from streamtrack.errors import SourceError, one_line
from streamtrack.plain import without_secrets
from streamtrack.settings import checks_settings
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers.axes import (
    MAX_FRAMES,
    duration_s,
    length_um,
    naming,
    place_um,
    resolve_axes,
    select_named,
    square_pixel_um,
)
from streamtrack_drivers.following import Follower, NotYetError, followed_frames, opened_within
from streamtrack_drivers.paths import is_address
from streamtrack_drivers.read_ahead import begin_reading, read_ahead
from streamtrack_drivers.remote import RemoteError, RemoteStore, in_steps, open_remote
from streamtrack_drivers.remote_groups import nodes_below
from streamtrack_drivers.stored_array import BLOCK_BYTES, StoredArraySource, StoredImage, cut
from streamtrack_drivers.zarr_chunks import checked
from streamtrack_drivers.zarr_following import GrowingZarr

_MAX_DEPTH = 8


@checks_settings
class ZarrSource(StoredArraySource):
    """A movie in a zarr array or an OME-Zarr image, in a folder or a zip file.

    A frame is lost when a chunk of it, be it a whole frame or a part, is not there: not in the store, or not in the
    index of its shard. Zarr has no way to tell a chunk that was lost from one that was never written because all its
    pixels equal the fill value (``write_empty_chunks=False``, the default of zarr-python and tensorstore), but a
    camera's offset and noise never make such a chunk, while an interrupted acquisition or copy leaves just that. A
    processed movie with constant tiles can be rewritten with ``zarr.config.set({"array.write_empty_chunks": True})``.

    Parameters
    ----------
    path
        A zarr array, an OME-Zarr image, or a group with exactly one of them in it. What lies deeper is addressed by
        its path, ``movies.zarr/cell_3``, also inside a zip file. Or the address of one: ``https://``, ``s3://``,
        ``gs://`` (`streamtrack_drivers.remote`). Where that cannot be reached any more, reading ends with SourceError.
    channel
        Index or label. Needed when there are several.
    z
        Index of a z plane, or ``"max"`` for the maximum over z. Needed when there are several.
    level
        Of a multiscale image; 0 is full resolution.
    frames
        ``"A:B"`` takes frames A to B - 1; works like a python slice. ``Frame.index`` still counts from the start of
        the movie.
    axes
        Axes in stored order, for example ``"TCYX"``; goes before what the metadata says.
    position
        Index of a position along the axis ``P``, or which of the images in a group, by its index or its path there.
    follow
        For a movie that another process still writes, one frame after the other: it is over when nothing new came for
        so many seconds. By default it is read as it is. See `streamtrack_drivers.zarr_following.GrowingZarr`.

    Raises
    ------
    SourceError
        There is no image, it is ambiguous, or its pixels cannot be tracked.
    """

    def __init__(
        self,
        *,
        path: Path | str,
        channel: int | str | None = None,
        z: int | Literal["max"] | None = None,
        level: Annotated[int, Field(ge=0)] = 0,
        frames: str | None = None,
        axes: str | None = None,
        position: int | str | None = None,
        follow: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        self._follower: Follower | None = None
        self._is_remote = is_address(path)
        name = without_secrets(str(path), paths=False)
        with naming(name), ExitStack() as files:
            if self._is_remote and follow is not None:
                raise SourceError("only a movie on a disk can be followed while it is written: leave --follow out")
            find = partial(_find, path, position, level)
            opened = in_steps if self._is_remote else (lambda find: find())
            found = opened(find) if follow is None else opened_within(follow, find)
            files.callback(found.store.close)
            image, position, names = found.image, found.position, found.position_names
            stored = image.array
            frame_dtype(stored.dtype)
            details = {"format": f"zarr {stored.metadata.zarr_format}", "array": stored.path, "level": level}
            shape, wanted = stored.shape, followed_frames(frames if follow else None)
            if follow is not None:
                shape = _without_end(image, axes)
            super().__init__(
                replace(image, array=checked(stored, shape)),
                path=name,
                channel=channel,
                z=z,
                frames=frames,
                axes=axes,
                position=position,
                details=details,
                files=files,
                part="chunk",
                position_names=names,
            )
            if follow is not None:
                details = {**self._info.details, "shape": list(stored.shape), "frames": list(wanted)}
                self._info = replace(self._info, n_frames=None, follow_s=follow, details=details)
                growing = GrowingZarr(self._array, stored, self._view, self._read)
                self._follower = Follower(growing, wanted, follow, "chunk", self._closed)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; ``index`` counts from the start of the whole movie."""
        if self._follower is None:
            yield from super().frames()
            return
        for item in self._follower.frames():
            yield item if isinstance(item, LostFrame) else self._frame(item[0], item[1].pixels, item[1].written_ns)

    def _blocks(self) -> Iterator[tuple[int, Sequence[NDArray[Any] | str]]]:
        if not self._is_remote:
            yield from super()._blocks()
            return
        view, array = self._view, self._array
        per_chunk = array.chunks[view.axes.index("T")] if "T" in view.axes else 1
        frame_bytes = view.pixels_per_frame * array.dtype.itemsize
        ranges = cut(view.frames.start, view.frames.stop, per_chunk, max(1, BLOCK_BYTES // frame_bytes))
        begun = read_ahead(self._begin, ranges, per_chunk * frame_bytes, self._closed)
        for (start, stop), future in begun:
            if isinstance(error := future.exception(0), RemoteError):
                cure = "when it can be reached again, --resume goes on from there"
                raise SourceError(f"{self._info.name}: frame {start} cannot be had: {error}; {cure}")
            images = self._outcome(future.result)
            yield start, [images] * (stop - start) if isinstance(images, str) else list(images)

    def _begin(self, start: int, stop: int) -> "Future[Any]":
        return begin_reading(self._array, self._view.key(start, stop))

    def remarks(self) -> list[str]:
        """Return how a movie ended that was followed."""
        return self._follower.remarks() if self._follower else []


class _Found(NamedTuple):
    """The image that was asked for, and what is left to choose in it."""

    store: Store
    image: StoredImage[zarr.Array[Any]]
    position: int | str | None
    position_names: list[str]


def _find(path: Path | str, position: int | str | None, level: int) -> _Found:
    with ExitStack() as opened:
        store, inner = (open_remote(str(path)), "") if is_address(path) else _open_store(Path(path).expanduser())
        opened.callback(store.close)
        node, names = _open_node(store, inner), list[str]()
        if isinstance(node, zarr.Group) and _ome(node) is None:
            node, position, names = _image_in(node, position)
        image = _find_image(node, level)
        opened.pop_all()
        return _Found(store, image, position, names)
    raise AssertionError("not reached: nothing in the block above is suppressed")


def _without_end(image: StoredImage[zarr.Array[Any]], axes: str | None) -> tuple[int, ...]:
    """Return the shape of an array with room for all frames that may still come."""
    shape = image.array.shape
    letters = resolve_axes(axes, image.axis_names, shape)
    if "T" not in letters:
        raise SourceError(f"has no time axis to follow (axes {letters}, shape {shape}): say what they are with --axes")
    return tuple(MAX_FRAMES if letter == "T" else size for letter, size in zip(letters, shape, strict=True))


def _open_store(path: Path) -> tuple[Store, str]:
    """Return the store and the path inside it."""
    file = next((place for place in (path, *path.parents) if place.is_file()), None)
    if file is None and not path.exists():
        raise NotYetError("no such file or folder: check the path")
    if file is None:
        return LocalStore(path, read_only=True), ""
    try:
        zipfile.ZipFile(file).close()
    except zipfile.BadZipFile:
        raise SourceError("is a file, not a zarr folder or zip file: for TIFF use the source 'tiff'") from None
    return ZipStore(file, mode="r"), "/".join(path.relative_to(file).parts)


def _open_node(store: Store, inner: str) -> zarr.Array[Any] | zarr.Group:
    try:
        # Consolidated metadata are left alone: they go stale when an array grows.
        return zarr.open(store=store, path=inner, mode="r", use_consolidated=False)
    except FileNotFoundError:
        raise NotYetError("no zarr array or group here: give the folder that holds zarr.json or .zarray") from None
    except RemoteError:
        raise
    except Exception as error:  # whatever zarr raises on broken metadata
        raise NotYetError(f"cannot be opened as zarr: {one_line(error)}") from error


def _find_image(node: zarr.Array[Any] | zarr.Group, level: int) -> StoredImage[zarr.Array[Any]]:
    if isinstance(node, zarr.Group):
        try:
            return _multiscale_image(node, level)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise NotYetError(f"broken multiscales metadata ({one_line(error)}): give the path of an array") from error
    if level != 0:
        raise SourceError(f"there is no level {level}: this is a plain array, leave --level out")
    return StoredImage(node, _dimension_names(node))


def _ome(group: zarr.Group) -> dict[str, Any] | None:
    """Return the image metadata of OME-Zarr 0.5, or 0.4 and before."""
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) and ome.get("multiscales") else None


def _image_in(
    group: zarr.Group, position: int | str | None
) -> tuple[zarr.Array[Any] | zarr.Group, int | str | None, list[str]]:
    """Return the image in a group, what is left to choose, and the names of several; SourceError lists them."""
    inside = _inside(group, None if position is not None else 20)
    listing = ", ".join(f"{each.path} {each.said}" for each in inside[:20])
    names = [each.path for each in inside if each.is_image]
    if len(names) == 1:
        return group[names[0]], position, []
    if not names:
        raise NotYetError(f"holds no image: this zarr group has {listing or 'nothing'} inside")
    if position is None:
        cure = f"choose one with --position, by its name or 0 to {len(names) - 1}, or add its name to the path"
        raise SourceError(f"holds {len(names)} images: {cure}, of {listing}")
    return group[names[select_named("position", position, len(names), names)]], None, names


class _Inside(NamedTuple):
    """What is in a group: its path there, its shape in words, and whether it may be the movie."""

    path: str
    said: str
    is_image: bool


_KNOWN: dict[str, list[_Inside]] = {}
"""Of groups on servers: a batch asks for each of their images anew."""
_MOST_KNOWN = 16


def _inside(group: zarr.Group, most: int | None) -> list[_Inside]:
    if not isinstance(group.store, RemoteStore):
        return list(map(_said, islice(_walk(group), most)))
    place = f"{group.store}/{group.path}"
    if place not in _KNOWN:
        found = nodes_below(group, lambda each: _ome(each) is not None, _MAX_DEPTH)
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[place] = list(map(_said, found))
    return _KNOWN[place]


def _said(found: tuple[str, zarr.Array[Any] | zarr.Group]) -> _Inside:
    path, node = found
    return _Inside(path, str(getattr(node, "shape", "(multiscale)")), isinstance(node, zarr.Group) or node.ndim >= 2)


def _walk(group: zarr.Group, prefix: str = "") -> Iterator[tuple[str, zarr.Array[Any] | zarr.Group]]:
    """Yield the arrays and multiscale images below a group, as deep as anyone stores them; links may make circles."""
    for name, node in sorted(group.members(), key=lambda member: member[0]):
        if isinstance(node, zarr.Group) and _ome(node) is None:
            if prefix.count("/") < _MAX_DEPTH:
                yield from _walk(node, f"{prefix}{name}/")
        else:
            yield prefix + name, node


def _dimension_names(array: zarr.Array[Any]) -> list[str] | None:
    """Return what format 3, or xarray in format 2, calls the axes."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return [str(name or "") for name in names] if isinstance(names, (list, tuple)) and any(names) else None


def _multiscale_image(group: zarr.Group, level: int) -> StoredImage[zarr.Array[Any]]:
    ome = _ome(group) or {}
    multiscale = ome["multiscales"][0]
    datasets = multiscale["datasets"]
    if not 0 <= level < len(datasets):
        listing = ", ".join(f"{i} {getattr(group[data['path']], 'shape', '')}" for i, data in enumerate(datasets))
        raise SourceError(f"there is no level {level}: choose one with --level, of {listing}")
    array = group[datasets[level]["path"]]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"level {level} is not an array")
    axes = multiscale.get("axes") or (list("tczyx") if array.ndim == 5 else [])  # 0.1 and 0.2 name none: always 5-D
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]  # 0.3 has bare names
    channels = (ome.get("omero") or {}).get("channels") or []
    scale, translation = _transformation(multiscale, datasets[level], len(axes))
    pixel_size_um, interval_s = _calibration(axes, scale)
    places_um = _places_um(axes, scale, translation)
    return StoredImage(
        array,
        [str(axis["name"]) for axis in axes] or _dimension_names(array),
        [str(channel.get("label") or "") for channel in channels],
        pixel_size_um,
        interval_s,
        (places_um["y"][0], places_um["x"][0]) if {"y", "x"} <= places_um.keys() else None,
        places_um.get("z"),
    )


def _transformation(multiscale: dict[str, Any], dataset: dict[str, Any], ndim: int) -> tuple[list[float], list[float]]:
    """Return the size of a pixel along each axis and where the first one is; sizes of 0 where nobody says them.

    First the level is transformed, then the image.
    """
    transforms = [each for part in (dataset, multiscale) for each in part.get("coordinateTransformations") or []]
    scale, translation, is_known = np.ones(ndim), np.zeros(ndim), False
    for each in transforms:
        if each.get("type") == "scale":
            factor = np.asarray(each["scale"], float)
            scale, translation, is_known = scale * factor, translation * factor, True
        elif each.get("type") == "translation":
            translation = translation + np.asarray(each["translation"], float)
    return (scale if is_known else np.zeros(ndim)).tolist(), translation.tolist()


def _places_um(
    axes: list[dict[str, Any]], scale: list[float], translation: list[float]
) -> dict[str, tuple[float, float]]:
    """Return where the first pixel of an axis is and how large it is, um, of the axes in space that have a unit."""
    places = {}
    for axis, size, at in zip(axes, scale, translation, strict=True):
        step, start = length_um(size, axis.get("unit")), place_um(at, axis.get("unit"))
        if step is not None and start is not None:
            places[str(axis["name"]).lower()] = start, step
    return places


def _calibration(axes: list[dict[str, Any]], scale: list[float]) -> tuple[float | None, float | None]:
    """Return pixel size in um and frame interval in s; None where the metadata give no unit."""
    by_name = {str(axis["name"]).lower(): (size, axis.get("unit")) for axis, size in zip(axes, scale, strict=True)}
    y, x, t = (by_name.get(name, (None, None)) for name in "yxt")
    return square_pixel_um(length_um(*y), length_um(*x)), duration_s(*t)
