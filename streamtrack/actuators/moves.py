"""Moves under way, and how they are halted."""

import threading
from collections.abc import Callable

from streamtrack.clock import monotonic_ns
from streamtrack.errors import described
from streamtrack.waiting import joined_within

EVERY_S = 0.05
"""A move that had begun just before a stop may start after it: it is halted again and again until none is left."""
WAIT_S = 1.0
"""How long `Moves.settle` waits for that; the halting goes on behind it."""
MOST_S = 30.0


class Moves:
    """Counts moves under way, and halts them.

    Parameters
    ----------
    halt
        Stops stage and focus drive where they are.
    """

    def __init__(self, halt: Callable[[], None]) -> None:
        self._halt = halt
        self._lock = threading.Lock()
        self._under_way = 0
        self._halter: threading.Thread | None = None
        self.outcome: str | None = None
        """What became of the last halt; None where there was nothing to halt."""

    @property
    def is_halting(self) -> bool:
        """Whether what moves is still being halted."""
        return self._halter is not None

    def begin(self) -> None:
        """Count a move. Called before it is looked at whether the run was stopped: a stop sees one or the other."""
        with self._lock:
            self._under_way += 1

    def during(self, call: Callable[[], None]) -> None:
        """Make the move that was counted."""
        try:
            call()
        finally:
            with self._lock:
                self._under_way -= 1

    def halt(self) -> None:
        """Begin to halt what moves, until nothing does."""
        with self._lock:
            if not self._under_way or self._halter is not None:
                return
            halter = threading.Thread(target=self._halt_all, name="streamtrack-halt", daemon=True)
            if started(halter):
                self._halter = halter
                return
        self._halt_once()

    def settle(self) -> None:
        """Wait a little for that."""
        if (halter := self._halter) is not None:
            joined_within(halter, WAIT_S)

    def _halt_all(self) -> None:
        give_up_ns = monotonic_ns() + int(1e9 * MOST_S)
        pause = threading.Event()
        while self._under_way and monotonic_ns() < give_up_ns:
            self._halt_once()
            pause.wait(EVERY_S)
        with self._lock:
            self._halter = None

    def _halt_once(self) -> None:
        try:
            self._halt()
            self.outcome = "halted"
        except Exception as error:  # the next try may do it
            self.outcome = described(error)


def started(thread: threading.Thread) -> bool:
    """Start a thread; return False where the computer has none left: what cannot wait is then done without."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
