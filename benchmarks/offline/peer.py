"""What a user of trackpy would write, beside a batch: speed for each core, and accuracy, on the same frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.bag
import numpy as np
import pandas as pd
import trackpy
import zarr
from distributed import Client
from numpy.typing import NDArray

from benchmarks.detection.detectors import TRACKPY_SETTINGS, Candidates
from benchmarks.detection.scoring import best_threshold, score_frames
from benchmarks.offline.batches import Took, Watch, tracked, warm_workers
from streamtrack.results import Results

GATES_PX = (5.0, 2.0)
SEARCH_RANGE_PX, MEMORY_FRAMES = 5.0, 3
BLOCK_FRAMES = 32
N_WORKERS = 2
Truth = Sequence[Sequence[NDArray[np.float64]]]


def peer(movies: Sequence[Path], truth: Truth, place: Path) -> dict[str, Any]:
    """Return frames per second for each core, and F1, of both.

    trackpy has the diameter that suits the movies best, and the mass from which on spots count that gives the best F1
    on the first of the very movies that are scored: an advantage.
    """
    with warm_workers(N_WORKERS, movies[0], place) as client:
        ours = tracked(movies, place / "peer", client)
        found = [Results(place / "peer" / path.stem).detections for path in movies]
        minmass = _best_mass(movies[0], truth[0])
        client.run(_located, (str(movies[0]), 0, 2, minmass))  # each worker compiles
        watch = Watch()
        spots = _in_bag(movies, minmass, client)
        detected_s = watch.took().wall_s
        trackpy.quiet()
        for each in spots:
            trackpy.link(each, SEARCH_RANGE_PX, memory=MEMORY_FRAMES)
        theirs = watch.took()
    n_frames = sum(map(len, truth))
    return {
        "workers": N_WORKERS,
        "frames": n_frames,
        "streamtrack.batch": {**_speed(ours, n_frames), **_f1(found, truth)},
        "dask.bag of trackpy.batch, then trackpy.link": {
            **_speed(theirs, n_frames),
            **_f1(spots, truth),
            "detection_s": round(detected_s, 3),
            "minmass": minmass,
            "version": trackpy.__version__,
        },
    }


def _best_mass(movie: Path, truth: Sequence[NDArray[np.float64]]) -> float:
    spots = _located((str(movie), 0, len(truth), 0.0))
    per_frame = [spots[spots["frame"] == index] for index in range(len(truth))]
    candidates = [Candidates.strongest(each[["y", "x"]].to_numpy(), each["mass"].to_numpy()) for each in per_frame]
    return best_threshold(truth, candidates, GATES_PX[0])


def _in_bag(movies: Sequence[Path], minmass: float, client: Client) -> list[pd.DataFrame]:
    """Return the spots of each movie."""
    blocks = [
        (str(path), first, min(first + BLOCK_FRAMES, n_frames), minmass)
        for path in movies
        for n_frames in [zarr.open_array(path, mode="r").shape[0]]
        for first in range(0, n_frames, BLOCK_FRAMES)
    ]
    with client.as_current():
        tables = dask.bag.from_sequence(blocks, npartitions=len(blocks)).map(_located).compute(scheduler=client)
    names = [block[0] for block in blocks]
    return [
        pd.concat([table for name, table in zip(names, tables, strict=True) if name == str(path)], ignore_index=True)
        for path in movies
    ]


def _located(block: tuple[str, int, int, float]) -> pd.DataFrame:
    """Run ``trackpy.batch`` on a block of frames."""
    path, first, last, minmass = block
    trackpy.quiet()
    frames = np.asarray(zarr.open_array(path, mode="r")[first:last])
    spots = trackpy.batch(frames, **{**TRACKPY_SETTINGS["vesicle"], "minmass": minmass}, processes=1)
    return spots.assign(frame=spots["frame"] + first)


def _speed(took: Took, n_frames: int) -> dict[str, float]:
    cpu_s = took.own_cpu_s + took.worker_cpu_s
    return {
        "frames_per_second_per_core": round(n_frames / took.wall_s / N_WORKERS, 2),
        "frames_per_cpu_second": round(n_frames / cpu_s, 2),
        "wall_s": round(took.wall_s, 3),
        "own_cpu_ms_per_frame": round(1e3 * took.own_cpu_s / n_frames, 3),
        "worker_cpu_ms_per_frame": round(1e3 * took.worker_cpu_s / n_frames, 3),
    }


def _f1(found: Sequence[pd.DataFrame], truth: Truth) -> dict[str, float]:
    places = [
        table.loc[table["frame"] == index, ["y", "x"]].to_numpy(np.float64)
        for table, frames in zip(found, truth, strict=True)
        for index in range(len(frames))
    ]
    true = [frame for frames in truth for frame in frames]
    return {f"f1_{gate:g}px": round(score_frames(true, places, gate).f1, 4) for gate in GATES_PX}
