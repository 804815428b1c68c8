"""A block of frames, searched by whichever worker is free: what it is told, what it does, what it returns.

Nothing here knows dask. Each process keeps one engine, warm, and searches one block at a time.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrack import __version__
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError, SourceError
from streamtrack.plain import plain
from streamtrack.protocols import Engine, FrameSource, Remarking
from streamtrack.registry import build
from streamtrack.step import Detector
from streamtrack.types import DENOISED, Column, Detections, Frame, LostFrame, Values

_USUAL = ("y", "x", "score", "mass", "sigma")
_NO_PIXELS = np.empty((0, 0), np.uint8)


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told.

    Attributes
    ----------
    source, engine
        Tables of a run's configuration; paths are absolute.
    first, last
        Indices of the block's frames, ``last`` not included; both None for all that the source gives.
    shown_from
        The first frame that the engine is shown, so that it knows those before the block.
    is_last
        Whether the movie ends with the block: what the source says of its end belongs to it.
    pixels
        Whether the images are to be returned, too.
    denoise
        Whether denoised ones are.
    version
        Of streamtrack, where the job was made.
    """

    source: Mapping[str, Any]
    engine: Mapping[str, Any]
    config_folder: Path
    first: int | None = None
    last: int | None = None
    shown_from: int | None = None
    is_last: bool = True
    pixels: bool = False
    denoise: bool = False
    version: str = __version__

    def __str__(self) -> str:
        return "its frames" if self.first is None else f"frames {self.first} to {(self.last or 0) - 1}"


@dataclass(frozen=True, slots=True, eq=False)
class FoundBlock:
    """What a worker returns, in few arrays: a pickle of many small objects takes longer than linking them.

    Attributes
    ----------
    frames
        Shape (F, 4), int64: index, detections, masked pixels, and how long the engine took, ns.
    time_s
        Shape (F,), float64.
    table
        Shape (N, 5 + columns), float32: ``y, x, score, mass, sigma`` and what else the engine measures.
    columns
        Names of the latter.
    values, frame_values
        Of each frame, where there are any.
    lost
        Index and cause of frames that could not be had.
    pixels
        Shape (F, H, W), where they were asked for.
    denoised
        Shape (F, H, W), float32, where they were asked for and the engine can.
    engine, remarks, source_remarks
        What engine and source say, after this block.
    """

    frames: NDArray[np.int64]
    time_s: NDArray[np.float64]
    table: NDArray[np.float32]
    columns: tuple[str, ...]
    values: tuple[Values, ...]
    frame_values: tuple[Values, ...]
    lost: tuple[tuple[int, str], ...]
    pixels: NDArray[Any] | None
    denoised: NDArray[np.float32] | None
    engine: Mapping[str, Any]
    remarks: tuple[str, ...]
    source_remarks: tuple[str, ...]

    def detections(self) -> Iterator[Detections]:
        """Yield those of each frame."""
        ends = np.cumsum(self.frames[:, 1])
        for at, end in enumerate(ends):
            rows = np.ascontiguousarray(self.table[end - self.frames[at, 1] : end].T)
            usual = dict(zip(_USUAL, rows, strict=False))
            extra = dict(zip(self.columns, rows[len(_USUAL) :], strict=True))
            yield Detections(**usual, extra=extra, frame_values=self.frame_values[at] if self.frame_values else {})


class Declared(NamedTuple):
    """What an engine says of itself before it has seen anything."""

    columns: tuple[Column, ...]
    frame_columns: tuple[Column, ...]
    image: str
    frames_before: int
    info: Mapping[str, Any]


