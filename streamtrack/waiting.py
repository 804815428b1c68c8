"""Waits that hear Ctrl-C: in short steps, because on Windows a wait for a lock is deaf until it is over.

Nothing else in the tree waits longer than `STEP_S` at a time.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

STEP_S = 0.25
"""Longest wait at a time."""


def within(timeout_s: float, wait: Callable[[float], bool], give_up: Callable[[], bool] = lambda: False) -> bool:
    """Call ``wait(step_s)`` until it returns True, or until the time is over or ``give_up()``; return which."""
    end_s = time.monotonic() + timeout_s
    while not wait(min(STEP_S, max(0.0, end_s - time.monotonic()))):
        if give_up() or time.monotonic() >= end_s:
            return False
    return True


def set_within(event: threading.Event, timeout_s: float) -> bool:
    """Wait for an event; return whether it is set."""
    return within(timeout_s, event.wait)


def joined_within(thread: threading.Thread, timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> bool:
    """Wait for a thread to end; return whether it has."""

    def wait(step_s: float) -> bool:
        thread.join(step_s)
        return not thread.is_alive()

    return within(timeout_s, wait, give_up)


def done_within(future: Future[Any], timeout_s: float) -> bool:
    """Wait for a future; return whether it has a result, or an error."""

    def wait(step_s: float) -> bool:
        try:
            future.exception(step_s)  # returned, not raised: a TimeoutError here is the wait's own
        except TimeoutError:
            return False
        return True

    return within(timeout_s, wait)


def acquired_within(lock: threading.Lock, timeout_s: float) -> bool:
    """Wait for a lock; return whether it is held now."""
    return within(timeout_s, lambda step_s: lock.acquire(timeout=step_s))


class Aside:
    """A thread of its own beside a ``with`` block; one that hangs keeps the block for a while only.

    Parameters
    ----------
    run
        Called in that thread; has to return soon once ``over`` is set, which is at the end of the block.
    name
        Of the thread.
    leave_s
        How long the end of the block waits for it.
    """

    def __init__(self, run: Callable[[], None], name: str, leave_s: float) -> None:
        self.over = threading.Event()
        self._leave_s = leave_s
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        joined_within(self._thread, self._leave_s)
