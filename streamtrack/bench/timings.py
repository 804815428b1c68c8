"""Every frame's stamps, exactly, in one array on disk."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.sinks.files import check_folder, replacing, sink_errors, with_partials
from streamtrack.types import FrameResult, SourceInfo

TIMINGS_NAME = "timings.npy"
FIELDS = ("frame", "grabbed", "dequeued", "detected", "linked", "decided", "received", "detections")
"""Frame index, the stamps in ns, when this sink had the result in ns, and how many particles were found."""
TIMING_DTYPE = np.dtype([(name, np.int64) for name in FIELDS])
_FIRST_ROWS = 10_000


class TimingSink:
    """Writes ``timings.npy``: one row of `TIMING_DTYPE` for each frame, in order.

    The array is made beforehand for as many frames as the source announces; without that it grows by doubling.
    """

    critical = False
    files = with_partials(TIMINGS_NAME)

    def __init__(self) -> None:
        self._folder = Path()
        self._rows: NDArray[np.void] = np.empty(0, TIMING_DTYPE)
        self._n = 0

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Make the array; raises SinkError where there is no such folder."""
        check_folder(folder)
        self._folder = folder
        self._rows = np.zeros(source.n_frames or _FIRST_ROWS, TIMING_DTYPE)
        self._n = 0

    def wants_denoised(self, frame_index: int) -> bool:
        """Return False: stamps need no image."""
        return False

    def write(self, result: FrameResult) -> None:
        """Keep the stamps of a frame."""
        received = monotonic_ns()
        if self._n == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        s = result.stamps
        stamps = (s.grabbed, s.dequeued, s.detected, s.linked, s.decided, received)
        self._rows[self._n] = (result.frame.index, *stamps, len(result.detections))
        self._n += 1

    def flush(self) -> None:
        """Do nothing: the array is small and written as a whole."""

    def close(self) -> None:
        """Write the file; raises SinkError."""
        path = self._folder / TIMINGS_NAME
        with replacing(path) as partial, sink_errors(path):
            np.save(partial, self._rows[: self._n], allow_pickle=False)


def read_timings(folder: Path) -> NDArray[np.void]:
    """Return what a run with this sink left in its folder, (N,) of `TIMING_DTYPE`."""
    rows: NDArray[np.void] = np.load(folder / TIMINGS_NAME, allow_pickle=False)
    return rows
