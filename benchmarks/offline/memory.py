"""Whether memory grows with the length of a movie: one of a trivial engine, in a process of its own.

``python -m benchmarks.offline.memory MOVIE OUT track|batch`` is that process; it prints what it saw.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

LAB_PACKAGE = Path(__file__).parents[2] / "tests" / "lab_package"
ENGINE = {"kind": "brightest", "threshold": 1000.0, "dtype": "uint16"}
SIDE_PX = 256
TOGETHER = 64
AFTER_FRAMES = 1000
LOOK_S = 0.1
TARGET_MB = 50.0
Seen = list[tuple[int, int, int]]


def memory(place: Path, n_frames: int) -> dict[str, Any]:
    """Return how much more memory is resident than after the first 1,000 frames, MB, for one run and for a batch."""
    movie = long_movie(place / "very_long.zarr", n_frames)
    growth = {way: growth_of(_looked(movie, place / f"memory_{way}", way), n_frames) for way in ("track", "batch")}
    return {"frames": n_frames, "shape": [SIDE_PX, SIDE_PX], "growth_mb": growth, "target_mb": TARGET_MB}


def long_movie(path: Path, n_frames: int) -> Path:
    """Make a movie of noise in which two spots stand, 64 frames a chunk; all chunks are one file under many names."""
    shape = (TOGETHER, SIDE_PX, SIDE_PX)
    pixels = np.random.default_rng(0).poisson(100, shape).astype(np.uint16)
    pixels[:, 50, 50] = pixels[:, 200, 200] = 5000
    stored = zarr.create_array(path, shape=(n_frames, SIDE_PX, SIDE_PX), dtype="uint16", chunks=shape)
    stored[:TOGETHER] = pixels
    first = path / "c" / "0" / "0" / "0"
    for chunk in range(1, -(-n_frames // TOGETHER)):
        name = path / "c" / str(chunk) / "0" / "0"
        name.parent.mkdir(parents=True)
        os.link(first, name)
    return path


def growth_of(seen: Seen, n_frames: int) -> dict[str, float]:
    """Return the most that was resident beyond what it was after the first 1,000 frames, MB.

    Of this process and of its workers while frames come, and of this one while the tables are made: that takes as much
    as a group of rows does, however long the movie.
    """
    late = [each for each in seen if each[0] >= AFTER_FRAMES]
    running = [each for each in late if each[0] < n_frames]
    ended = [*late[:1], *(each for each in late if each[0] == n_frames)]
    sizes = {"own": [each[1] for each in running], "workers": [each[2] for each in running]}
    sizes["own, making tables"] = [each[1] for each in ended]
    return {name: round((max(grown) - grown[0]) / 1e6, 1) for name, grown in sizes.items() if any(grown)}


def _looked(movie: Path, out: Path, way: str) -> Seen:
    path = os.pathsep.join(filter(None, (str(LAB_PACKAGE), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.offline.memory", str(movie), str(out), way]
    environment = {**os.environ, "PYTHONPATH": path}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [(frames, own, workers) for frames, own, workers in json.loads(said.splitlines()[-1])]


@contextmanager
def _looking(reached: Callable[[], int], seen: Seen) -> Iterator[None]:
    """Note again and again how many frames are done, and the memory of this process and of its workers."""
    over = threading.Event()
    own = psutil.Process()

    def look() -> None:
        while not over.wait(LOOK_S):
            workers = [_resident(child) for child in own.children(recursive=True)]
            seen.append((reached(), own.memory_info().rss, sum(workers)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def main() -> None:
    """Track the movie, and print what memory it took."""
    from streamtrack.config import RunConfig
    from streamtrack.offline.batch import BatchRun
    from streamtrack.offline.plan import BatchPlan
    from streamtrack.session import Session

    movie, out, way = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    tables: dict[str, Any] = {"engine": ENGINE, "sinks": [{"kind": "tables"}]}
    seen: Seen = []
    if way == "track":
        tables["source"] = {"kind": "zarr", "path": movie}
        session, done = Session(RunConfig.model_validate(tables), out), [0]
        with _looking(lambda: done[0], seen):
            status = session.run(lambda progress: done.__setitem__(0, progress.processed))["status"]
    else:
        batch = BatchRun([movie], out, RunConfig.model_validate(tables), {}, BatchPlan(workers=1))
        (row,) = batch.state.rows
        with _looking(lambda: row.frames, seen):
            status = batch.run()[0].status
    if status != "completed":
        raise RuntimeError(f"{way}: {status}")
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
