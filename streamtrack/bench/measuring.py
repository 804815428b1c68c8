"""The measurements: engine alone, step alone, a whole run; each gives the stamps of every frame."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.bench.pacing import CameraClock
from streamtrack.bench.replay import LoadedMovie, ReplaySource
from streamtrack.bench.summary import Timeline
from streamtrack.bench.timings import read_timings
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import StreamtrackError
from streamtrack.garbage import frozen_gc
from streamtrack.protocols import Engine
from streamtrack.session import Session
from streamtrack.step import Step
from streamtrack.types import Frame

ENGINE_STAGES = ("detect",)
STEP_STAGES = ("detect", "link", "decide")
RUN_STAGES = ("queue", "detect", "link", "decide")
SINKS = ("tables", "overview", "timings")
MOST_FRAMES = 200_000


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long a measurement lasts: until ``seconds`` are over and ``least_frames`` are done, warm-up included."""

    seconds: float
    least_frames: int
    warm_up_frames: int


FULL = RunLength(seconds=20.0, least_frames=60, warm_up_frames=20)
QUICK = RunLength(seconds=1.5, least_frames=15, warm_up_frames=5)


def measure_engine(engine: Engine, movie: LoadedMovie, extent: RunLength, interval_ns: int | None = None) -> Timeline:
    """Time ``detect`` of a prepared engine on frames that follow each other."""
    engine.reset()

    def detect(k: int) -> tuple[int, ...]:
        pixels = movie.at(k)
        begin = monotonic_ns()
        engine.detect(pixels, denoise=False)
        return begin, monotonic_ns()

    return _repeat(detect, ENGINE_STAGES, extent, interval_ns)


def measure_step(step: Step, movie: LoadedMovie, extent: RunLength, interval_ns: int | None = None) -> Timeline:
    """Time `Step` in this thread: no source, no queue, no sinks. A step serves one measurement."""

    def take(k: int) -> tuple[int, ...]:
        stamps = step(Frame(k, movie.at(k), monotonic_ns(), float(k))).stamps
        return stamps.dequeued, stamps.detected, stamps.linked, stamps.decided

    return _repeat(take, STEP_STAGES, extent, interval_ns)


def measure_run(
    movie: LoadedMovie, engine: PluginConfig, n_frames: int, fps: float | None = None
) -> tuple[Timeline, dict[str, Any]]:
    """Time a `Session` as a user runs it, with the sinks of ``streamtrack track``; return also the run's report.

    With a rate, frames come as from a camera, and the queue drops what the loop has no time for. Without one the source
    waits for the loop: then the queue is full, and only the rate and the stages behind the queue say something. A
    frame's time begins when the source has it, and ends when the triggers have decided.

    Raises
    ------
    StreamtrackError
        The run failed.
    """
    config = RunConfig(engine=engine, sinks=tuple(PluginConfig(kind=kind) for kind in SINKS))
    source = ReplaySource(movie=movie, n_frames=n_frames, fps=fps)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        report = Session(config, Path(folder) / "run", source=source).run()
        if report["error"]:
            raise StreamtrackError(f"the run that was to be measured failed: {report['error']}")
        if report["status"] == "interrupted":
            raise KeyboardInterrupt
        rows = read_timings(Path(folder) / "run")
    return run_timeline(rows, n_frames, round(1e9 / fps) if fps else None), report


def run_timeline(rows: NDArray[np.void], n_frames: int, interval_ns: int | None) -> Timeline:
    """Return the timeline of a run of ``n_frames`` from the rows of its `TimingSink`.

    Frames that the loop took after the camera's end are left out, also from those that were due: had it gone on, newer
    ones would have taken their places in the queue.
    """
    if interval_ns is not None and len(rows):
        in_time = rows["dequeued"] <= rows["grabbed"][-1] + interval_ns
        n_frames -= int(np.count_nonzero(~in_time))
        rows = rows[in_time]
    stamps = [rows[name] for name in ("grabbed", "dequeued", "detected", "linked", "decided")]
    return Timeline(rows["frame"], np.stack(stamps, axis=1), RUN_STAGES, n_frames, interval_ns)


def _repeat(
    take: Callable[[int], tuple[int, ...]], stages: tuple[str, ...], extent: RunLength, interval_ns: int | None
) -> Timeline:
    """Call ``take`` for frame after frame; it returns the stamps of begin and end of the stages."""
    index = np.zeros(MOST_FRAMES, np.int64)
    stamps = np.zeros((MOST_FRAMES, len(stages) + 1), np.int64)
    n = 0
    with frozen_gc():
        pace = CameraClock(interval_ns)
        end_ns = monotonic_ns() + round(extent.seconds * 1e9)
        while n < MOST_FRAMES and (n < extent.least_frames or monotonic_ns() < end_ns):
            index[n] = pace.next_slot()
            stamps[n] = take(n)
            n += 1
    return Timeline(index[:n], stamps[:n], stages, int(index[n - 1]) + 1, interval_ns)
