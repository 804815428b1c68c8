"""What a second worker gives, beside what a second process gives that searches frames and does nothing else."""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.offline.batches import ENGINE, tracked, warm_workers
from streamtrack.config import PluginConfig
from streamtrack.protocols import Engine
from streamtrack.registry import build
from streamtrack.step import Detector

SPAWN = multiprocessing.get_context("spawn")
TARGET = 0.92
_engine: list[Engine] = []
"""Of a bare process."""


def scaling(movies: Sequence[Path], long: Path, place: Path, n_pairs: int) -> dict[str, Any]:
    """Return seconds with one and with two, and what the second gives, for each way."""
    with ExitStack() as opened:
        pools = [opened.enter_context(ProcessPoolExecutor(1, SPAWN)) for _ in range(2)]
        clients = {n: opened.enter_context(warm_workers(n, movies[0], place)) for n in (1, 2)}
        bare(pools, movies[:2])  # their start is left out, too
        kept: dict[tuple[str, int], list[bytes]] = {}

        def batched(name: str, named: Sequence[Path]) -> Callable[[int], float]:
            def run(n: int) -> float:
                out = place / "out"
                took = tracked(named, out, clients[n])
                kept[name, n] = [path.read_bytes() for path in sorted(out.glob("*/tracks.csv"))]
                shutil.rmtree(out)
                return took.wall_s

            return run

        ways = {
            "bare": lambda n: bare(pools[:n], movies),
            f"{len(movies)} movies": batched("movies", movies),
            "one long movie": batched("long", [long]),
        }
        seconds = _interleaved(ways, n_pairs)
    same = all(kept[name, 1] == kept[name, 2] for name in ("movies", "long"))
    return {"seconds": seconds, "gain": _gains(seconds), "same_tables": same, "target_of_bare": TARGET}


def bare(pools: Sequence[ProcessPoolExecutor], movies: Sequence[Path]) -> float:
    """Search all frames, each process its share of the movies; return the seconds until the last one is done."""
    began_s = time.monotonic()
    shares = [pool.submit(_search, movies[n :: len(pools)]) for n, pool in enumerate(pools)]
    for share in shares:
        share.result()
    return time.monotonic() - began_s


def _search(movies: Sequence[Path]) -> int:
    if not _engine:
        _engine.append(build("engines", PluginConfig(**ENGINE)).instance)
    n_found = 0
    for path in movies:
        with closing(build("sources", PluginConfig(kind="zarr", path=str(path))).instance) as source:
            _engine[0].prepare(source.info.shape, source.info.dtype)
            sight = Detector(_engine[0])
            n_found += sum(len(sight(frame, denoise=False).detections) for frame in source.frames())
    return n_found


def _interleaved(ways: dict[str, Callable[[int], float]], n_pairs: int) -> dict[str, dict[str, list[float]]]:
    seconds: dict[str, dict[str, list[float]]] = {name: {"1": [], "2": []} for name in ways}
    for pair in range(n_pairs):
        for name, run in ways.items():
            for n in (1, 2) if pair % 2 == 0 else (2, 1):
                seconds[name][str(n)].append(round(run(n), 3))
    return seconds


def _gains(seconds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Return how many times quicker two are than one, and what share that is of the bare processes' gain."""
    gains = {name: [one / two for one, two in zip(each["1"], each["2"], strict=True)] for name, each in seconds.items()}
    return {
        name: {
            "times_quicker": round(median(gain), 3),
            "of_bare": round(median(ours / bare for ours, bare in zip(gain, gains["bare"], strict=True)), 3),
        }
        for name, gain in gains.items()
    }
