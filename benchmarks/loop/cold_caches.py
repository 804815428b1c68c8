"""What linking costs right after an engine has emptied the caches, beside what it costs when they are warm.

``python -m benchmarks.cold_caches [--quick] [--out FILE.json]``

500 particles of 512 x 512 px that switch between diffusion and directed motion (`benchmarks.shared.particles`). Before
each frame the default engine detects in an image of that size; then the linker ``imm`` links the frame, *cold*. A twin
that was given the linker's state from before the frame, a moment ago, links it again, *warm*: the same work on the
same numbers. ms per frame, CPU time of the thread and wall clock; the ratio is the median over the pairs.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.particles import SHAPE, ParticleSettings, stream
from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe
from streamtrack.config import PluginConfig
from streamtrack.garbage import frozen_gc
from streamtrack.latency import percentiles
from streamtrack.linking.imm import ImmLinker
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.types import Detections

MOVIE = ParticleSettings("switching", 500, 240, seed=90002)
WARM_UP_FRAMES = 40
CLOCKS = ("cpu", "wall")


def main() -> None:
    """Run the benchmark, print its table and write its file."""
    arguments = command_parser(__doc__, "60 frames instead of 240").parse_args()
    engine: Engine = build("engines", PluginConfig(kind="denodet")).instance
    engine.prepare(SHAPE, "uint16")
    ms = measure(engine, 60 if arguments.quick else MOVIE.frames)
    engine.close()
    record = {"command": command_line("cold_caches"), "computer": describe(), **figures(ms[WARM_UP_FRAMES:])}
    for clock in CLOCKS:
        cold, warm = record[clock]["cold_ms"], record[clock]["warm_ms"]
        print(
            f"{clock:5} median ms: cold {cold['p50']:.3f}, warm {warm['p50']:.3f}; {record[clock]['ratio']:.2f} times"
        )
    write(record, arguments.out)


def measure(engine: Engine, n_frames: int) -> NDArray[np.float64]:
    """Return ms of each frame, shape (n_frames, 2, 2): cold and warm; CPU time and wall clock."""
    image = np.random.default_rng(1).poisson(30, SHAPE).astype(np.uint16)
    linker, twin = ImmLinker(), ImmLinker()
    linker.prepare(SHAPE)
    ms = np.zeros((n_frames, 2, len(CLOCKS)))
    with frozen_gc():
        for index, (found, _) in zip(range(n_frames), stream(MOVIE), strict=False):
            state = {name: array.copy() for name, array in linker.state().items()}
            engine.detect(image, denoise=False)
            ms[index, 0] = _took_ms(linker, found, index)
            twin.restore(state)
            ms[index, 1] = _took_ms(twin, found, index)
    return ms


def _took_ms(linker: ImmLinker, found: Detections, index: int) -> NDArray[np.float64]:
    begun = time.thread_time_ns(), time.perf_counter_ns()
    linker.update(found, index, float(index))
    return np.subtract((time.thread_time_ns(), time.perf_counter_ns()), begun) / 1e6


def figures(ms: NDArray[np.float64]) -> dict[str, Any]:
    """Return percentiles of both, and how many times the warm time the cold one is, by clock."""
    return {
        clock: {
            "cold_ms": percentiles(ms[:, 0, k]),
            "warm_ms": percentiles(ms[:, 1, k]),
            "ratio": float(np.median(ms[:, 0, k] / ms[:, 1, k])),
        }
        for k, clock in enumerate(CLOCKS)
    }


if __name__ == "__main__":
    main()
