"""What the linking benchmark does: tune the peers, run every method on every kind of movie, compare."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.linking.checks import endure, first_calls, unknown_step
from benchmarks.linking.end_to_end import detect
from benchmarks.linking.linkers import OFFLINE, ONLINE, TUNED, Ranges, missing
from benchmarks.linking.trials import Row, Source, Trial, run_trial, warm_up
from benchmarks.shared.child import Child
from benchmarks.shared.particles import MOTIONS, Motion, ParticleSettings
from streamtrack.simulation import MovieSettings, ScenarioName

METHODS = (*ONLINE, *OFFLINE)
SCENARIOS: tuple[ScenarioName, ...] = ("vesicle", "receptor", "microtubule")
END_TO_END = ("imm_lag2", "trackpy", "trackpy_velocity", "optimum")
DENSITY = 500.0
SEED = 410_000
MOVIE_SEED, LONG_SEED = SEED + 100, SEED + 200

RANGES_PX = {100: (8, 10, 12, 15), 500: (7, 8, 10, 12), 1000: (6, 7, 8, 10), 2000: (4, 5, 6, 7)}
"""Search ranges that are tried: the best is rarely the first or the last that works."""
GREATEST_N = {"laptrack": 500, "optimum": 1000}
"""With more particles they take minutes a movie."""
TUNING_LIMIT_S, LIMIT_S, LONG_LIMIT_S = 15.0, 60.0, 1800.0
"""For half a movie, for one, and for anything else."""

Job = TypeVar("Job")
Result = TypeVar("Result")


class Extent(NamedTuple):
    """How much is computed: movies of each kind, settings tried on them, the long movie, movies of images."""

    movies: int
    numbers: tuple[int, ...]
    frames: int
    n_ranges: int
    memories: tuple[int, ...]
    long_frames: int
    window_frames: int
    snrs: tuple[float, ...]
    images: int


FULL = Extent(3, (100, 500, 1000, 2000), 100, 4, (0, 1, 2), 100_000, 10_000, (2.0, 4.0, 7.0), 60)
QUICK = Extent(1, (100, 500), 40, 2, (1,), 5_000, 500, (4.0,), 12)


def measure(extent: Extent) -> Row:
    """Tune, measure and check; only tuning and the movies of images, which are not timed, share the cores."""
    kinds = list(product(MOTIONS, extent.numbers))
    movies = [
        MovieSettings(scenario, snr, DENSITY, extent.images, seed=MOVIE_SEED + k)
        for k, (scenario, snr) in enumerate(product(SCENARIOS, extent.snrs))
    ]
    with Progress(console=Console(stderr=True)) as progress:
        halves = [ParticleSettings(*kind, extent.frames // 2, SEED) for kind in kinds]
        ranked = in_parallel(lambda child, each: rank(child, each, grid(each.n, extent)), halves, progress, "tuning")
        end_to_end = in_parallel(lambda child, each: run_movie(child, each, extent), movies, progress, "end to end")
        with Child(warm_up) as child:
            runs = [(kind, method, best) for kind, best in zip(kinds, ranked, strict=True) for method in METHODS]
            runs = [run for run in runs if run[0][1] <= GREATEST_N.get(run[1], run[0][1]) and not missing(run[1])]
            cells = [
                cell(child, kind, method, best, extent)
                for kind, method, best in progress.track(runs, description="linking")
            ]
            checks = check(child, extent)
    return {
        "extent": extent._asdict() | {"seed": SEED},
        "cells": cells,
        "compared": compare(cells),
        "end_to_end": [row for rows in end_to_end for row in rows],
        **checks,
    }


def in_parallel(
    function: Callable[[Child, Job], Result], jobs: Sequence[Job], progress: Progress, name: str
) -> list[Result]:
    """Do jobs on all cores, each with a process of its own; return what they give, in order."""
    idle: SimpleQueue[Child] = SimpleQueue()

    def work(job: Job) -> Result:
        child = idle.get()
        try:
            return function(child, job)
        finally:
            idle.put(child)

    n = min(os.cpu_count() or 1, len(jobs))
    with ExitStack() as stack:
        for _ in range(n):
            idle.put(stack.enter_context(Child(warm_up)))
        pool = stack.enter_context(ThreadPoolExecutor(n))
        stack.callback(pool.shutdown, cancel_futures=True)
        return list(progress.track(pool.map(work, jobs), total=len(jobs), description=name))


def grid(n: int, extent: Extent) -> list[Ranges]:
    """Return the settings to try, the mildest first."""
    return [Ranges(*each) for each in product(RANGES_PX[n][: extent.n_ranges], extent.memories)]


def rank(child: Child, source: Source, settings: Iterable[Ranges]) -> dict[str, list[Ranges]]:
    """Return the settings of each tuned method that work, the best first.

    Where one fails or stalls, those with as much range and memory or more are not tried.
    """
    settings = list(settings)
    return {method: _rank(child, method, source, settings) for method in TUNED if not missing(method)}


def _rank(child: Child, method: str, source: Source, settings: Iterable[Ranges]) -> list[Ranges]:
    alphas: dict[Ranges, float] = {}
    failed: list[Ranges] = []
    for each in settings:
        if any(each.search_range >= bad.search_range and each.memory >= bad.memory for bad in failed):
            continue
        row = attempt(child, TUNING_LIMIT_S, Trial(method, source, each))
        if "failed" in row:
            failed.append(each)
        else:
            alphas[each] = row["settled"]["alpha"]
    return sorted(alphas, key=lambda each: -alphas[each])


def attempt(child: Child, limit_s: float, trial: Trial) -> Row:
    """Run a trial; return its row, or why there is none."""
    try:
        return child.call(limit_s, run_trial, trial)
    except (TimeoutError, ChildProcessError) as error:
        return {"failed": str(error)}


def run_all(
    child: Child, method: str, sources: Sequence[Source], ranked: dict[str, list[Ranges]]
) -> tuple[Row, list[Row]]:
    """Run a method on several movies with the best settings that work on all; return these, and the rows."""
    # laptrack: each of its runs would take half a minute.
    tuned = ranked.get("lapmod") or ranked["trackpy"] if method == "laptrack" else ranked.get(method)
    failures = []
    for ranges in [None] if tuned is None else tuned:
        rows = []
        for source in sources:
            rows.append(attempt(child, LIMIT_S, Trial(method, source, ranges)))
            if "failed" in rows[-1]:
                failures.append(rows[-1]["failed"])
                break
        else:
            return ranges._asdict() if ranges else {}, rows
    return {"failed": failures[0] if failures else "fails or stalls with all settings"}, []


def cell(child: Child, kind: tuple[Motion, int], method: str, ranked: dict[str, list[Ranges]], extent: Extent) -> Row:
    """Measure a method on the movies of one kind."""
    sources = [ParticleSettings(*kind, extent.frames, SEED + k) for k in range(extent.movies)]
    settings, rows = run_all(child, method, sources, ranked)
    row: Row = {"motion": kind[0], "n": kind[1], "method": method, **settings}
    if not rows:
        return row
    wall, cpu = np.concatenate([each["ms"] for each in rows], axis=1)
    whole = method in OFFLINE
    row |= {"ms": spread(wall, whole), "cpu_ms": spread(cpu, whole)} | mean([each["settled"] for each in rows])
    row["alpha_by_seed"] = [each["settled"]["alpha"] for each in rows]
    return row | {"live": mean([each["live"] for each in rows])} if "live" in rows[0] else row


def spread(ms: np.ndarray, whole: bool) -> Row:
    """Return median, p99 and greatest; the mean alone for methods that take whole movies."""
    if whole:
        return {"mean": float(ms.mean())}
    return {"median": float(np.median(ms)), "p99": float(np.percentile(ms, 99)), "max": float(ms.max())}


def mean(rows: Sequence[Row]) -> Row:
    """Return the means over the movies of each measure."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def run_movie(child: Child, settings: MovieSettings, extent: Extent) -> list[Row]:
    """Detect once, tune the peers on these very detections, and link with each."""
    movie = child.call(LONG_LIMIT_S, detect, settings)
    ranked = rank(child, movie, grid(500, extent))
    rows = []
    for method in END_TO_END:
        if not missing(method):
            best, scored = run_all(child, method, [movie], ranked)
            row = {"scenario": settings.scenario, "snr": settings.snr, "density": settings.density, "method": method}
            rows.append(row | best | (scored[0]["settled"] if scored else {}))
    return rows


