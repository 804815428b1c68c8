"""One loaded network for several streams: each has frames of its own before the current one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack_engines.backends.cpu import FrameHistory
from streamtrack_engines.backends.runner import Runner


class _Shared:
    """The loaded network, and whose frames it has in hand."""

    def __init__(self, runner: Runner, history: FrameHistory) -> None:
        self.runner, self.history = runner, history
        self.holder: StreamRunner | None = None
        self.users = 0


class StreamRunner:
    """A `streamtrack_engines.backends.runner.Runner` that shares its network with those of other streams.

    Where another had it last, the frames of the two are exchanged: a copy of some megabytes.
    """

    def __init__(self, shared: _Shared, frames: NDArray[Any]) -> None:
        self._shared, self._frames = shared, frames
        self._closed = False
        shared.users += 1

    @classmethod
    def sharing(cls, runner: Runner) -> "StreamRunner | None":
        """Return a runner that takes over this one, and can be `another`; None where the back end cannot share."""
        history = getattr(runner, "history", None)
        if history is None:
            return None
        first = cls(_Shared(runner, history), history.frames.copy())
        first._shared.holder = first
        return first

    def another(self) -> "StreamRunner":
        """Return a runner for another stream."""
        return StreamRunner(self._shared, np.zeros_like(self._frames))

    @property
    def memory_bytes(self) -> int:
        """What the stream's frames take."""
        return self._frames.nbytes

    @property
    def info(self) -> Mapping[str, Any]:
        """Of the network's runner."""
        return self._shared.runner.info

    @property
    def current(self) -> NDArray[Any]:
        """Shape (H, W): the next frame is written here, and then `run`, with no other stream's in between."""
        shared = self._shared
        if shared.holder is not self:
            if shared.holder is not None:
                shared.holder._frames[:] = shared.history.frames
            shared.history.frames[:] = self._frames
            shared.holder = self
        return shared.runner.current

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it, as in `Runner`; raises EngineError."""
        return self._shared.runner.run(denoise=denoise)

    def clear(self) -> None:
        """Forget the frames seen so far."""
        self._frames.fill(0)
        if self._shared.holder is self:
            self._shared.runner.clear()

    def close(self) -> None:
        """Release the network's memory once no stream needs it. May be called twice."""
        if not self._closed:
            self._closed = True
            self._shared.users -= 1
            if not self._shared.users:
                self._shared.runner.close()
