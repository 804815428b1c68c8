"""The newest image of a camera, tracked in a thread of its own: whoever hands images over never waits."""

import threading
import time
from collections import deque
from typing import Any

from numpy.typing import NDArray

from streamtrack.api import Tracker
from streamtrack.errors import StreamtrackError
from streamtrack.types import FrameResult
from streamtrack.waiting import joined_within

WAKE_S = 0.2
LEAVE_S = 30.0
"""An engine may just be starting."""


class NewestTracked:
    """Tracks the newest of the images that are handed over; those that come meanwhile are passed over.

    Parameters
    ----------
    **settings
        Those of `streamtrack.Tracker`.

    Attributes
    ----------
    threshold
        Holds from the next image on; None leaves the engine's.
    result
        Of the newest image that is done; whoever has seen it may set it to None.
    error
        Why it has stopped, in a line; else empty.
    """

    def __init__(self, **settings: Any) -> None:
        self.threshold: float | None = None
        self.result: FrameResult | None = None
        self.error = ""
        self._settings = settings
        self._waiting: deque[tuple[NDArray[Any], float]] = deque(maxlen=1)
        self._stream: dict[str, int] = {}
        self._tracker: Tracker | None = None
        self._made_for: tuple[Any, ...] = ()
        self._threshold: float | None = None
        self._acquisition = 0
        self._came, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamtrack-newest", daemon=True)
        self._thread.start()

    def take(self, image: NDArray[Any]) -> None:
        """Take an image (H, W); returns at once, from any thread. Leave it as it is from now on."""
        self._waiting.append((image, time.monotonic()))
        self._came.set()

    def take_event(self, image: NDArray[Any], event: Any, metadata: object = None) -> None:
        """Take an image of an acquisition of pymmcore-plus: of several channels, planes or positions the first."""
        stream = {axis: at for axis, at in event.index.items() if axis != "t"}
        if not any(event.index.values()):
            self._stream = stream
            self._acquisition += "t" in event.index
        if stream == self._stream:
            self.take(image)

    def close(self) -> None:
        """Stop. May be called twice."""
        self._over.set()
        self._came.set()
        joined_within(self._thread, LEAVE_S)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                if self._came.wait(WAKE_S):
                    self._came.clear()
                    while self._waiting and not self._over.is_set():
                        self._track(*self._waiting.popleft())
        except StreamtrackError as error:
            self.error = str(error)
        finally:
            if self._tracker is not None:
                self._tracker.close()

    def _track(self, image: NDArray[Any], time_s: float) -> None:
        made_for = (image.shape, image.dtype, self._acquisition)
        if self._tracker is None or made_for != self._made_for:
            if self._tracker is not None:
                self._tracker.close()
            self._tracker, self._made_for = Tracker(image.shape, image.dtype, **self._settings), made_for
            self._threshold = None
        if self.threshold not in (None, self._threshold):
            self._threshold = self.threshold
            self._tracker.set_threshold(self._threshold)
        self.result = self._tracker(image, time_s)
