"""The measurements of ``benchmarks.gpu``, for a back end by its name; any back end will do, also one on the CPU."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.device import copies_ms, graph_ms
from benchmarks.gpu.parity import (
    agreement,
    compare_tracks,
    detect_all,
    frames_of,
    parity_movies,
    track_movie,
    tracking_movie,
)
from benchmarks.gpu.providers import PROVIDERS, ProviderEngine
from streamtrack.bench.computer import describe
from streamtrack.bench.measuring import RunLength, measure_engine, measure_run
from streamtrack.bench.replay import LoadedMovie
from streamtrack.bench.summary import summarise
from streamtrack.clock import monotonic_ns
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.simulation import Movie, MovieSettings
from streamtrack.types import SourceInfo
from streamtrack_engines.engine import DenodetEngine

REFERENCE = "onnxruntime"
PARITY_PX = 256
RUN_PX = 512
INTERVAL_NS = 10_000_000
CAMERA_FPS = 1000.0
TABLE_BYTES = 2048 * 5 * 4
SEED = 90_003


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: frames, and the extent of each latency measurement."""

    sizes_px: tuple[int, ...]
    parity_frames: int
    tracked_frames: int
    loaded_frames: int
    device_frames: int
    run_frames: int
    latency: RunLength


FULL = Amount((256, 512, 1024, 2048), 34, 100, 8, 300, 5000, RunLength(3.0, 1000, 50))
QUICK = Amount((256, 512), 4, 8, 4, 20, 100, RunLength(0.2, 20, 5))


def measure(backends: list[str], amount: Amount) -> dict[str, Any]:
    """Return the record of all measurements of some back ends; a measurement that fails is named in ``failed``.

    Names are streamtrack's own, or those of `benchmarks.gpu.providers`, which no run can be made with.
    """
    failed: dict[str, str] = {}

    def attempt(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        print(what, file=sys.stderr, flush=True)
        try:
            return function(*arguments)
        except Exception as error:  # a machine that was hard to get shall give what it can
            failed[what] = f"{type(error).__name__}: {error}"
            return None

    def of_each(what: str, function: Callable[[str, Amount], Any], names: list[str]) -> dict[str, Any]:
        return {name: attempt(f"{what}, {name}", function, name, amount) for name in names}

    def latencies(backend: str) -> dict[str, Any]:
        return {
            str(px): attempt(f"engine, {backend}, {px} px", engine_latency, backend, px, amount)
            for px in amount.sizes_px
        }

    sizes = {"table": TABLE_BYTES} | {f"frame of {px} px": 2 * px**2 for px in amount.sizes_px}
    return {
        "computer": describe(),
        "amount": asdict(amount),
        "parity": of_each("parity", parity, backends),
        "tracks": of_each("tracks", tracks, backends),
        "engine": {name: latencies(name) for name in backends},
        "copies_ms": {
            what: attempt(f"copies, {what}", copies_ms, size, amount.device_frames) for what, size in sizes.items()
        },
        "runs": of_each("run", whole_run, [name for name in backends if name not in PROVIDERS]),
        "failed": failed,
    }


def parity(backend: str, amount: Amount) -> dict[str, Any]:
    """Return how well a back end agrees with ONNX Runtime on the CPU."""
    movies = [frames_of(movie) for movie in parity_movies(amount.parity_frames, PARITY_PX)]
    found = []
    for name in (REFERENCE, backend):
        engine = open_engine(name, PARITY_PX)
        found.append([each for frames in movies for each in detect_all(engine, frames)])
        engine.close()
    return agreement(*found)


def tracks(backend: str, amount: Amount) -> dict[str, Any]:
    """Return how the tracks that a back end leads to compare with those of ONNX Runtime on the CPU."""
    movie = tracking_movie(amount.tracked_frames, PARITY_PX)
    found = []
    for name in (REFERENCE, backend):
        engine = open_engine(name, PARITY_PX)
        found.append(track_movie(engine, frames_of(movie)))
        engine.close()
    return compare_tracks(movie.tracks[["frame", "particle", "y", "x"]], *found)


def engine_latency(backend: str, size_px: int, amount: Amount) -> dict[str, Any]:
    """Return an engine's latency on square frames: on the device, back to back, and paced at 10 ms."""
    movie = loaded_movie(size_px, amount.loaded_frames)
    begin = monotonic_ns()
    engine = open_engine(backend, size_px)
    ready_s = (monotonic_ns() - begin) / 1e9
    warm_up = amount.latency.warm_up_frames
    try:
        return {
            "ready_s": round(ready_s, 3),
            "info": dict(engine.info),
            "back to back": summarise(measure_engine(engine, movie, amount.latency), warm_up),
            "paced": summarise(measure_engine(engine, movie, amount.latency, INTERVAL_NS), warm_up),
            "device_ms": graph_ms(engine, movie, amount.device_frames),
        }
    finally:
        engine.close()


def whole_run(backend: str, amount: Amount) -> dict[str, Any]:
    """Return the figures of a run with a simulated camera at 1000 frames/s."""
    engine = PluginConfig.model_validate({"kind": "denodet", "backend": backend})
    movie = loaded_movie(RUN_PX, 4 * amount.loaded_frames)
    timeline, report = measure_run(movie, engine, amount.run_frames, CAMERA_FPS)
    return {
        **summarise(timeline, amount.latency.warm_up_frames),
        "lost_by_cause": report["frames"]["lost_by_cause"],
        "sinks": report["outputs"]["sinks"],
    }


def open_engine(backend: str, size_px: int) -> Engine:
    """Return an engine that is ready for square uint16 frames."""
    engine = ProviderEngine(PROVIDERS[backend]) if backend in PROVIDERS else DenodetEngine(backend=backend)  # type: ignore[arg-type]
    engine.prepare((size_px, size_px), "uint16")
    return engine


def loaded_movie(size_px: int, n_frames: int) -> LoadedMovie:
    """Return a simulated movie in memory: 500 particles for each 512 x 512 px, but no more than the table has rows."""
    density = min(500.0, 1800.0 * (512 / size_px) ** 2)
    movie = Movie(MovieSettings("vesicle", 4.0, density, n_frames, size_px, size_px, SEED))
    return LoadedMovie(
        SourceInfo(f"sim:vesicle, {size_px} px", (size_px, size_px), "uint16", n_frames), tuple(frames_of(movie))
    )
