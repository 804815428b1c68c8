"""Acts in time without a command."""

import math
import threading
from collections.abc import Callable

from streamtrack.waiting import set_within

RETRY_S, LONGEST_RETRY_S = 0.25, 4.0
"""Between two tries: twice as long each time, or calls of a driver that is slow would pile up."""


class Alarm:
    """Calls ``act`` when ``due_in_s()`` is over, in a thread that ends when nothing is due any more.

    Parameters
    ----------
    due_in_s
        Returns how long from now; infinite when nothing is due.
    act
        Returns whether it is done; otherwise it is called again soon.
    """

    def __init__(self, due_in_s: Callable[[], float], act: Callable[[], bool]) -> None:
        self._due_in_s = due_in_s
        self._act = act
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def look_again(self) -> None:
        """Say that what is due has changed."""
        self._changed.set()
        with self._lock:
            if self._thread is None and math.isfinite(self._due_in_s()):
                thread = threading.Thread(target=self._wait, name="streamtrack-alarm", daemon=True)
                thread.start()  # where the computer has no thread left, the next look tries again
                self._thread = thread

    def _wait(self) -> None:
        retry_s = RETRY_S
        while True:
            self._changed.clear()
            with self._lock:
                due_s = self._due_in_s()
                if not math.isfinite(due_s):
                    self._thread = None
                    return
            if due_s > 0:
                set_within(self._changed, due_s)
            elif self._act():
                retry_s = RETRY_S
            else:
                set_within(threading.Event(), retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
