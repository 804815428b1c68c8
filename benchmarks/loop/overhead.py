"""What everything but the engine costs per frame.

``python -m benchmarks.overhead [--quick] [--out FILE.json]``

*Pipeline overhead* is what stands between the source and the sinks beside the engine: handing the frame from the
source's thread to the loop's, linking, deciding, and queueing the result for every sink. It is measured with the real
parts and threads: a simulated movie (vesicles, 512x512, 500 particles, SNR 4) comes from memory as from a camera that
is much slower than the engine, so that no frame waits for another; the sinks of ``streamtrack track`` write in threads
of their own meanwhile. Stages are summed frame by frame; percentiles are those of the sums.

Apart from that: reading a frame from zarr with several compressors, one chunk a frame, after the engine has emptied the
caches (a source reads several frames at a time: each bears its share), and what the sinks' threads do with a frame.
"""

import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.bench.replay import LoadedMovie, ReplaySource, load_movie
from streamtrack.channel import Channel, ChannelClosed, Policy
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.fanout import Fanout
from streamtrack.garbage import frozen_gc
from streamtrack.latency import percentiles
from streamtrack.protocols import Engine, FrameSource
from streamtrack.registry import build
from streamtrack.step import Step
from streamtrack.types import Frame

MOVIE = "sim:vesicle?snr=4&density=500&frames=64&size=512&seed=90001"
STAGES = ("hand over", "detect", "link", "decide", "publish")
COMPRESSORS = {"none": None, "blosc lz4": BloscCodec(cname="lz4"), "zstd": ZstdCodec()}
SINKS = ("tables", "overview")
WARM_UP_FRAMES = READ_FRAMES = 16
SLOWER_THAN_ENGINE = 1.8
WAIT_S = 60.0


def main() -> None:
    """Run the benchmark and print its tables."""
    arguments = command_parser(__doc__, "48 frames instead of 304, one compressor").parse_args()
    n_frames = 48 if arguments.quick else 304
    movie = load_movie(MOVIE)
    engine: Engine = build("engines", PluginConfig(kind="denodet")).instance
    engine.prepare(movie.info.shape, movie.info.dtype)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        stamps, sinks_ms = run_pipeline(movie, engine, n_frames, Path(folder))
        compressors = ["none"] if arguments.quick else list(COMPRESSORS)
        reading = {name: read(movie, engine, n_frames // 2, name, Path(folder)) for name in compressors}
    record = {
        "command": command_line("overhead"),
        "computer": describe(),
        "engine": dict(engine.info),
        "pipeline_ms": pipeline_figures(stamps[WARM_UP_FRAMES:]),
        "reading_ms": {name: percentiles(ns[WARM_UP_FRAMES:] / 1e6) for name, ns in reading.items()},
        "sink_threads_ms": sinks_ms,
    }
    engine.close()
    print_tables(record)
    write(record, arguments.out)


def run_pipeline(
    movie: LoadedMovie, engine: Engine, n_frames: int, folder: Path
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return stamps in ns, begin of the first stage and end of each, (n_frames, 6), and the sinks' ms per frame."""
    linker = build("linkers", PluginConfig(kind="imm")).instance
    linker.prepare(movie.info.shape)
    fanout = Fanout({kind: build("sinks", PluginConfig(kind=kind)).instance for kind in SINKS}, {}, lossless=True)
    source = ReplaySource(movie=movie, n_frames=n_frames, fps=1e9 / (SLOWER_THAN_ENGINE * engine_ns(engine, movie)))
    channel: Channel[Frame] = Channel(8, Policy.LATEST, lambda frame, cause: None)
    reader = threading.Thread(target=_feed, args=(source, channel), daemon=True)
    step = Step(engine, linker, wants_denoised=fanout.wants_denoised)
    stamps = np.zeros((n_frames, len(STAGES) + 1), np.int64)
    fanout.start(folder, source.info)
    n = 0
    with frozen_gc():
        reader.start()
        while (frame := _next(channel)) is not None:
            result = step(frame)
            fanout.publish(result)
            s = result.stamps
            stamps[n] = s.grabbed, s.dequeued, s.detected, s.linked, s.decided, monotonic_ns()
            n += 1
    reader.join(WAIT_S)
    fanout.finish(WAIT_S)
    return stamps[:n], fanout.outcome()["write_ms"]


def engine_ns(engine: Engine, movie: LoadedMovie) -> float:
    """Return how long the engine takes for most frames: nine of ten."""
    took = []
    for k in range(WARM_UP_FRAMES):
        begin = monotonic_ns()
        engine.detect(movie.at(k), denoise=False)
        took.append(monotonic_ns() - begin)
    return float(np.percentile(took, 90))


def _feed(source: FrameSource, channel: Channel[Frame]) -> None:
    for frame in source.frames():
        assert isinstance(frame, Frame)
        channel.put(frame, WAIT_S)
    channel.close()


def _next(channel: Channel[Frame]) -> Frame | None:
    try:
        return channel.get(WAIT_S)
    except ChannelClosed:
        return None


def pipeline_figures(stamps: NDArray[np.int64]) -> dict[str, Any]:
    """Return the percentiles of every stage, and of all but the engine, summed frame by frame."""
    ms = np.diff(stamps, axis=1) / 1e6
    figures = {stage: percentiles(column) for stage, column in zip(STAGES, ms.T, strict=True)}
    return figures | {"overhead": percentiles(ms.sum(axis=1) - ms[:, STAGES.index("detect")])}


def read(movie: LoadedMovie, engine: Engine, n_frames: int, compressor: str, folder: Path) -> NDArray[np.float64]:
    """Return ns per frame, (n_frames,), for reading a movie on disk while the engine works on each of its frames."""
    path = folder / f"{compressor}.zarr"
    height, width = movie.info.shape
    array = zarr.create_array(
        path,
        shape=(n_frames, height, width),
        chunks=(1, height, width),
        dtype="uint16",
        compressors=COMPRESSORS[compressor],
    )
    for index in range(n_frames):
        array[index] = movie.at(index)
    frames = build("sources", PluginConfig.model_validate({"kind": "zarr", "path": path})).instance.frames()
    took = np.zeros(n_frames)
    engine.prepare((height, width), "uint16")
    with frozen_gc():
        for index in range(n_frames):
            begin = monotonic_ns()
            frame = next(frames)
            took[index] = monotonic_ns() - begin
            engine.detect(frame.pixels, denoise=False)
    for first in range(0, n_frames, READ_FRAMES):
        took[first : first + READ_FRAMES] = took[first : first + READ_FRAMES].mean()
    return took


def print_tables(record: dict[str, Any]) -> None:
    columns = ("p50", "p99", "max")
    for title in ("pipeline_ms", "reading_ms", "sink_threads_ms"):
        print(f"{title:18}" + "".join(f"{name:>9}" for name in columns))
        for stage, row in record[title].items():
            cells = ("-" if row.get(name) is None else f"{row[name]:.3f}" for name in columns)
            print(f"  {stage:16}" + "".join(f"{cell:>9}" for cell in cells))


if __name__ == "__main__":
    main()
