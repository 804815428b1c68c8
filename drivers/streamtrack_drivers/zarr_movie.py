"""Movies in zarr: plain arrays of format 2 and 3, OME-Zarr 0.4 and 0.5."""

import math
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import Field
from zarr.abc.store import Store
from zarr.storage import LocalStore, ZipStore

from streamtrack.arrays import frame_dtype
from streamtrack.clock import monotonic_ns
from streamtrack.errors import SourceError, one_line
from streamtrack.settings import checks_settings
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack_drivers.axes import (
    MovieView,
    duration_s,
    length_um,
    naming,
    resolve_axes,
    select_named,
    square_pixel_um,
)
from streamtrack_drivers.zarr_chunks import MissingChunkError, checked

BLOCK_BYTES = 256 * 2**20
"""Most that is read at once; a single frame (with ``z="max"``: a single stack) is read whole in any case."""
BLOCK_FRAMES, SMALL_BLOCK_BYTES, BLOCK_CHUNKS = 16, 32 * 2**20, 4096
"""Chunks are read together up to so many frames, bytes, chunks: per call zarr costs as much as decoding a chunk."""
MAX_CHUNKS_PER_FRAME = 2**16
"""Each costs some kilobytes and a fifth of a millisecond."""

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An array on disk and what the metadata around it says.

    Attributes
    ----------
    axis_names
        In stored order; None where nothing is known.
    channel_names
        May be empty, or have empty entries.
    """

    array: zarr.Array[Any]
    axis_names: Sequence[str] | None = None
    channel_names: Sequence[str] = ()
    pixel_size_um: float | None = None
    frame_interval_s: float | None = None


class StoredArraySource:
    """Frames of a chunked array on disk: what ZarrSource and TiffSource have in common.

    Reads some frames at a time, whole chunks of them, so that a chunk that holds several frames is decoded once. When
    a chunk cannot be read, each of its frames is yielded as LostFrame and reading goes on.

    Parameters
    ----------
    image
        What to read; its array must raise for an absent chunk (`streamtrack_drivers.zarr_chunks.checked`).
    files
        What ``close`` has to close; taken over from the caller when everything is in order.
    part
        What the format calls a chunk, for the cause of a LostFrame.
    position_names
        Of the images beside it that are its other positions, and of itself.
    """

    def __init__(
        self,
        image: StoredImage,
        *,
        path: Path,
        channel: int | str | None,
        z: int | Literal["max"] | None,
        frames: str | None,
        axes: str | None,
        position: int | str | None,
        details: Mapping[str, Any],
        files: ExitStack,
        part: str,
        position_names: Sequence[str] = (),
    ) -> None:
        array = image.array
        self._array, self._part = array, part
        self._dtype = frame_dtype(array.dtype)
        stored_axes = resolve_axes(axes, image.axis_names, array.shape)
        self._view = MovieView.select(
            stored_axes,
            array.shape,
            channel=channel,
            z=z,
            frames=frames,
            channel_names=image.channel_names,
            position=position,
        )
        self._info = SourceInfo(
            name=str(path),
            shape=self._view.frame_shape,
            dtype=self._dtype.name,
            n_frames=len(self._view.frames),
            pixel_size_um=image.pixel_size_um,
            frame_interval_s=image.frame_interval_s,
            details={"stored_dtype": array.dtype.str, "chunks": list(array.chunks), **self._view.details(), **details},
        )
        self._choices = self._view.choices(image.channel_names, position_names)
        self._chunks_per_frame = _chunks_per_frame(self._view, array.chunks)
        self._closed = threading.Event()
        self._reading = threading.Lock()
        self._files = files.pop_all()

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        return self._info

    def choices(self) -> Mapping[str, Sequence[str]]:
        """Return what there is along the axes of which ``channel`` and ``z`` choose one; ``"all"`` takes each."""
        return self._choices

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; ``index`` counts from the start of the whole movie."""
        interval_s = self._info.frame_interval_s or 1.0
        for start, images in self._blocks():
            for index, image in enumerate(images, start):
                if self._closed.is_set():
                    return
                if isinstance(image, str):
                    yield LostFrame(index, image)
                else:
                    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is masked later
                        pixels = np.ascontiguousarray(image, dtype=self._dtype)
                    yield Frame(index, pixels, monotonic_ns(), index * interval_s)

    def close(self) -> None:
        """Close the file, once the block that is being read is done."""
        self._closed.set()
        with self._reading:
            self._files.close()

    def _blocks(self) -> Iterator[tuple[int, Sequence[NDArray[Any] | str]]]:
        """Yield the first index and the images, or causes of loss, of blocks of frames; in order."""
        view = self._view
        frame_bytes = view.pixels_per_frame * self._array.dtype.itemsize
        per_chunk = self._array.chunks[view.axes.index("T")] if "T" in view.axes else 1
        few = min(BLOCK_FRAMES, SMALL_BLOCK_BYTES // frame_bytes, BLOCK_CHUNKS // self._chunks_per_frame)
        per_block = max(per_chunk, few // per_chunk * per_chunk)
        most = max(1, BLOCK_BYTES // frame_bytes)
        for start, stop in _cut(view.frames.start, view.frames.stop, per_block, most):
            images = self._read(start, stop)
            if isinstance(images, str):  # find the chunks that can be read
                for first, last in _cut(start, stop, per_chunk, most):
                    images = self._read(first, last)
                    yield first, [images] * (last - first) if isinstance(images, str) else list(images)
            else:
                yield start, list(images)

    def _read(self, start: int, stop: int) -> NDArray[Any] | str:
        """Return images (n, H, W), or why they cannot be had."""
        with self._reading:
            if self._closed.is_set():
                return "closed"
            try:
                return self._view.images(np.asarray(self._array[self._view.key(start, stop)]))
            except MemoryError as error:
                raise SourceError(f"{self._info.name}: a frame takes more memory than there is") from error
            except Exception as error:  # whatever a codec raises on damaged bytes
                kind = "missing" if isinstance(error, MissingChunkError) else "unreadable"
                return f"{kind} {self._part}: {one_line(error)}"


def _chunks_per_frame(view: MovieView, chunks: tuple[int, ...]) -> int:
    """Return how many chunks have to be read for one frame; raises SourceError if that would take for ever."""
    needed = "ZYX" if view.z == "max" else "YX"
    sides = zip(view.axes, view.shape, chunks, strict=True)
    n_chunks = math.prod(-(-size // chunk) for axis, size, chunk in sides if axis in needed)
    if n_chunks > MAX_CHUNKS_PER_FRAME:
        raise SourceError(f"chunks of shape {chunks} make {n_chunks} a frame, too many: rewrite it with larger ones")
    return n_chunks


def _cut(start: int, stop: int, multiple: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut a range at the multiples of a length, and into pieces of at most ``most``."""
    while start < stop:
        end = min(stop, (start // multiple + 1) * multiple, start + most)
        yield start, end
        start = end


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
        its path, ``movies.zarr/cell_3``, also inside a zip file.
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
        level: Annotated[int, Field(ge=0)] = 0,
        frames: str | None = None,
        axes: str | None = None,
        position: int | str | None = None,
    ) -> None:
        with naming(path), ExitStack() as files:
            store, inner = _open_store(Path(path).expanduser())
            files.callback(store.close)
            node, names = _open_node(store, inner), list[str]()
            if isinstance(node, zarr.Group) and _ome(node) is None:
                node, position, names = _image_in(node, position)
            image = _find_image(node, level)
            stored = image.array
            frame_dtype(stored.dtype)
            details = {"format": f"zarr {stored.metadata.zarr_format}", "array": stored.path, "level": level}
            super().__init__(
                replace(image, array=checked(stored)),
                path=path,
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


def _open_store(path: Path) -> tuple[Store, str]:
    """Return the store and the path inside it."""
    file = next((place for place in (path, *path.parents) if place.is_file()), None)
    if file is None and not path.exists():
        raise SourceError("no such file or folder: check the path")
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
        raise SourceError("no zarr array or group here: give the folder that holds zarr.json or .zarray") from None
    except Exception as error:  # whatever zarr raises on broken metadata
        raise SourceError(f"cannot be opened as zarr: {one_line(error)}") from error


def _find_image(node: zarr.Array[Any] | zarr.Group, level: int) -> StoredImage:
    if isinstance(node, zarr.Group):
        try:
            return _multiscale_image(node, level)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise SourceError(f"broken multiscales metadata ({one_line(error)}): give the path of an array") from error
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
    inside = list(_walk(group) if position is not None else islice(_walk(group), 20))
    listing = ", ".join(f"{path} {getattr(node, 'shape', '(multiscale)')}" for path, node in inside[:20])
    images = [(path, node) for path, node in inside if isinstance(node, zarr.Group) or node.ndim >= 2]
    if len(images) == 1:
        return images[0][1], position, []
    if not images:
        raise SourceError(f"holds no image: this zarr group has {listing or 'nothing'} inside")
    if position is None:
        cure = f"choose one with --position, by its name or 0 to {len(images) - 1}, or add its name to the path"
        raise SourceError(f"holds {len(images)} images: {cure}, of {listing}")
    names = [path for path, _ in images]
    return images[select_named("position", position, len(images), names)][1], None, names


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


def _multiscale_image(group: zarr.Group, level: int) -> StoredImage:
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
    pixel_size_um, interval_s = _calibration(axes, _scale(multiscale, datasets[level], len(axes)))
    return StoredImage(
        array,
        [str(axis["name"]) for axis in axes] or _dimension_names(array),
        [str(channel.get("label") or "") for channel in channels],
        pixel_size_um,
        interval_s,
    )


def _scale(multiscale: dict[str, Any], dataset: dict[str, Any], ndim: int) -> list[float]:
    """Return the size of a pixel along each axis, the image's scale times that of its level; zeros where unknown."""
    transforms = [each for part in (multiscale, dataset) for each in part.get("coordinateTransformations") or []]
    scales = [np.asarray(each["scale"], float) for each in transforms if each.get("type") == "scale"]
    return np.prod(scales, axis=0).tolist() if scales else [0.0] * ndim


def _calibration(axes: list[dict[str, Any]], scale: list[float]) -> tuple[float | None, float | None]:
    """Return pixel size in um and frame interval in s; None where the metadata give no unit."""
    by_name = {str(axis["name"]).lower(): (size, axis.get("unit")) for axis, size in zip(axes, scale, strict=True)}
    y, x, t = (by_name.get(name, (None, None)) for name in "yxt")
    return square_pixel_um(length_um(*y), length_um(*x)), duration_s(*t)
