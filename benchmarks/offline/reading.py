"""What reading costs beside the engine, however a movie is stored."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.offline.batches import ENGINE
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine, FrameSource
from streamtrack.registry import build
from streamtrack.step import Detector
from streamtrack.types import Frame, LostFrame, Pixels

TOGETHER = 64
STORED: dict[str, dict[str, Any]] = {
    "uncompressed": {"compressors": None},
    "blosc lz4": {"compressors": BloscCodec(cname="lz4")},
    "zstd": {"compressors": ZstdCodec()},
    f"sharded, {TOGETHER} frames": {"shards": TOGETHER},
    f"{TOGETHER} frames a chunk": {"chunks": TOGETHER},
}
TARGET = 0.1


def reading(pixels: Pixels, place: Path, rounds: int) -> dict[str, Any]:
    """Return ms per frame of the engine alone and of it with reading, of the clock and of the processors.

    Both see the same frames, in turn; files are in the cache of the system.
    """
    engine: Engine = build("engines", PluginConfig(**ENGINE)).instance
    engine.prepare(pixels.shape[1:], pixels.dtype.name)
    rows = {name: _row(engine, _written(place / f"{n}.zarr", pixels, name), rounds) for n, name in enumerate(STORED)}
    engine.close()
    return {"frames": len(pixels), "rows": rows, "target_share": TARGET}


def _written(path: Path, pixels: Pixels, name: str) -> Path:
    stored = {"chunks": 1, **STORED[name]}
    frame = pixels.shape[1:]
    for key in ("chunks", "shards"):
        if key in stored:
            stored[key] = (stored[key], *frame)
    zarr.create_array(path, data=pixels, **stored)
    return path


def _row(engine: Engine, path: Path, rounds: int) -> dict[str, float]:
    kept = _read(path, list)
    alone, both, only = [], [], []
    for _ in range(rounds):
        alone.append(_timed(lambda: _search(engine, kept)))
        both.append(_timed(lambda: _read(path, lambda frames: _search(engine, frames))))
        only.append(_timed(lambda: _read(path, lambda frames: [None for _ in frames])))
    said = {"engine": alone, "engine and reading": both, "reading": only}
    row = {
        f"{name}, {clock}": round(median(each[at] for each in ms) / len(kept), 3)
        for name, ms in said.items()
        for at, clock in enumerate(("wall ms", "cpu ms"))
    }
    for at, clock in enumerate(("wall", "cpu")):
        ratio = median(with_[at] / without[at] for with_, without in zip(both, alone, strict=True))
        row[f"share, {clock}"] = round(ratio - 1, 4)
    return row


def _read(path: Path, use: Callable[[Iterable[Frame | LostFrame]], Any]) -> Any:
    source: FrameSource
    with closing(build("sources", PluginConfig(kind="zarr", path=str(path))).instance) as source:
        return use(source.frames())


def _search(engine: Engine, frames: Iterable[Frame | LostFrame]) -> None:
    sight = Detector(engine)
    for frame in frames:
        assert isinstance(frame, Frame)
        sight(frame, denoise=False)


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return ms of the clock and of this process."""
    began = (time.perf_counter(), time.process_time())
    call()
    return 1e3 * (time.perf_counter() - began[0]), 1e3 * (time.process_time() - began[1])
