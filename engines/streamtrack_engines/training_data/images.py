"""Images in which somebody marked the particles, as the network sees them: what own training data are made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamtrack import registry
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, EngineError
from streamtrack.protocols import FrameSource
from streamtrack.types import Frame
from streamtrack_engines.levels import Levels, binning_for

MOST_BEFORE = 7
"""Frames before a marked one that are kept: no network sees more."""

_MARGIN_PX = 2.0
"""So far outside the image a point may lie: a click beside the border."""
_MOST_BYTES = 6_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """What is marked in one frame: places (N, 2), y and x in px of the frame as the network sees it, and radii (N,)."""

    points: NDArray[np.float32]
    radius_px: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class MarkedImage:
    """An image or a movie with marks.

    Attributes
    ----------
    name
        Of its file.
    frames
        By their numbers: (H, W), the levels that the engine makes of the pixels. Those that are marked, and those
        before them.
    marked
        By the numbers of the frames.
    raw_shape
        (H, W) of the image's own pixels.
    """

    name: str
    frames: Mapping[int, NDArray[Any]]
    marked: Mapping[int, Marked] = field(default_factory=dict)
    raw_shape: tuple[int, int] = (0, 0)

    @property
    def is_still(self) -> bool:
        """Whether it is a single image."""
        return len(self.frames) == 1


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read: settings of their source, their spots' width, and what a frame without marks means."""

    source: tuple[tuple[str, Any], ...] = ()
    spot_size: float | None = None
    empty_frames: bool = False


def read_image(path: Path, marks: pd.DataFrame, marked_in: str, reading: Reading) -> MarkedImage:
    """Return an image with its marks; raises ConfigError where they do not belong to it, SourceError, EngineError.

    Parameters
    ----------
    path
        What a source opens.
    marks
        As of `streamtrack_engines.training_data.marks.read_marks`.
    marked_in
        Name of the file that they are in.
    """
    source: FrameSource = registry.build(
        "sources", PluginConfig(**{**registry.source_from_text(str(path)), **dict(reading.source)})
    ).instance
    try:
        info = source.info
        if info.n_frames == 1 and marks["frame"].nunique() == 1:
            marks = marks.assign(frame=0)  # as some programs count slices from 1
        marks = marks.drop_duplicates(["frame", "y", "x"])  # twice in a table, there is one particle all the same
        check_places(marks, info.shape, marked_in, path.name)
        wanted = _wanted(marks, info.n_frames, marked_in, path.name, reading.empty_frames)
        levels = Levels(info.shape, info.dtype, binning_for(reading.spot_size), "bright")
        frames = dict(_frames(source, wanted, levels))
    except EngineError as error:
        raise EngineError(f"{path.name}: {error}") from error
    finally:
        source.close()
    marked = {
        index: _marked(marks[marks["frame"] == index], binning_for(reading.spot_size))
        for index in frames
        if reading.empty_frames or (marks["frame"] == index).any()
    }
    return MarkedImage(path.name, frames, marked, info.shape)


def _wanted(marks: pd.DataFrame, n_frames: int | None, marked_in: str, image: str, empty_frames: bool) -> set[int]:
    """Return the numbers of the frames that are needed."""
    first, last = (int(marks["frame"].min()), int(marks["frame"].max())) if len(marks) else (0, 0)
    if len(marks) and (first < 0 or (n_frames is not None and last >= n_frames)):
        has = "a single image" if n_frames == 1 else f"frames 0 to {(n_frames or 0) - 1}"
        cure = "number the frames from 0" if first > 0 else "is it the table of another image?"
        raise ConfigError(f"{marked_in} has marks in frame {first if first < 0 else last}, {image} is {has}: {cure}")
    if empty_frames:
        return set(range(n_frames or last + 1))
    marked = marks["frame"].unique().tolist()
    return {index for frame in marked for index in range(max(0, frame - MOST_BEFORE), frame + 1)}


def _frames(source: FrameSource, wanted: set[int], levels: Levels) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the frames that are wanted as levels; raises ConfigError where they need too much memory."""
    size = levels.size
    dtype = np.uint8 if size.itemsize == 1 else np.uint16
    if len(wanted) * size.height * size.width * size.itemsize > _MOST_BYTES:
        raise ConfigError(f"{source.info.name}: {len(wanted)} frames are more than fit into memory: mark fewer of them")
    last = max(wanted, default=-1)
    for frame in source.frames():
        if frame.index > last:
            return
        if isinstance(frame, Frame) and frame.index in wanted:
            written = np.empty((size.height, size.width), dtype)
            levels.write(frame.pixels, written)
            yield frame.index, written


def _marked(marks: pd.DataFrame, binning: int) -> Marked:
    places = (marks[["y", "x"]].to_numpy(np.float64) - (binning - 1) / 2) / binning
    return Marked(places.astype(np.float32), (marks["radius_px"].to_numpy(np.float64) / binning).astype(np.float32))


def check_places(marks: pd.DataFrame, shape: tuple[int, int], marked_in: str, image: str) -> None:
    """Raise ConfigError where marks lie outside an image (H, W), with the likely reason."""
    y, x = marks["y"].to_numpy(), marks["x"].to_numpy()
    outside = _outside(y, x, shape)
    if not outside.any():
        return
    row = int(outside.argmax())
    said = f"{marked_in}: {outside.sum()} of {len(marks)} points lie outside {image}, which has {shape[0]} rows and "
    said += f"{shape[1]} columns (the first: y = {y[row]:g}, x = {x[row]:g})"
    if not _outside(x, y, shape).any():
        raise ConfigError(f"{said}; with y and x swapped all lie inside: swap the names of these columns")
    raise ConfigError(f"{said}: is it the table of another image, or of one that was cropped?")


def _outside(y: NDArray[Any], x: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.bool_]:
    low = np.minimum(y, x) < -_MARGIN_PX
    return np.asarray(low | (y > shape[0] - 1 + _MARGIN_PX) | (x > shape[1] - 1 + _MARGIN_PX))