def compare(cells: Sequence[Row]) -> list[Row]:
    """Return, per kind and lag: how many times faster than trackpy, by medians, and how far above lapmod in alpha."""
    found = {(row["motion"], row["n"], row["method"]): row for row in cells if "failed" not in row}
    rows = []
    for (motion, n, method), ours in found.items():
        if method.startswith("imm"):
            trackpy, lapmod = (found.get((motion, n, peer)) for peer in ("trackpy", "lapmod"))
            row: Row = {"motion": motion, "n": n, "method": method}
            row["times_faster_than_trackpy"] = trackpy and trackpy["ms"]["median"] / ours["ms"]["median"]
            row["alpha_above_lapmod"] = lapmod and ours["alpha"] - lapmod["alpha"]
            rows.append(row)
    return rows


def check(child: Child, extent: Extent) -> Row:
    """Return what the linker bears."""
    steps: list[Row] = []
    for motion in ("brownian", "switching"):
        movies = [ParticleSettings(motion, 500, FULL.frames, SEED + k) for k in range(extent.movies)]
        steps += child.call(LONG_LIMIT_S, unknown_step, movies)
    long = ParticleSettings("switching", 100, extent.long_frames, LONG_SEED)
    endurance = child.call(LONG_LIMIT_S, endure, long, extent.window_frames)
    return {"unknown_step": steps, "endurance": endurance, "first_call": first_calls()}
