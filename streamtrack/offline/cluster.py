"""Workers of dask.distributed: those of a scheduler that somebody runs, or some of this computer's own.

Only this module imports distributed. Workers run whatever the scheduler sends, so that a cluster of our own listens on
this computer alone, and takes nobody who lacks the keys that were made for it.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Future, LocalCluster
from distributed.comm.registry import get_backend
from distributed.scheduler import KilledWorker
from distributed.utils import silence_logging_cmgr

from streamtrack.errors import ConfigError, EngineError, foreign_errors, one_line
from streamtrack.offline.jobs import Declared, FoundBlock, Job, declare, search
from streamtrack.waiting import within

CONNECT_S = 10.0
"""How long a scheduler may take to answer."""
START_S = 60.0
"""How long the first worker may take to come, and a result that is there to be brought."""
DECLARE_S = 300.0
"""How long the first worker may take to import an engine and read its weights."""
WORKERLESS_S = 60.0
"""How long there may be no worker at all; one that died is replaced within seconds."""
LOOK_S = 2.0
"""How often is looked whether there are workers."""
CLOSE_S = 10.0
QUIET = {
    "distributed.worker.profile.enabled": False,  # it takes a tenth of a core
    "distributed.admin.tick.interval": "1s",  # 50 looks a second whether a loop hangs: 2 % of a core for each process
    "distributed.worker.memory.monitor-interval": "500ms",
}
"""What dask looks at in processes of ours: with these, a third of what it takes while nothing happens."""


class Workers:
    """What searches blocks.

    Parameters
    ----------
    client
        Connected to a scheduler.
    retries
        How often a block that failed is tried again. One whose worker was lost is tried again anyway.
    resource
        Only workers that have it are asked, ``"GPU"``.
    """

    def __init__(self, client: Client, retries: int = 2, resource: str | None = None) -> None:
        self._client, self._retries = client, retries
        self._resources = {resource: 1} if resource else None
        self._lock = threading.Lock()
        self._looked_s = self._alive_s = time.monotonic()
        self._trouble = ""

    @property
    def n_threads(self) -> int:
        """How many blocks are searched at a time."""
        return max(1, sum(map(int, self._client.nthreads().values())))

    @property
    def address(self) -> str:
        """Where the dashboard is; without one, the scheduler."""
        return str(self._client.dashboard_link or self._client.scheduler.address)

    def submit(self, job: Job, priority: int) -> "Searching":
        """Have a block searched by whoever is free; those of higher priority first."""
        options: dict[str, Any] = {"pure": False, "retries": self._retries, "resources": self._resources}
        return Searching(self._client.submit(search, job, priority=priority, **options))

    def declare(self, table: Mapping[str, Any], config_folder: Path) -> Declared:
        """Return what an engine measures, as a worker knows it: here there may be no GPU. Raises StreamtrackError."""
        future = self._client.submit(declare, table, config_folder, pure=False, resources=self._resources)
        with foreign_errors(EngineError, "no worker could build the engine"):
            if not within(DECLARE_S, Searching(future).ready):
                raise TimeoutError(f"none had it within {DECLARE_S:g} s")
            declared: Declared = future.result(timeout=START_S)
            return declared

    def trouble(self) -> str:
        """Return why no block will be searched any more, nothing while all is well; may be called often."""
        if self._client.status != "running":
            return "the scheduler is gone"
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._looked_s > LOOK_S:
                self._looked_s = now_s
                self._trouble = self._look(now_s)
            return self._trouble

    def _look(self, now_s: float) -> str:
        try:
            alive = bool(self._client.nthreads())
        except Exception as error:  # whatever a broken connection makes of itself
            return f"the scheduler does not answer ({one_line(error)})"
        if alive:
            self._alive_s = now_s
        return "" if now_s - self._alive_s < WORKERLESS_S else f"there has been no worker for {WORKERLESS_S:g} s"


class Searching:
    """A block that is being searched."""

    def __init__(self, future: Future) -> None:
        self._future = future

    def ready(self, timeout_s: float) -> bool:
        """Wait; return whether there is a result, or an error."""
        with suppress(TimeoutError):
            self._future.exception(timeout=timeout_s)  # waits; ``distributed.wait`` would need a client for all threads
        return bool(self._future.done())

    def result(self) -> FoundBlock | None:
        """Return the block; None where the worker that held it was lost. Raises whatever else went wrong."""
        try:
            block: FoundBlock = self._future.result(timeout=START_S)
        except TimeoutError:
            if self.ready(0):
                raise
            return None
        except KilledWorker as error:
            died = f"{int(error.allowed_failures) + 1} workers died over it"
            raise EngineError(f"{died}: too little memory, or a back end that crashes?") from error
        return block

    def release(self) -> None:
        """Let go of it; returns at once."""
        self._future.release()


def _leave_ctrl_c() -> None:
    """Have a worker of our own leave Ctrl-C, which reaches every process of a terminal, to the program it is for.

    That one finishes its files, and ends its workers.
    """
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def connected(scheduler: "str | Client | None", n_workers: int | None) -> Iterator[Client]:
    """Yield a client: the one given, one of the scheduler at an address, or one of workers of our own.

    What is not given is closed in the end. Raises ConfigError where no scheduler answers, or no worker comes.
    """
    if isinstance(scheduler, Client):
        yield scheduler
    elif scheduler is not None:
        with silence_logging_cmgr(logging.CRITICAL), _client(scheduler) as client:  # what goes wrong is said once
            yield client
    else:
        with _own(n_workers) as cluster, _client(cluster) as client:
            client.register_worker_callbacks(_leave_ctrl_c)
            yield client


@contextmanager
def _client(address: Any) -> Iterator[Client]:
    try:
        if isinstance(address, str) and "://" in address:
            get_backend(address.partition("://")[0])  # a client of an unknown one hangs when it is collected
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # it raises all of these where nobody answers
        raise ConfigError(f"no scheduler of dask answers at {address}: {one_line(error)}") from error
    try:
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=START_S)
        if not client.nthreads():
            raise ConfigError(f"the scheduler at {address} has had no worker for {START_S:g} s: start some first")
        yield client
    finally:
        with suppress(Exception):  # what is gone is closed
            client.close(timeout=CLOSE_S)


@contextmanager
def _own(n_workers: int | None) -> Iterator[LocalCluster]:
    """Yield a cluster of this computer: a process and a thread for each core, unless another number is given."""
    with dask.config.set(QUIET):
        cluster = LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            security=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    try:
        yield cluster
    finally:
        with suppress(Exception):
            cluster.close(timeout=CLOSE_S)
