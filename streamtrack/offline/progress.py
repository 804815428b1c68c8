"""The progress bars of a batch: one for all, and one for each movie that is being tracked."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamtrack.offline.rows import BatchState, MovieRow
from streamtrack.terminal import Drawing

REFRESH_S = 0.25
MOST_BARS = 8
"""Of movies that are tracked at the same time, those that are shown."""


class BatchProgress(Drawing):
    """Shows how far a batch is, on stderr."""

    def __init__(self, state: BatchState) -> None:
        self._state = state
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self._all: TaskID | None = None
        self._movies: dict[str, TaskID] = {}
        self._said_where = False
        super().__init__(self._bar.start, self._show, self._bar.stop, REFRESH_S)

    def _show(self) -> None:
        rows, bar = [row for row in self._state.rows if not row.skipped], self._bar
        if self._state.dashboard and not self._said_where:
            self._said_where = True
            workers = f"{self._state.n_workers} worker{'s' * (self._state.n_workers != 1)}"
            bar.console.print(f"{workers}, dashboard at {self._state.dashboard}", highlight=False, markup=False)
        for name in [name for name in self._movies if not any(_runs(row) and row.movie == name for row in rows)]:
            bar.remove_task(self._movies.pop(name))
        for row in [row for row in rows if _runs(row)][:MOST_BARS]:
            if row.movie not in self._movies:
                self._movies[row.movie] = bar.add_task(row.movie, total=row.n_frames, said="")
            lost = f"{row.lost} lost" if row.lost else ""
            bar.update(self._movies[row.movie], completed=row.frames + row.lost, said=lost)
        if self._all is None:
            self._all = bar.add_task("all frames", total=None, said="")
        done = sum(row.status not in ("waiting", "running") for row in rows)
        known = [row.n_frames for row in rows if row.n_frames is not None]
        total = sum(known) if len(known) == len(rows) else None
        completed = sum(row.frames + row.lost for row in rows)
        bar.update(self._all, total=total, completed=completed, said=f"{done} of {len(rows)} movies", refresh=True)


def _runs(row: MovieRow) -> bool:
    return row.status == "running"
