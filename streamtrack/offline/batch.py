"""Many movies, or long ones: `batch` has their frames searched by workers, and runs a session for each movie.

The sessions are those of ``track``. They run in threads here; what takes long is done elsewhere.
"""

import importlib.util
import multiprocessing
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from streamtrack.api import tables_of
from streamtrack.config import IngestConfig, PluginConfig, RunConfig, validate
from streamtrack.errors import ConfigError, SinkError, SourceError, StreamtrackError, described
from streamtrack.garbage import frozen_gc
from streamtrack.interrupts import Stop
from streamtrack.offline.blocks import BlockEngine, BlockSource, cut
from streamtrack.offline.jobs import Declared, Job
from streamtrack.offline.manifest import MANIFEST, Manifest, decisive
from streamtrack.offline.movies import BatchMovie, contradicted, find
from streamtrack.offline.page import check_page, write_page
from streamtrack.offline.plan import PIXEL_BYTES, BatchPlan, Share
from streamtrack.offline.rows import BatchState, MovieRow
from streamtrack.registry import check_settings, load
from streamtrack.results import Results
from streamtrack.run_folder import RunFolder
from streamtrack.run_record import Progress
from streamtrack.session import Session
from streamtrack.settings import settings_model
from streamtrack.sinks.page.sink import PAGE
from streamtrack.stop_file import StopFile
from streamtrack.waiting import joined_within

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

    from streamtrack.offline.cluster import Workers

MOST_SESSIONS = 64
END_S = 60.0
"""How long sessions may take to finish their files after a stop."""