@dataclass(slots=True)
class _Warm:
    """The engine of this process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    table: str = ""
    engine: Engine | None = None

    def of(self, table: Mapping[str, Any], config_folder: Path) -> Engine:
        """Return an engine of these settings; one of others is closed."""
        key = json.dumps([plain(table), str(config_folder), _written(table)], sort_keys=True)
        if self.engine is not None and self.table != key:
            self.engine.close()
            self.engine = None
        if self.engine is None:
            self.engine = build("engines", PluginConfig(**table), config_folder=config_folder).instance
            self.table = key
        return self.engine


def _written(table: Mapping[str, Any]) -> list[int]:
    """Return when and how large a file of weights was written: it may be another one of the same name by now."""
    with suppress(OSError):
        about = os.stat(str(table.get("weights", "")))
        return [about.st_mtime_ns, about.st_size]
    return []


_warm = _Warm()


def declare(table: Mapping[str, Any], config_folder: Path) -> Declared:
    """Return what an engine of these settings measures; raises StreamtrackError where there is none."""
    with _warm.lock:
        engine = _warm.of(table, config_folder)
        columns, frame_columns = (tuple(getattr(engine, name, ())) for name in ("columns", "frame_columns"))
        image, before = getattr(engine, "image", DENOISED), getattr(engine, "frames_before", 0)
        return Declared(columns, frame_columns, image, before, plain(engine.info))


def search(job: Job) -> FoundBlock:
    """Search the frames of a block; errors of source and engine pass through."""
    if job.version != __version__:
        raise ConfigError(f"the worker has streamtrack {__version__}, not {job.version}: install the same everywhere")
    with _warm.lock, closing(open_part(job)) as source:  # a worker of several threads has one engine all the same
        engine = _warm.of(job.engine, job.config_folder)
        engine.prepare(source.info.shape, source.info.dtype)
        found, lost = _found(job, source, engine)
        return _block(job, found, lost, engine, source)


def open_part(job: Job) -> FrameSource:
    """Return a source of the frames that are shown to the engine."""
    source = dict(job.source)
    if job.first is not None:
        source["frames"] = f"{job.shown_from}:{'' if job.is_last else job.last}"
    opened: FrameSource = build("sources", PluginConfig(**source), config_folder=job.config_folder).instance
    return opened


class _Found(NamedTuple):
    """A frame without its image, unless that is wanted, and what is in it."""

    frame: Frame
    detections: Detections
    masked_pixels: int
    took_ns: int
    denoised: NDArray[np.float32] | None


def _found(job: Job, source: FrameSource, engine: Engine) -> tuple[list[_Found], list[LostFrame]]:
    """Return the frames of the block, and the lost ones."""
    found: list[_Found] = []
    lost: list[LostFrame] = []
    sight = Detector(engine)
    for item in source.frames():
        if job.shown_from is not None and item.index < job.shown_from:
            raise SourceError(f"{source.info.name}: frame {item.index} came where {job.shown_from} was asked for")
        if job.last is not None and item.index >= job.last:  # the movie has grown since it was cut
            break
        belongs = job.first is None or item.index >= job.first
        if isinstance(item, LostFrame):
            lost += [item] if belongs else []
            continue
        seen = sight(item, denoise=job.denoise and belongs)
        if belongs:
            kept = item if job.pixels else replace(item, pixels=_NO_PIXELS)
            took_ns = monotonic_ns() - seen.began_ns
            found.append(_Found(kept, seen.detections, seen.masked_pixels, took_ns, seen.denoised))
    return found, lost


def _block(job: Job, found: list[_Found], lost: list[LostFrame], engine: Engine, source: FrameSource) -> FoundBlock:
    frames = [(each.frame.index, len(each.detections), each.masked_pixels, each.took_ns) for each in found]
    columns = tuple(column.name for column in getattr(engine, "columns", ()))
    none = np.empty((0, len(_USUAL) + len(columns)), np.float32)
    values = tuple(each.frame.values for each in found)
    frame_values = tuple(each.detections.frame_values for each in found)
    denoised = [each.denoised for each in found if each.denoised is not None]
    return FoundBlock(
        np.array(frames, np.int64).reshape(-1, 4),
        np.array([each.frame.time_s for each in found]),
        np.concatenate([none, *(_table(each.detections, columns) for each in found)]),
        columns,
        values if any(values) else (),
        frame_values if any(frame_values) else (),
        tuple((each.index, each.cause) for each in lost),
        np.stack([each.frame.pixels for each in found]) if job.pixels and found else None,
        np.stack(denoised) if denoised else None,
        plain(engine.info),
        tuple(engine.remarks()) if isinstance(engine, Remarking) else (),
        tuple(source.remarks()) if isinstance(source, Remarking) else (),
    )


def _table(found: Detections, columns: tuple[str, ...]) -> NDArray[np.float32]:
    parts = [getattr(found, name) for name in _USUAL] + [found.extra[name] for name in columns]
    return np.stack(parts, axis=1).astype(np.float32, copy=False)
