"""The progress bar of a run."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamtrack.run_record import Progress as RunProgress
from streamtrack.terminal import Drawing

REFRESH_S = 0.1
WORD_AFTER_S = 1.5
"""A start that takes longer is explained."""
STARTING = "starting; the first time, code is compiled for this computer, which takes up to half a minute"


def _in_notebook() -> bool:
    """Return whether this runs in a kernel; that a package of notebooks is installed, or imported, says nothing."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class FrameProgress(Drawing):
    """Shows how far a run is, ten times a second: a bar on stderr, in a notebook one line of text.

    Attributes
    ----------
    progress
        The state to show, set by the run after each frame; None before the first.
    """

    def __init__(self) -> None:
        self.progress: RunProgress | None = None
        self._notebook = _in_notebook()
        self._begun_s, self._explained = time.monotonic(), False
        self._bar = Progress(
            TextColumn("tracking"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[lost]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, force_jupyter=False),
            auto_refresh=False,
            disable=self._notebook,  # rich would need ipywidgets there
        )
        self._task: TaskID | None = None
        super().__init__(self._bar.start, self._show, self._close, REFRESH_S)

    def update(self, progress: RunProgress) -> None:
        """Take the state after a frame."""
        self.progress = progress

    def _show(self) -> None:
        progress = self.progress
        if progress is None:
            self._say_that_it_starts()
            return
        done = progress.processed + progress.lost
        lost = f"{progress.lost} lost" if progress.lost else ""
        if self._notebook:
            print(f"\rtracking {done}/{progress.n_frames or '?'} frames {lost}", end="", flush=True)
            return
        if self._task is None:
            self._task = self._bar.add_task("tracking", total=progress.n_frames, lost="")
        self._bar.update(self._task, completed=done, lost=lost, refresh=True)

    def _say_that_it_starts(self) -> None:
        if self._explained or time.monotonic() - self._begun_s < WORD_AFTER_S:
            return
        self._explained = True
        if self._notebook:
            print(STARTING, flush=True)
        elif self._bar.console.is_terminal:
            self._bar.console.print(STARTING, soft_wrap=True)

    def _close(self) -> None:
        self._bar.stop()
        if self._notebook:
            print()
