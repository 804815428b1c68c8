"""Workers and the scheduler of a batch are killed at random moments: it ends, or goes on, with the same tables."""

import json
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import zarr
from running import WAIT_S, frames_on_disk, start

import streamtrack
from benchmarks.loop.stop import wait_until

pytest.importorskip("distributed", reason="needs the extra 'offline'")

N_FRAMES, SIZE = 60, 96
NAMES = ("first", "second")
TABLES = ("detections.parquet", "tracks.parquet", "tracks.csv")


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movies")
    for seed, name in enumerate(NAMES):
        movie = streamtrack.simulate("receptor", frames=N_FRAMES, size=SIZE, seed=seed + 1).movie
        zarr.create_array(folder / f"{name}.zarr", data=movie, chunks=(1, SIZE, SIZE))
    return folder


@pytest.fixture(scope="module")
def single(movies, tmp_path_factory, engines_as_elsewhere):
    """The folders of what `track` finds in each."""
    folder = tmp_path_factory.mktemp("single")
    for name in NAMES:
        engine = {"kind": "denodet", "threads": 1}
        streamtrack.track(movies / f"{name}.zarr", folder / name, engine=engine, progress=False)
    return folder


class Cluster:
    """A scheduler of dask and two workers, in processes of their own."""

    def __init__(self, folder):
        file = folder / f"scheduler_{time.monotonic_ns()}.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        self.scheduler = self._started("dask_scheduler", *options)
        wait_until(lambda: file.exists() and file.stat().st_size, WAIT_S, self.scheduler)
        time.sleep(0.2)
        self.address = json.loads(file.read_text())["address"]
        options = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder / "work")]
        self._nannies = [self._started("dask_worker", self.address, *options) for _ in range(2)]

    def _started(self, program, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.{program}", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def workers(self):
        """The processes that search; each has a nanny that starts another one where it dies."""
        children = [child for nanny in self._nannies for child in psutil.Process(nanny.pid).children()]
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]

    def close(self):
        for process in (self.scheduler, *self._nannies):
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            for child in family:
                child.kill()


@pytest.fixture
def clusters(tmp_path):
    """Makes clusters, and ends them."""
    made = []

    def make():
        made.append(Cluster(tmp_path))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


def begin(movies, out, cluster):
    return start("batch", movies, "--out", out, "--scheduler", cluster.address, "--block", 2)


def is_under_way(out):
    return any(frames_on_disk(out / name) for name in NAMES)


def assert_same(out, single):
    for name in NAMES:
        for table in TABLES:
            assert (out / name / table).read_bytes() == (single / name / table).read_bytes()
        frames = json.loads((out / name / "report.json").read_text())["frames"]
        assert (frames["in"], frames["processed"], frames["lost"]) == (N_FRAMES, N_FRAMES, 0)


@pytest.mark.parametrize(
    ("seed", "n_kills", "kills_scheduler"),
    [(0, 2, True), *(pytest.param(seed, 5, seed % 2 == 0, marks=pytest.mark.slow) for seed in range(1, 7))],
)
def test_kills_cost_no_row(movies, single, clusters, tmp_path, seed, n_kills, kills_scheduler):
    rng, out, cluster = np.random.default_rng(seed), tmp_path / "out", clusters()
    batch = begin(movies, out, cluster)
    wait_until(lambda: is_under_way(out), WAIT_S, batch)
    n_killed = 0
    while n_killed < n_kills and batch.poll() is None:
        time.sleep(rng.uniform(0, 2.0))
        if workers := cluster.workers():
            workers[rng.integers(len(workers))].kill()
            n_killed += 1
    if kills_scheduler:
        time.sleep(rng.uniform(0, 1.0))
        cluster.scheduler.kill()
    _, said = batch.communicate(timeout=WAIT_S)
    print(f"{n_killed} workers killed: exit code {batch.returncode}, {said.splitlines()[-1]}")
    assert "Traceback" not in said
    assert batch.returncode in (0, 2)
    if kills_scheduler and batch.returncode:
        assert "the scheduler is gone" in said
        cluster = clusters()
    for _ in range(3 if batch.returncode else 0):  # the same command goes on
        batch = begin(movies, out, cluster)
        said = batch.communicate(timeout=WAIT_S)
        if batch.returncode == 0:
            break
    assert batch.returncode == 0, said
    assert_same(out, single)