class BatchResults(Mapping[str, Results]):
    """What a batch found: the `Results` of each movie by its name, and a table of all.

    Movies that failed, or were not reached, have a row in the table and no results.
    """

    def __init__(self, rows: Sequence[MovieRow]) -> None:
        self.rows = list(rows)
        self._folders = {row.movie: row.folder for row in rows if row.status in ("completed", "incomplete")}

    @property
    def table(self) -> "pd.DataFrame":
        """A row a movie: ``movie, folder, status, frames, lost, detections, seconds, error``."""
        import pandas as pd

        names = ("movie", "folder", "status", "frames", "lost", "detections", "seconds", "error")
        return pd.DataFrame({name: [getattr(row, name) for row in self.rows] for name in names})

    def __getitem__(self, name: str) -> Results:
        return Results(self._folders[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    def __repr__(self) -> str:
        return f"<streamtrack.BatchResults: {len(self)} of {len(self.rows)} movies>"


def batch(
    movies: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    workers: int | None = None,
    scheduler: "str | Client | None" = None,
    overwrite: bool = False,
    progress: bool = True,
    block: int | None = None,
    retries: int = 2,
    resource: str | None = None,
    timeout_s: float = 3600.0,
    **settings: Any,
) -> BatchResults:
    """Track many movies, or long ones, with all cores of this computer or those of a cluster.

    Blocks of frames are searched by workers of dask.distributed; they are linked here, in order. Each movie, position
    and channel has a run folder of its own below ``out``, whose tables are those that `track` makes with the same back
    end and one thread. What an earlier batch into the same folder has tracked to its end is not tracked again.

    A script calls this under ``if __name__ == "__main__":``, as workers of this computer import it.

    Parameters
    ----------
    movies
        Paths, patterns such as ``"plate/*.zarr"``, folders with movies in them, or simulated movies.
    out
        Folder for the results.
    workers
        Processes on this computer; by default one for each core. With an engine on a GPU 1 is enough.
    scheduler
        Address of a scheduler of dask, or a client of one, in place of workers of our own.
    overwrite
        Whether all is to be tracked again, and results of other settings replaced.
    progress
        Whether to show progress bars, on stderr.
    block
        Frames of a task; by default 32 to 256.
    retries
        How often a block that failed is tried again. One whose worker is lost is tried again anyway.
    resource
        Only workers with this resource of dask are asked, for example ``"GPU"``.
    timeout_s
        How long a block may take.
    **settings
        Tables of a run's TOML file, as in `track`: ``engine``, ``linker``, ``source`` (of all movies), ``measures``,
        ``sinks`` (by default the tables alone), ``roi``, ``mask``, ``pixel_size_um``, ``frame_interval_s``.

    Returns
    -------
    BatchResults
        The `Results` of each movie, and a table of all. Movies that failed are said as a warning.

    Raises
    ------
    StreamtrackError
        If a setting is wrong, the folder holds something else, or no worker can be had.
    """
    tables = tables_of(settings)
    source = tables.pop("source", {})
    plan = BatchPlan(workers, scheduler, resource, block, retries, timeout_s)
    config = batch_config(tables, "batch")
    named = [movies] if isinstance(movies, str | Path) else list(movies)
    work = BatchRun(named, Path(out), config, source, plan, overwrite=overwrite)
    for line in work.contradictions:
        warnings.warn(line, stacklevel=2)
    if progress:
        from streamtrack.offline.progress import BatchProgress

        with BatchProgress(work.state):
            rows = work.run()
    else:
        rows = work.run()
    if work.state.trouble:
        warnings.warn(work.state.trouble, stacklevel=2)
    failed = [row for row in rows if row.status not in ("completed", "incomplete")]
    if failed:
        first = f"{failed[0].movie} {failed[0].status}: {failed[0].error}"
        warnings.warn(f"{len(failed)} of {len(rows)} movies have no results; {first}", stacklevel=2)
    return BatchResults(rows)


def batch_config(tables: Mapping[str, Any], where: str) -> RunConfig:
    """Return the configuration of all movies; raises ConfigError where it decides something while it runs."""
    live = [name for name in ("triggers", "actuators", "microscope") if tables.get(name)]
    if live or tables.get("mode", "observe") != "observe":
        what = live[0] if live else "mode"
        raise ConfigError(f"{where}: a batch decides nothing, leave out {what}; 'track' takes movies with triggers")
    return validate(RunConfig, {"sinks": [{"kind": "tables"}], **tables}, where)


class BatchRun:
    """A batch, ready to go.

    Parameters
    ----------
    named
        What is to be tracked.
    folder
        Of the results.
    config
        Of each movie, without its source.
    source
        Settings of all sources.
    plan
        How it is run.
    overwrite
        Whether results may be replaced.
    stop
        Requests to end it, where they are heard already.

    Raises
    ------
    ConfigError
        Dask is not installed, nothing is there, or the folder holds something else.
    """

    def __init__(
        self,
        named: Sequence[str | Path],
        folder: Path,
        config: RunConfig,
        source: Mapping[str, Any],
        plan: BatchPlan,
        *,
        overwrite: bool = False,
        stop: Stop | None = None,
    ) -> None:
        _refuse_without_dask()
        _refuse_in_worker()
        self._config, self._plan, self._overwrite = config, plan, overwrite
        self._folder = folder
        self._stop = stop or Stop()
        self._engine_table = _engine_table(config.engine, own=plan.scheduler is None)
        self._movies = find(named, source)
        self._decisive = {**decisive(config, self._movies), "source": dict(source)}
        check_page(folder)
        self.state = BatchState([self._row(movie) for movie in self._movies])
        self._manifest = self._look()
        self._sessions: list[Session] = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def contradictions(self) -> list[str]:
        """Where the settings contradict what movies say of their calibration, each line once."""
        return contradicted(self._movies, self._config)

    def run(self) -> list[MovieRow]:
        """Track all movies; return what became of each. Errors of one movie keep no other from being tracked."""
        folder = RunFolder(self._folder)
        if self._is_there_work() or not (self._folder / PAGE).exists():
            with ExitStack() as opened:
                opened.callback(folder.release)
                folder.lock()
                folder.refuse_stores(movie.source.get("path") for movie in self._movies)
                check_page(self._folder)
                opened.enter_context(StopFile(self._folder, self._stop, dict))
                self._manifest = self._look()  # another batch may have been here until now
                if self._is_there_work():
                    self._run()
                self._compare()
        return self.state.rows

    def _compare(self) -> None:
        """Write the page that compares all movies of the folder; what keeps it from that is said, and fails none."""
        if self._over.is_set() or not (self._folder / MANIFEST).is_file():
            return  # broken off, or there is nothing to compare
        rows = [*self.state.rows, *self._manifest.others(self._movies)]
        try:
            write_page(self._folder, rows, self._decisive)
        except SinkError as error:
            self.state.trouble = str(error)

    def _look(self) -> Manifest:
        """See what an earlier batch has done; raises ConfigError where this one would not fit beside it."""
        manifest = Manifest(self._folder, self._decisive, self._overwrite)
        manifest.check(self._movies)
        for movie, row in zip(self._movies, self.state.rows, strict=True):
            if row.status != "waiting" or self._overwrite or (report := manifest.report_of(movie)) is None:
                continue
            if other := manifest.changed(movie, report, self._config):
                row.status, row.error = "failed", other
            else:
                row.take(report)
                row.skipped = True
        return manifest

    def _is_there_work(self) -> bool:
        return any(row.status == "waiting" for row in self.state.rows)

    def _run(self) -> None:
        from streamtrack.offline.cluster import Workers, connected

        with self._stop, ExitStack() as opened:
            with self._stop.breaks_off():
                client = opened.enter_context(connected(self._plan.scheduler, self._plan.workers))
                workers = Workers(client, self._plan.retries, self._plan.resource)
                declared = workers.declare(self._engine_table, self._config.folder)
            begun = {movie.name for movie in self._movies if self._manifest.has_begun(movie)}
            self._manifest.add(self._movies)  # not before there is somebody to do it
            self.state.dashboard, self.state.n_workers = workers.address, workers.n_threads
            with frozen_gc():  # once, and not for each movie
                self._run_all(workers, declared, begun)

    def _run_all(self, workers: "Workers", declared: Declared, begun: set[str]) -> None:
        todo: SimpleQueue[tuple[int, BatchMovie, MovieRow]] = SimpleQueue()
        for number, (movie, row) in enumerate(zip(self._movies, self.state.rows, strict=True)):
            if row.status == "waiting":
                todo.put((number, movie, row))
        n_threads = min(todo.qsize(), workers.n_threads + 1, MOST_SESSIONS)
        share = Share(workers, declared, self.state.n_workers, todo.qsize())

        def work() -> None:
            while not self._over.is_set():
                try:
                    number, movie, row = todo.get_nowait()
                except Empty:
                    return
                self._track(number, movie, row, share, movie.name in begun)

        self._stop.on_request(self._break_off)
        threads = [threading.Thread(target=work, name=f"streamtrack-batch-{n}", daemon=True) for n in range(n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while not joined_within(thread, 1.0) and not self._over.is_set():
                pass
        for thread in threads:
            joined_within(thread, END_S)

    def _break_off(self) -> None:
        """End every session, as Ctrl-C ends that of ``track``; called by the safety thread."""
        self._over.set()
        with self._lock:
            for session in self._sessions:
                session.stop()

    def _track(self, number: int, movie: BatchMovie, row: MovieRow, share: "Share", begun: bool) -> None:
        """Track one movie; whatever goes wrong is its row's error."""
        row.status, began_s = "running", time.monotonic()
        try:
            if trouble := share.workers.trouble():  # an earlier try's results are left as they are
                raise SourceError(trouble)
            session = self._session(number, movie, row, share, begun)
            with self._lock:
                self._sessions.append(session)
                if self._over.is_set():
                    session.stop()
            try:
                row.take(session.run(lambda progress: _show(row, progress)))
            finally:
                with self._lock:
                    self._sessions.remove(session)
        except KeyboardInterrupt:
            row.status = "interrupted"
        except BaseException as error:  # the other movies have nothing to do with it
            row.status = "failed"
            row.error = str(error) if isinstance(error, StreamtrackError) else described(error)
        row.seconds = round(time.monotonic() - began_s, 3)

    def _session(self, number: int, movie: BatchMovie, row: MovieRow, share: "Share", begun: bool) -> Session:
        assert movie.info is not None
        config = self._config.model_copy(
            update={
                "source": PluginConfig(**movie.source),
                "ingest": IngestConfig(policy="block", stall_timeout_s=2 * self._plan.timeout_s),
            }
        )
        sinks = [load("sinks", sink.kind) for sink in config.sinks]
        pixels = bool(config.measures) or any(getattr(sink, "needs_pixels", True) for sink in sinks)
        job = Job(movie.source, self._engine_table, self._config.folder, pixels=pixels)
        before = share.declared.frames_before
        frame_bytes = movie.info.shape[0] * movie.info.shape[1] * 4 if pixels else 1
        length = self._plan.block or share.block_frames(movie.info.n_frames, frame_bytes)
        jobs = [job] if movie.frames is None else cut(job, movie.frames, length, before, movie.open_end)
        under_way = max(2, min(2 * share.n_workers + 1, 8 * PIXEL_BYTES // (length * frame_bytes)))
        source = BlockSource(
            movie.info,
            jobs,
            lambda job: share.workers.submit(job, -number),
            share.workers.trouble,
            under_way,
            self._plan.timeout_s,
            before,
        )
        engine = BlockEngine(share.declared, self._engine_table, source, len(jobs))
        return Session(config, row.folder, overwrite=begun or self._overwrite, source=source, engine=engine)

    def _row(self, movie: BatchMovie) -> MovieRow:
        row = MovieRow(movie.name, self._folder / movie.name, movie.info.n_frames if movie.info else None)
        if movie.error:
            row.status, row.error = "failed", movie.error
        elif row.folder.resolve() == Path(str(movie.source.get("path", ""))).resolve():
            row.status, row.error = (
                "failed",
                f"its results would lie among its images in {row.folder}: choose another --out",
            )
        return row


def _show(row: MovieRow, progress: Progress) -> None:
    row.frames, row.lost = progress.processed, progress.lost


def _engine_table(config: PluginConfig, *, own: bool) -> dict[str, Any]:
    """Return the engine's table for workers: of our own, which are as many as there are cores, each takes a thread."""
    check_settings("engines", config)
    table = config.model_dump(mode="json")
    if own and "threads" in settings_model(load("engines", config.kind)).model_fields:
        table.setdefault("threads", 1)
    return table


def _refuse_without_dask() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError('a batch needs dask.distributed: pip install ".[offline]"')


def _refuse_in_worker() -> None:
    """Raise ConfigError in a worker that imports the script which started it, for ever."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError('call streamtrack.batch under if __name__ == "__main__": workers import the script')
