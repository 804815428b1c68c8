"""The progress bar of a run."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamtrack.run_record import Progress as RunProgress
from streamtrack.terminal import unseen

REFRESH_S = 0.1


class FrameProgress:
    """Shows how far a run is, at most ten times a second: a bar on stderr, in a notebook one line of text."""

    def __init__(self) -> None:
        self._notebook = "ipykernel" in sys.modules
        self._bar = Progress(
            TextColumn("tracking"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[lost]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, force_jupyter=False),
            disable=self._notebook,  # rich would need ipywidgets there
        )
        self._task: TaskID | None = None
        self._next_s = 0.0

    def __enter__(self) -> Self:
        with unseen():
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with unseen():
            self._bar.stop()
            if self._notebook:
                print()

    def update(self, progress: RunProgress) -> None:
        """Take the state after a frame; cheap between refreshes."""
        done = progress.processed + progress.lost
        now_s = time.monotonic()
        if now_s < self._next_s and done != progress.n_frames:
            return
        self._next_s = now_s + REFRESH_S
        with unseen():
            self._show(progress, done)

    def _show(self, progress: RunProgress, done: int) -> None:
        lost = f"{progress.lost} lost" if progress.lost else ""
        if self._notebook:
            print(f"\rtracking {done}/{progress.n_frames or '?'} frames {lost}", end="", flush=True)
            return
        if self._task is None:
            self._task = self._bar.add_task("tracking", total=progress.n_frames, lost="")
        self._bar.update(self._task, completed=done, lost=lost)
