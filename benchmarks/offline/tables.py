"""Whether memory grows with the length of the tables: rows in the form that a run writes, made in a process of its own.

``python -m benchmarks.offline.tables FOLDER ROWS`` is that process; it prints what it saw.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

PER_FRAME = 500
MEAN_FRAMES = 100
"""Of a track."""
LATE_FRAMES = 3
"""After so many, a linker thinks better of some detections."""
REVISED, UNLINKED, UNSURE = 0.05, 0.1, 0.2
SHAPE = (1024, 1024)
SEED = 90_400
LOOK_S = 0.02
TARGET_MB = 500.0


def tables(place: Path, n_rows: tuple[int, ...]) -> dict[str, Any]:
    """Return how much memory the making of tables takes beyond what was resident before, MB, for so many rows."""
    rows = {}
    for n in n_rows:
        folder = place / f"tables_{n}"
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.offline.tables", str(folder), str(n)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        rows[f"{n:,}"] = json.loads(said.splitlines()[-1])
        for path in sorted(folder.iterdir()):
            path.unlink()
    return {"rows": rows, "detections_per_frame": PER_FRAME, "target_mb": TARGET_MB}


def results(n_frames: int) -> Iterator[Any]:
    """Yield results of frames of 500 detections on tracks of 100 frames; the linker revises some of them later."""
    from streamtrack.types import Detections, Frame, FrameResult, Revision, Stamps, TrackMotion, TrackUpdate

    rng = np.random.default_rng(SEED)
    particle, existence = np.arange(PER_FRAME), _existence(rng)
    pixels, none, modes = np.zeros(SHAPE, np.uint16), np.empty(0, np.int64), np.full((PER_FRAME, 3), 1 / 3, np.float32)
    age = np.zeros(PER_FRAME, np.int64)
    n_tracks = PER_FRAME
    for index in range(n_frames):
        ends = np.flatnonzero(rng.random(PER_FRAME) < 1 / MEAN_FRAMES)
        particle[ends] = np.arange(n_tracks, n_tracks + len(ends))
        existence[ends] = _existence(rng)[ends]
        n_tracks += len(ends)
        linked = np.where(rng.random(PER_FRAME) < UNLINKED, -1, particle)
        values = rng.random((7, PER_FRAME), np.float32)
        again = np.flatnonzero(rng.random(PER_FRAME) < REVISED) if index >= LATE_FRAMES else none
        late = Revision(np.full(len(again), index - LATE_FRAMES), again, particle[again], existence[again])
        motion = TrackMotion(age, values[0], values[:2].T, modes, values[2])
        update = TrackUpdate(linked, existence.copy(), none, none, none, PER_FRAME, index - LATE_FRAMES, late, motion)
        found = Detections(values[3] * SHAPE[0], values[4] * SHAPE[1], values[5], values[6] * 1e4, values[2])
        stamps = Stamps(*(index * 10**7 + at * 10**6 for at in range(6)))
        yield FrameResult(Frame(index, pixels, stamps.grabbed, index * 0.01), found, update, (), stamps)


def _existence(rng: np.random.Generator) -> Any:
    return np.where(rng.random(PER_FRAME) < UNSURE, 0.5, 0.99).astype(np.float32)


class Watch:
    """How much more is resident than when it was made, and the time of the processor."""

    def __init__(self) -> None:
        self._own, self._over = psutil.Process(), threading.Event()
        self._before, self._began_s = self._own.memory_info().rss, time.process_time()
        self._most = self._before
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self._most = max(self._most, self._own.memory_info().rss)

    def took(self) -> dict[str, float]:
        """Return the growth, MB, and the processor's time, s."""
        self._over.set()
        self._thread.join()
        return {
            "growth_mb": round((self._most - self._before) / 1e6, 1),
            "cpu_s": round(time.process_time() - self._began_s, 2),
        }


def main() -> None:
    """Write a run's stream, make its tables, and print what that took."""
    from streamtrack.sinks.summary import SummarySink
    from streamtrack.sinks.tables import TableSink
    from streamtrack.types import SourceInfo

    folder, n_frames = Path(sys.argv[1]), -(-int(sys.argv[2]) // PER_FRAME)
    source = SourceInfo("generated", SHAPE, "uint16", n_frames, pixel_size_um=0.1, frame_interval_s=0.01)
    sinks = {"tables": TableSink(), "summary": SummarySink()}
    for sink in sinks.values():
        sink.open(folder, source)
    for result in results(n_frames):
        sinks["tables"].write(result)
    sinks["tables"].flush()
    said: dict[str, Any] = {"before_mb": round(psutil.Process().memory_info().rss / 1e6, 1)}
    said["stream_mb"] = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)
    steps: dict[str, Callable[[], None]] = {name: sink.close for name, sink in sinks.items()}
    for name, close in steps.items():
        watch = Watch()
        close()
        said[name] = watch.took()
    said["files_mb"] = {path.name: round(path.stat().st_size / 1e6, 1) for path in sorted(folder.iterdir())}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
