"""What the linker ``imm`` must bear: a step size it does not know, a very long movie, its first call."""

import os
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.linking.trials import Row, score, settled_ids
from benchmarks.shared.child import Child
from benchmarks.shared.particles import SHAPE, STEP_PX, ParticleSettings, simulate, stream
from streamtrack.linking import calibration
from streamtrack.linking.imm import ImmLinker

FIRST_STEPS_PX = (STEP_PX / 4, STEP_PX, STEP_PX * 4)
SETTLED_FROM_FRAME = 30
"""By then the step has to be learnt."""
UNTIMED_FRAMES = 100
FIRST_CALL = ParticleSettings("switching", 500, 1, seed=2)
LIMIT_S = 120.0


def unknown_step(movies: Sequence[ParticleSettings]) -> list[Row]:
    """Compare what is linked from frame 30 on, for several first guesses of the step, with a step that is known."""
    known = [_alpha_after_learning(each, STEP_PX) for each in movies]
    rows = []
    for first_step_px in FIRST_STEPS_PX:
        # A user has nothing to guess, so the linker has no setting for it.
        with patch.object(calibration, "FIRST_STEP_PX", first_step_px):
            alphas = [_alpha_after_learning(each, None) for each in movies]
        row: Row = {
            "motion": movies[0].motion,
            "n": movies[0].n,
            "first_step_px": first_step_px,
            "true_step_px": STEP_PX,
        }
        rows.append(row | {"alpha": float(np.mean(alphas)), "alpha_known": float(np.mean(known))})
    return rows


def _alpha_after_learning(settings: ParticleSettings, step_px: float | None) -> float | None:
    movie = simulate(settings)
    linker = ImmLinker(step_px=step_px)
    linker.prepare(SHAPE)
    updates = [linker.update(detections, index, float(index)) for index, detections in enumerate(movie.detections)]
    return score(movie, settled_ids(updates), first_frame=SETTLED_FROM_FRAME)["alpha"]


def endure(settings: ParticleSettings, window: int) -> Row:
    """Link a long movie; compare the first and the last ``window`` frames in time, and memory in between.

    The garbage collector runs as always. ``traced_growth_bytes`` is what Python and numpy hold more at the end;
    ``peak_growth_bytes`` what the process took more from the system in that time (None where it does not say).
    """
    linker = ImmLinker()
    linker.prepare(SHAPE)
    ns = np.empty((settings.frames, 2))
    traced, peak = [], []
    watched = range(UNTIMED_FRAMES + 2 * window, settings.frames - window)
    for index, (detections, _) in enumerate(stream(settings)):
        if index == watched.start - window:
            tracemalloc.start()
        if index in (watched.start, watched.stop):
            traced.append(tracemalloc.get_traced_memory()[0])
            peak.append(_peak_bytes())
        if index == watched.stop:
            tracemalloc.stop()  # it costs time
        begin = time.perf_counter_ns(), time.thread_time_ns()
        linker.update(detections, index, float(index))
        ns[index] = time.perf_counter_ns() - begin[0], time.thread_time_ns() - begin[1]
    first, last = ns[UNTIMED_FRAMES:][:window], ns[-window:]
    return {
        **{"frames": settings.frames, "n": settings.n, "motion": settings.motion, "window_frames": window},
        **{"first": _p99_ms(first), "last": _p99_ms(last)},
        "traced_growth_bytes": traced[1] - traced[0],
        "peak_growth_bytes": None if peak[0] is None or peak[1] is None else peak[1] - peak[0],
    }


def _p99_ms(ns: NDArray[np.float64]) -> Row:
    wall, cpu = np.percentile(ns, 99, axis=0) / 1e6
    return {"p99_ms": float(wall), "p99_cpu_ms": float(cpu)}


def _peak_bytes() -> int | None:
    """Return the most memory that the process had so far; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def first_calls() -> Row:
    """Time a new process's first calls, without and with compiled code on disk from the run before."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, NUMBA_CACHE_DIR=folder):
        rows = []
        for _ in range(2):
            with Child() as child:
                rows.append(child.call(LIMIT_S, first_call))
    return {"cold": rows[0], "warm": rows[1]}


def first_call() -> Row:
    """Time ``prepare`` and the first frame; numba and all the rest are imported already."""
    (detections,) = simulate(FIRST_CALL).detections
    clocks = [(time.perf_counter(), time.process_time())]
    linker = ImmLinker()
    linker.prepare(SHAPE)
    clocks.append((time.perf_counter(), time.process_time()))
    linker.update(detections, 0, 0.0)
    clocks.append((time.perf_counter(), time.process_time()))
    (prepare_s, prepare_cpu_s), (first_frame_s, _) = np.diff(clocks, axis=0).tolist()
    return {"prepare_s": prepare_s, "prepare_cpu_s": prepare_cpu_s, "first_frame_ms": 1e3 * first_frame_s}
