"""The progress bar of a run."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamtrack.run_record import Progress as RunProgress
from streamtrack.terminal import Drawing

REFRESH_S = 0.1


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
            return
        done = progress.processed + progress.lost
        lost = f"{progress.lost} lost" if progress.lost else ""
        if self._notebook:
            print(f"\rtracking {done}/{progress.n_frames or '?'} frames {lost}", end="", flush=True)
            return
        if self._task is None:
            self._task = self._bar.add_task("tracking", total=progress.n_frames, lost="")
        self._bar.update(self._task, completed=done, lost=lost, refresh=True)

    def _close(self) -> None:
        self._bar.stop()
        if self._notebook:
            print()
