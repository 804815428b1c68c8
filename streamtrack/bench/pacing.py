"""Waiting for a moment: frames that come at a camera's rate."""

import sys
import time
from threading import Event

from streamtrack.clock import monotonic_ns

SPIN_NS = 2_000_000 if sys.platform == "win32" else 200_000
"""A sleep may end so much late: the rest is spent asking for the time."""
LOOK_S = 0.02
"""How often a waiting thread looks whether it should stop. Waiting for the event itself ends, on Windows, with the next
tick of 15.6 ms; a sleep does not."""


def wait_until(moment_ns: int, stop: Event | None = None) -> bool:
    """Wait for a moment of the monotonic clock; return False as soon as ``stop`` is set before it."""
    while (left_ns := moment_ns - monotonic_ns()) > 0:
        if stop is not None and stop.is_set():
            return False
        # Of 0 too: it lets another thread run, which asking in a circle would not.
        time.sleep(min(max(left_ns - SPIN_NS, 0) / 1e9, LOOK_S))
    return stop is None or not stop.is_set()


class CameraClock:
    """The moments at which a camera has its frames ready; without an interval, whenever it is asked.

    Parameters
    ----------
    interval_ns
        From frame to frame; None for no camera.
    """

    def __init__(self, interval_ns: int | None) -> None:
        self._interval_ns = interval_ns
        self._start_ns = monotonic_ns()
        self._slot = -1

    def next_slot(self) -> int:
        """Wait for a frame that was not given yet, and return its number: of several that are ready, the newest."""
        self._slot += 1
        if self._interval_ns is not None:
            self._slot = max(self._slot, (monotonic_ns() - self._start_ns) // self._interval_ns)
            wait_until(self._start_ns + self._slot * self._interval_ns)
        return self._slot
