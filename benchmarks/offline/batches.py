"""One batch on workers that are there already, so that their start is left out."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from distributed import Client

from streamtrack.offline.batch import BatchRun, batch_config
from streamtrack.offline.cluster import connected
from streamtrack.offline.plan import BatchPlan

ENGINE = {"kind": "denodet", "threads": 1}


@dataclass(frozen=True)
class Took:
    """What a piece of work took: s of the clock, and of the processors in this process and in those of workers."""

    wall_s: float
    own_cpu_s: float
    worker_cpu_s: float


class Watch:
    """Counts time from when it was made."""

    def __init__(self) -> None:
        self._began = (time.monotonic(), time.process_time(), _children_s())

    def took(self) -> Took:
        """Return what it has been since."""
        ends = (time.monotonic(), time.process_time(), _children_s())
        return Took(*(end - began for end, began in zip(ends, self._began, strict=True)))


def _children_s() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return float(sum(each.user + each.system for each in times))


def tracked(movies: Sequence[Path], out: Path, client: Client) -> Took:
    """Track movies into a folder; raises RuntimeError where one fails."""
    config = batch_config({"engine": ENGINE}, "benchmark")
    watch = Watch()
    rows = BatchRun(list(movies), out, config, {}, BatchPlan(scheduler=client)).run()
    took = watch.took()
    if errors := [f"{row.movie} {row.status}: {row.error}" for row in rows if row.status != "completed"]:
        raise RuntimeError("; ".join(errors))
    return took


@contextmanager
def warm_workers(n_workers: int, movie: Path, place: Path) -> Iterator[Client]:
    """Yield workers that have their engines and have tracked something."""
    out = place / f"warm_up_{n_workers}"
    with connected(None, n_workers) as client:
        config = batch_config({"engine": ENGINE}, "benchmark")
        for _ in range(2):  # the first may reach one of them only
            BatchRun([movie], out, config, {}, BatchPlan(scheduler=client, block=1), overwrite=True).run()
        shutil.rmtree(out)
        yield client
