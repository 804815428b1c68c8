"""What the back ends on the CPU share: the frames that the graph takes at once, how many threads, the warm-up."""

import os
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack_engines.backends.runner import DeployFile, FrameSize, Runner


class FrameHistory:
    """The current frame and those before it, as the graph takes them; frames that are not known are zeros.

    Attributes
    ----------
    frames
        (T, H, W), oldest first.
    raw
        (1, T, H, W, B) uint8, oldest first; the bytes of the pixels, lowest first.
    current
        (H, W), a view of the last one: write the next frame into it, run the graph, then call `advance`. A run that
        failed leaves no trace, as the next frame is written over its own.
    """

    def __init__(self, n_frames: int, size: FrameSize) -> None:
        shape = (n_frames, size.height, size.width)
        self.frames: NDArray[Any] = np.zeros(shape, np.dtype(f"<u{size.itemsize}"))
        self.raw = self.frames.view(np.uint8).reshape(1, *shape, size.itemsize)
        self.current: NDArray[Any] = self.frames[-1]

    def advance(self) -> None:
        """Make the current frame the one before."""
        for older, newer in pairwise(self.frames):
            older[:] = newer  # one by one: numpy would copy the whole movie first, as source and target overlap

    def clear(self) -> None:
        """Forget all frames."""
        self.frames.fill(0)


def default_threads() -> int:
    """Return the number of cores to compute on: those this process may use, without hyper-threads beyond 4."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable if usable <= 4 else max(4, usable // 2)


def warmed_up(runner: Runner, file: DeployFile) -> Runner:
    """Return a runner that has run each of its programs once, and knows no frame."""
    for denoise in file.programs:
        runner.run(denoise=denoise)
    runner.clear()
    return runner
