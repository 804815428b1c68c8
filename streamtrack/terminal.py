"""What is shown while the terminal may be gone (its user went home, ssh broke off), or stands still.

A console in which text is being selected keeps whoever writes waiting, on Windows until Esc is pressed.
"""

from collections.abc import Callable
from contextlib import suppress

from streamtrack.waiting import Aside, set_within

END_TIMEOUT_S = 2.0
"""How long a terminal that stands still may keep what is done."""


def unseen() -> suppress:
    """Return a block in which an output that fails is left out: it must not turn what is being done into a failure."""
    return suppress(OSError, ValueError, SystemExit)  # rich ends the program where a pipe is broken


class Drawing(Aside):
    """Draws again and again in a thread of its own, which is the only one that waits for the terminal.

    Parameters
    ----------
    begin, draw, end
        Called in that thread: once, every ``every_s`` seconds, and once after a last ``draw``.
    every_s
        Seconds between two.
    """

    def __init__(
        self, begin: Callable[[], object], draw: Callable[[], object], end: Callable[[], object], every_s: float
    ) -> None:
        super().__init__(self._run, "streamtrack-view", END_TIMEOUT_S)
        self._begin, self._draw, self._end, self._every_s = begin, draw, end, every_s

    def _run(self) -> None:
        self._unseen(self._begin)
        while not set_within(self.over, self._every_s):
            self._unseen(self._draw)
        self._unseen(self._draw)
        self._unseen(self._end)

    @staticmethod
    def _unseen(show: Callable[[], object]) -> None:
        with unseen():
            show()
