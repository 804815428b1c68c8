"""What everything but the engine costs per frame: grab, hand over, link, write.

``python -m benchmarks.overhead [--quick] [--out FILE.json]``

A simulated movie (vesicles, 512x512, 500 particles, SNR 4) is written to zarr arrays of one chunk a frame with several
compressors, then replayed through the real plug-ins, one stage after the other in one thread so that nothing hides
behind the engine, and with the caches as the engine leaves them. Stages are summed frame by frame; medians and tails
are those of the sums. A source reads several frames at a time: each of them bears its share of the read ("grab").
"""

import argparse
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from streamtrack.channel import Channel, Policy
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.registry import build
from streamtrack.report import machine, versions
from streamtrack.step import Step
from streamtrack.types import Frame

STAGES = ("grab", "hand over", "detect", "link", "write")
COMPRESSORS = {"none": None, "blosc lz4": BloscCodec(cname="lz4"), "zstd": ZstdCodec()}
WARM_UP_FRAMES = READ_FRAMES = 16
SEED = 90_001


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="48 frames instead of 304, uncompressed only")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    arguments = parser.parse_args()
    n_frames = 48 if arguments.quick else 304
    figures = {}
    for name in ("none",) if arguments.quick else COMPRESSORS:
        with tempfile.TemporaryDirectory() as folder:
            movie = write_movie(Path(folder) / "movie.zarr", n_frames, COMPRESSORS[name])
            figures[name] = summarise(replay(movie, Path(folder)))
        print_table(name, figures[name])
    if arguments.out:
        record = {
            "command": " ".join(["python -m benchmarks.overhead", *sys.argv[1:]]),
            "machine": machine(),
            "versions": versions(),
            "ms": figures,
        }
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_movie(path: Path, n_frames: int, compressor: Any) -> Path:
    """Write the simulated movie as uint16, a chunk a frame."""
    source = PluginConfig(kind="sim", scenario="vesicle", snr=4, density=500, frames=n_frames, size=512, seed=SEED)
    array = zarr.create_array(
        path, shape=(n_frames, 512, 512), chunks=(1, 512, 512), dtype="uint16", compressors=compressor
    )
    for frame in build("sources", source).instance.frames():
        array[frame.index] = frame.pixels
    return path


def replay(movie: Path, folder: Path) -> dict[str, np.ndarray]:
    """Replay the movie; return ns per stage and frame, each of shape (frames,), warm-up left out."""
    source = build("sources", PluginConfig(kind="zarr", path=movie)).instance
    engine = build("engines", PluginConfig(kind="denodet")).instance
    linker = build("linkers", PluginConfig(kind="imm")).instance
    sinks = [build("sinks", PluginConfig(kind=kind)).instance for kind in ("tables", "overview")]
    engine.prepare(source.info.shape, source.info.dtype)
    linker.prepare(source.info.shape)
    for sink in sinks:
        sink.open(folder, source.info)
    step = Step(engine, linker, wants_denoised=lambda index: any(sink.wants_denoised(index) for sink in sinks))
    channel: Channel[Frame] = Channel(8, Policy.BLOCK, lambda frame, cause: None)
    rows = []
    gc.collect()
    gc.freeze()
    frames = source.frames()
    while True:
        begin = monotonic_ns()
        frame = next(frames, None)
        grabbed = monotonic_ns()
        if frame is None:
            break
        channel.put(frame, 1)
        result = step(channel.get(1))
        decided = monotonic_ns()
        for sink in sinks:
            sink.write(result)
        s = result.stamps
        hand_over = (s.dequeued - grabbed) + (decided - s.linked)
        rows.append(
            (grabbed - begin, hand_over, s.detected - s.dequeued, s.linked - s.detected, monotonic_ns() - decided)
        )
    gc.unfreeze()
    for sink in sinks:
        sink.close()
    table = np.array(rows[WARM_UP_FRAMES:], np.float64)
    for first in range(0, len(table), READ_FRAMES):
        table[first : first + READ_FRAMES, 0] = table[first : first + READ_FRAMES, 0].mean()
    return dict(zip(STAGES, table.T, strict=True))


def summarise(durations_ns: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return p50, p99 and max in ms per stage and of all stages but the engine, summed frame by frame."""
    rest = sum(durations for stage, durations in durations_ns.items() if stage != "detect")
    table = {**durations_ns, "all but detect": rest}
    return {
        stage: {
            name: round(float(np.percentile(ns, q)) / 1e6, 4) for name, q in (("p50", 50), ("p99", 99), ("max", 100))
        }
        for stage, ns in table.items()
    }


def print_table(compressor: str, figures: dict[str, dict[str, Any]]) -> None:
    print(f"zarr, compressor {compressor}\n{'ms per frame':16}{'p50':>9}{'p99':>9}{'max':>9}")
    for stage, row in figures.items():
        print(f"{stage:16}{row['p50']:9.3f}{row['p99']:9.3f}{row['max']:9.3f}")


if __name__ == "__main__":
    main()
