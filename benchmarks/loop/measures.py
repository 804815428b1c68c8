"""What measures cost per frame.

``python -m benchmarks.measures``

500 vesicles of 512 x 512 px at SNR 4, on their true tracks; every installed measure by itself, as `step` calls it, all
particles in every frame. CPU time of the loop's thread counts the work, not what else the machine does; wall time is
beside it, and how busy the machine was. Measures that compute in threads of their own take more CPU than is seen here.
"""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.shared.record import Record, command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.config import PluginConfig
from streamtrack.measures.tracks import TrackMeasures
from streamtrack.registry import build, names
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.types import Detections, Pixels, TrackUpdate

FRAMES, QUICK_FRAMES = 120, 15
WARM_UP_FRAMES = 5
VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {"size, fit": ("size", {"method": "fit"})}

FrameOfMovie = tuple[Pixels, Detections, TrackUpdate]


def main() -> None:
    """Print the table, and write the record."""
    parser = command_parser(__doc__, f"{QUICK_FRAMES} frames")
    arguments = parser.parse_args()
    frames = list(movie(QUICK_FRAMES if arguments.quick else FRAMES))
    kinds = {kind: (kind, {}) for kind in names("measures")} | dict(VARIANTS)
    rows = {name: measure(kind, settings, frames) for name, (kind, settings) in kinds.items()}
    print(f"{'':14}{'CPU ms':>10}{'wall ms':>10}{'99 % ms':>10}")
    for name, row in rows.items():
        print(f"{name:14}{row['cpu_ms']:10.2f}{row['wall_ms']:10.2f}{row['wall_99_ms']:10.2f}")
    busy = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    record: Record = {
        "command": command_line("measures"),
        "particles": float(np.mean([len(found) for _, found, _ in frames])),
        "frames": len(frames) - WARM_UP_FRAMES,
        "load_average": busy,
        "measures": rows,
        "machine": describe(),
    }
    write(record, arguments.out)


def movie(n_frames: int) -> Iterator[FrameOfMovie]:
    """Yield frames, the particles in them, and their tracks."""
    simulated = Movie(MovieSettings("vesicle", 4.0, 500.0, n_frames))
    none = np.empty(0, np.int64)
    for frame in range(n_frames):
        rows = simulated.tracks[simulated.tracks.frame == frame]
        y, x = (rows[name].to_numpy(np.float32) for name in ("y", "x"))
        ones = np.ones(len(rows), np.float32)
        update = TrackUpdate(rows.particle.to_numpy(np.int64), ones, none, none, none, len(rows), frame)
        yield simulated.noisy(frame), Detections(y, x, ones, ones, ones), update


def measure(kind: str, settings: Mapping[str, Any], frames: list[FrameOfMovie]) -> dict[str, float]:
    """Return the median CPU and wall time of a frame, and the wall time that 1 % exceed, ms."""
    plugin = build("measures", PluginConfig(kind=kind, **settings)).instance
    pixels, _, _ = frames[0]
    plugin.prepare(pixels.shape, pixels.dtype.name)
    stage = TrackMeasures({kind: plugin})
    cpu_ms, wall_ms = [], []
    for each in frames:
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        stage.add(*each)
        wall_ms.append((time.perf_counter_ns() - wall) / 1e6)
        cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
    wall_99 = float(np.percentile(wall_ms[WARM_UP_FRAMES:], 99))
    return {
        "cpu_ms": float(np.median(cpu_ms[WARM_UP_FRAMES:])),
        "wall_ms": float(np.median(wall_ms[WARM_UP_FRAMES:])),
        "wall_99_ms": wall_99,
    }


if __name__ == "__main__":
    main()
