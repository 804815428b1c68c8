"""Calls that may hang, into drivers and to other computers: the caller is released in time, whatever they do."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from streamtrack.errors import MicroscopeError, StreamtrackError, one_line
from streamtrack.waiting import done_within

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Future[Any]]

MOST_AT_A_TIME = 16
"""Calls under way; with so many, what is called hangs and further calls are refused at once."""
MOST_URGENT = 16
"""Urgent calls on top."""
DRIVER_CURE = "look after the device; a driver that hangs comes back only when the program is started again"


class Deadline:
    """Runs calls in threads of its own and waits for each no longer than a time-out.

    A call that hangs cannot be interrupted: its thread is left behind, as a daemon, and is used again should the call
    return after all.

    Parameters
    ----------
    timeout_s
        How long a call may take.
    most
        Calls under way at a time.
    error, cure
        What is raised, and what to do where no answer comes.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        most: int = MOST_AT_A_TIME,
        error: type[StreamtrackError] = MicroscopeError,
        cure: str = DRIVER_CURE,
    ) -> None:
        self.timeout_s = timeout_s
        self._most, self._error, self._cure = most, error, cure
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Job | None]] = []
        self._n_threads = 0
        self._closed = False

    def __call__(self, what: str, call: Callable[[], T], extra_s: float = 0.0, *, urgent: bool = False) -> T:
        """Return what ``call()`` returns; ``extra_s`` comes on top of the time-out.

        An urgent call, which makes something safe, is tried even where all others are refused.

        Raises
        ------
        StreamtrackError
            Of the kind that was chosen: it failed, or took too long. ``what`` says in the message what was asked for.
        """
        future: Future[T] = Future()
        self._worker(what, self._most + MOST_URGENT if urgent else self._most).put((call, future))
        if not done_within(future, self.timeout_s + extra_s):
            raise self._error(f"{what}: no answer within {self.timeout_s + extra_s:g} s: {self._cure}")
        try:
            return future.result(0)
        except Exception as error:
            raise self._error(f"{what}: {one_line(error)}") from error

    def close(self) -> None:
        """End the threads that are not in a call; the others end after it. Later calls are refused."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().put(None)

    def _worker(self, what: str, most: int) -> "SimpleQueue[_Job | None]":
        with self._lock:
            if self._closed:
                raise self._error(f"{what}: closed already")
            if self._idle:
                return self._idle.pop()
            if self._n_threads >= most:
                raise self._error(f"{what}: refused, as long as {self._n_threads} before it still hang")
            self._n_threads += 1
        jobs: SimpleQueue[_Job | None] = SimpleQueue()
        threading.Thread(target=self._work, args=(jobs,), name="streamtrack-call", daemon=True).start()
        return jobs

    def _work(self, jobs: "SimpleQueue[_Job | None]") -> None:
        while (job := jobs.get()) is not None:
            call, future = job
            try:
                result, error = call(), None
            except BaseException as failure:
                result, error = None, failure
            self._release(jobs)  # before the answer, so that the caller's next call finds this thread idle
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            del job, call, future, result, error  # nothing of a call is kept alive until the next

    def _release(self, jobs: "SimpleQueue[_Job | None]") -> None:
        with self._lock:
            if self._closed:
                jobs.put(None)
            else:
                self._idle.append(jobs)
