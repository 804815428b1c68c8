"""All measurements of ``streamtrack bench``, one after the other, and their record."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from streamtrack import registry
from streamtrack.bench.cold_start import measure_cold_start
from streamtrack.bench.computer import describe, memory_mib
from streamtrack.bench.measuring import RunLength, measure_engine, measure_run, measure_step
from streamtrack.bench.replay import LoadedMovie, load_movie
from streamtrack.bench.summary import Timeline, summarise
from streamtrack.config import PluginConfig
from streamtrack.errors import ConfigError
from streamtrack.protocols import Engine
from streamtrack.step import Step

DEFAULT_MOVIE = "sim:vesicle?snr=4&density=500&frames=100&size=512&seed=90001"
SCHEMA = "streamtrack bench 1"
GC_NOTE = "objects that exist before a measurement are frozen (gc.freeze); the collector runs on new ones"
LEVELS = ("engine", "step", "run")
MODES = ("back to back", "paced")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes
    ----------
    movie
        What ``streamtrack track`` takes; its first frames are loaded into memory.
    engine
        The engine's table.
    fps
        Rate of the camera in the paced measurements; raises ConfigError if it is not above 0.
    """

    movie: str
    engine: dict[str, Any]
    fps: float
    extent: RunLength

    def __post_init__(self) -> None:
        if not 0 < self.fps <= 100_000:
            raise ConfigError(f"fps = {self.fps:g} is not possible: give a camera's rate above 0, for example 100")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The record, plain JSON, and the stamps behind it by ``"LEVEL, MODE"``."""

    record: dict[str, Any]
    timelines: dict[str, Timeline]


def run_plan(plan: Plan, on_stage: Callable[[str], None] = lambda stage: None) -> Measured:
    """Measure everything; ``on_stage`` hears what comes next. Raises StreamtrackError."""
    begin = memory_mib()
    on_stage("movie")
    movie = load_movie(plan.movie)
    on_stage("cold start")
    cold_start = measure_cold_start(plan.movie, plan.engine)
    engine: Engine = registry.build("engines", PluginConfig(**plan.engine)).instance
    try:
        engine.prepare(movie.info.shape, movie.info.dtype)
        timelines = _alone(plan, engine, movie, on_stage)
        engine_info = dict(engine.info)
    finally:
        engine.close()
    reports = _runs(plan, movie, timelines, on_stage)
    end = memory_mib()
    record = {
        "schema": SCHEMA,
        "computer": describe(),
        "movie": {
            "name": plan.movie,
            "shape": movie.info.shape,
            "dtype": movie.info.dtype,
            "loaded": len(movie.pixels),
        },
        "engine": engine_info,
        "extent": asdict(plan.extent),
        "fps": plan.fps,
        "gc": GC_NOTE,
        "cold_start": cold_start,
        "memory_mib": {"start": begin["now"], "peak": end["peak"], "end": end["now"]},
        "measurements": {name: summarise(line, plan.extent.warm_up_frames) for name, line in timelines.items()},
        "runs": reports,
    }
    return Measured(record, timelines)


def _alone(plan: Plan, engine: Engine, movie: LoadedMovie, on_stage: Callable[[str], None]) -> dict[str, Timeline]:
    """Measure the engine and the step, in this thread."""
    timelines = {}
    for mode, interval_ns in zip(MODES, (None, _interval_ns(plan)), strict=True):
        on_stage(f"engine, {mode}")
        timelines[f"engine, {mode}"] = measure_engine(engine, movie, plan.extent, interval_ns)
    for mode, interval_ns in zip(MODES, (None, _interval_ns(plan)), strict=True):
        on_stage(f"step, {mode}")
        linker = registry.build("linkers", PluginConfig(kind="imm")).instance
        linker.prepare(movie.info.shape)
        timelines[f"step, {mode}"] = measure_step(Step(engine, linker), movie, plan.extent, interval_ns)
    return timelines


def _runs(
    plan: Plan, movie: LoadedMovie, timelines: dict[str, Timeline], on_stage: Callable[[str], None]
) -> dict[str, Any]:
    """Measure whole runs, add their timelines, and return what of their reports is of interest."""
    found = {}
    for mode, fps in zip(MODES, (None, plan.fps), strict=True):
        name = f"run, {mode}"
        on_stage(name)
        n_frames = timelines[f"step, {mode}"].n_due  # as long as the step alone took
        timelines[name], report = measure_run(movie, PluginConfig(**plan.engine), n_frames, fps)
        found[name] = {
            "frames": {key: report["frames"][key] for key in ("processed", "lost", "lost_by_cause")},
            "ingest": report["config"]["ingest"],
            "sinks": report["outputs"]["sinks"],
            "write_ms": {key: value for key, value in report["latency_ms"].items() if key.startswith("write ")},
        }
    return found


def _interval_ns(plan: Plan) -> int:
    return round(1e9 / plan.fps)
