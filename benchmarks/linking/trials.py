"""What one process of the linking benchmark does: link a movie with one method, time it, score it."""

import gc
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from trackpy.linking import SubnetOversizeException

from benchmarks.linking.linkers import OFFLINE, ONLINE, Ids, Ranges, missing
from benchmarks.shared.particles import ParticleSettings, Simulated, simulate
from streamtrack.metrics.ptc import fill_gaps, score_ptc
from streamtrack.types import Detections, TrackUpdate

Row = dict[str, Any]
Source = ParticleSettings | Simulated
"""A movie to be simulated, or one that is there."""
T = TypeVar("T")

GATE_PX = 5.0
LEAST_DETECTIONS = 3
"""Shorter tracks are not scored, of any method."""
SKIPPED_FRAMES = 5
"""Not timed: there is little to link yet."""
WARM_UP = ParticleSettings("switching", 500, 8, seed=1)


class Trial(NamedTuple):
    """One method on one movie."""

    method: str
    source: Source
    ranges: Ranges | None


def warm_up() -> None:
    """Let every linker compile what it compiles, at its first crowded frames."""
    for method, link in ONLINE.items():
        if not missing(method):
            for _ in link(simulate(WARM_UP).detections, Ranges(6.0, 1)):
                pass


def run_trial(trial: Trial) -> Row:
    """Link a movie; return ms per frame and scores, or why there are none.

    ``ms`` are two lists, wall clock and CPU time of the thread, of every frame but the first ones; of a method that
    takes the whole movie at once the mean. ``live`` scores what was said at once, ``settled`` what was so in the end.
    """
    movie = trial.source if isinstance(trial.source, Simulated) else _simulate(trial.source)
    try:
        if trial.method in OFFLINE:
            link = OFFLINE[trial.method]
            (ids,), ms = timed(link(movie.detections, trial.ranges) for _ in range(1))
            return {"ms": (ms / len(ids)).tolist(), "settled": score(movie, ids)}
        outputs, ms = timed(ONLINE[trial.method](movie.detections, trial.ranges))
    except SubnetOversizeException as error:
        return {"failed": f"SubnetOversizeException: {error}"}
    row = {"ms": ms[:, SKIPPED_FRAMES:].tolist(), "settled": score(movie, settled_ids(outputs))}
    return row | {"live": score(movie, live_ids(outputs))} if isinstance(outputs[0], TrackUpdate) else row


@lru_cache(maxsize=3)
def _simulate(settings: ParticleSettings) -> Simulated:
    return simulate(settings)


def timed(steps: Iterator[T]) -> tuple[list[T], NDArray[np.float64]]:
    """Take all steps; return what they gave and ms, shape (2, steps): wall clock and CPU time of the thread.

    No garbage is collected meanwhile.
    """
    outputs = []
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        clocks = [_clocks_ns()]
        for output in steps:
            clocks.append(_clocks_ns())
            outputs.append(output)
    finally:
        gc.enable()
        gc.unfreeze()
    return outputs, np.diff(np.array(clocks).T) / 1e6


def _clocks_ns() -> tuple[int, int]:
    return time.perf_counter_ns(), time.thread_time_ns()


def live_ids(outputs: Sequence[Any]) -> list[Ids]:
    """Return the tracks of each frame's detections as they were said at once."""
    return [each.particle if isinstance(each, TrackUpdate) else np.asarray(each) for each in outputs]


def settled_ids(outputs: Sequence[Any]) -> list[Ids]:
    """Return the tracks of each frame's detections after all revisions; frames are numbered from 0."""
    ids = [each.copy() for each in live_ids(outputs)]
    for update in outputs:
        if isinstance(update, TrackUpdate):
            revised = update.revised
            for frame, detection, particle in zip(
                revised.frame_index, revised.detection, revised.particle, strict=True
            ):
                ids[frame][detection] = particle
    return ids


def score(movie: Simulated, ids: Sequence[Ids], first_frame: int = 0) -> dict[str, float | None]:
    """Score tracks of some length, gaps filled, by the measures of the Particle Tracking Challenge.

    Parameters
    ----------
    movie
        What was detected, and the truth.
    ids
        The track of each detection, frame by frame; below 0 where it has none.
    first_frame
        Truth and tracks before it do not count.
    """
    tracks = track_table(movie.detections, ids)
    long = tracks.groupby("particle")["frame"].transform("size") >= LEAST_DETECTIONS
    tables = movie.truth, fill_gaps(tracks[long])
    return score_ptc(*(each[each["frame"] >= first_frame] for each in tables), gate_px=GATE_PX).as_dict()


def track_table(detections: Sequence[Detections], ids: Sequence[Ids]) -> pd.DataFrame:
    """Return the detections that have a track: columns ``frame, particle, y, x``."""
    frame = np.repeat(np.arange(len(detections)), [len(each) for each in detections])
    y, x = (np.concatenate([getattr(each, axis) for each in detections]).astype(np.float64) for axis in "yx")
    table = pd.DataFrame({"frame": frame, "particle": np.concatenate(ids), "y": y, "x": x})
    return table[table["particle"] >= 0]
