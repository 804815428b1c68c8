"""Does what a request needs of the hardware, in a thread of its own: the loop waits for none of it."""

import threading
from collections.abc import Callable

from streamtrack.channel import Policy
from streamtrack.control.requests import Request
from streamtrack.workers import POLL_S, Worker

MOST_QUEUED = 16
Job = tuple[Request, Callable[[Request], None]]


class Hands(Worker[Job]):
    """One thread, which begins with the first request that needs it. Jobs raise nothing.

    Parameters
    ----------
    refuse
        Called with a request that finds too many before it, and why.
    """

    def __init__(self, refuse: Callable[[Request, str], None]) -> None:
        super().__init__("control", MOST_QUEUED, Policy.DROP_NEWEST)
        self._refuse = refuse
        self._starting = threading.Lock()
        self._is_started = self._is_closed = False

    def offer(self, item: Job) -> None:
        """Queue a job; never waits."""
        with self._starting:
            if not self._is_started and not self._is_closed:
                self.start()
                self._is_started = True
        self.channel.put(item, 0)

    def handle(self, item: Job) -> None:
        """Do one job."""
        request, job = item
        job(request)

    def close(self, because: str) -> None:
        """Refuse what waits, and leave the thread behind if it hangs."""
        self.channel.fail(because)
        with self._starting:
            self._is_closed = True
        if self._is_started:
            self.finish(POLL_S)

    def _count_drop(self, item: Job, cause: str) -> None:
        super()._count_drop(item, cause)
        self._refuse(item[0], cause)
