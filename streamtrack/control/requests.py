"""Requests to change a run while it runs: where they wait, how they are answered, and where that is written down."""

import reprlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from streamtrack.clock import Clock, monotonic_ns
from streamtrack.errors import ControlRefused, StreamtrackError, described
from streamtrack.types import FrameResult
from streamtrack.waiting import done_within

MOST_WAITING = 64
"""Requests that may wait for the next frame; more are refused at once."""
FULL = f"{MOST_WAITING} requests wait already: ask again when they are answered"
VALID_S = 30.0
"""A request that the loop has not come to by then is not carried out any more: nobody expects it."""
WAIT_S = 10.0
"""How long a caller waits unless he says otherwise."""
LONGEST_KEPT = 1000
"""Characters of what was asked for."""
MOST_KEPT = 1000
"""Changes that the report lists; ``commands.jsonl`` has all."""

Who = Literal["python", "terminal", "page", "run"]
"""From where a change was asked for; ``run`` where it followed from what the frames show."""


class Made(NamedTuple):
    """What a change did."""

    before: Any
    after: Any


class Asked(NamedTuple):
    """What was asked for.

    Attributes
    ----------
    change
        What is changed, in a word.
    wanted
        What it is to become.
    rule
        Of which rule; empty where it is about none.
    """

    change: str
    wanted: Any
    who: Who
    rule: str = ""


Make = Callable[[FrameResult | None], Made]
"""Makes a change, between two frames; is given what became of the one before. What it raises is why it is refused."""


class Request(Future[dict[str, Any]]):
    """A change that was asked for. A future of its line in ``commands.jsonl``; `asyncio.wrap_future` takes it, too.

    Cancelled before the loop comes to it, it is withdrawn. One that is refused has `ControlRefused` for an error.
    """

    def __init__(self, asked: Asked, make: Make, clock: Clock = monotonic_ns) -> None:
        super().__init__()
        self.asked, self.make = asked, make
        self._valid_until_ns = clock() + round(1e9 * VALID_S)
        self._clock = clock

    def wait(self, timeout_s: float = WAIT_S) -> dict[str, Any]:
        """Wait until the change is made, and return its line: ``change, before, after, frame, time, who``, and more.

        Raises
        ------
        ControlRefused
            It is not made, and why; or it was not in time, and is withdrawn.
        StreamtrackError
            It is under way, but takes longer.
        """
        try:
            if done_within(self, timeout_s):
                return self.result(0)
            if self.cancel():
                raise ControlRefused(
                    f"{self.asked.change}: no frame came within {timeout_s:g} s; the request is withdrawn"
                )
        except CancelledError:
            raise ControlRefused(f"{self.asked.change}: the request was withdrawn") from None
        raise StreamtrackError(f"{self.asked.change}: under way, but not done within {timeout_s:g} s")

    @property
    def is_late(self) -> bool:
        """Whether nobody expects it to be made any more."""
        return self._clock() > self._valid_until_ns


class Mailbox:
    """Where requests wait for the loop.

    Attributes
    ----------
    asked
        Whether there is anything for the loop to do: all that it looks at in a quiet run.
    """

    def __init__(self) -> None:
        self.asked = False
        self._lock = threading.Lock()
        self._waiting: list[Request] = []
        self._closed_because = ""

    def put(self, request: Request) -> str:
        """Have a request wait; return why not, ``""`` where it does."""
        with self._lock:
            if self._closed_because:
                return self._closed_because
            if len(self._waiting) >= MOST_WAITING:
                return FULL
            self._waiting.append(request)
            self.asked = True
            return ""

    def take(self) -> list[Request]:
        """Return the requests that wait, oldest first, and forget them."""
        with self._lock:
            taken, self._waiting, self.asked = self._waiting, [], False
            return taken

    @property
    def closed_because(self) -> str:
        """Why nothing is taken any more; empty while it is."""
        return self._closed_because

    def close(self, because: str) -> list[Request]:
        """Take nothing any more; return what waited."""
        with self._lock:
            self._closed_because = self._closed_because or because
        return self.take()


class Changes:
    """The changes of a run, as its report and ``commands.jsonl`` have them. Any thread may add one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[dict[str, Any]] = []
        self._left_out = 0
        self._events_refused: Counter[str] = Counter()
        self._write: Callable[[Mapping[str, Any]], None] | None = None

    def write_to(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        """Write each change down from now on, and those that there were; ``write`` must not wait."""
        with self._lock:
            for line in self._kept:
                write(line)
            self._write = write

    def add(self, asked: Asked, where: Mapping[str, Any], fate: str, **more: Any) -> dict[str, Any]:
        """Add a change, or one that was refused, and return its line."""
        more = {key: _kept(value) if key == "wanted" else value for key, value in more.items()}
        line = {
            "fate": fate,
            "change": asked.change,
            **({"rule": _kept(asked.rule)} if asked.rule else {}),
            **where,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": asked.who,
            **more,
        }
        with self._lock:
            if len(self._kept) < MOST_KEPT:
                self._kept.append(line)
            else:
                self._left_out += 1
            if self._write is not None:
                self._write(line)
        return line

    def refuse(self, request: Request, where: Mapping[str, Any], error: BaseException | str) -> None:
        """Write down that a request is refused, and say so to who asked."""
        if isinstance(error, BaseException):
            error = str(error) if isinstance(error, StreamtrackError) else described(error)
        self.add(request.asked, where, "refused", wanted=request.asked.wanted, error=error)
        request.set_exception(ControlRefused(f"{request.asked.change}: {error}"))

    def count_refused(self, cause: str, n: int) -> None:
        """Count events of other programs that no rule was given."""
        with self._lock:
            self._events_refused[cause] += n

    def outcome(self) -> dict[str, Any]:
        """Return the changes for the report, how many there are besides, and what other programs posted in vain."""
        with self._lock:
            refused = dict(self._events_refused)
            return {"changes": [*self._kept], "changes_left_out": self._left_out, "events_refused": refused}


def _kept(wanted: object) -> int | float | str | None:
    """Return what is written down of something that may be anything: a number, or a text that is not too long."""
    if wanted is None or isinstance(wanted, bool | float) or (isinstance(wanted, int) and abs(wanted) < 2**63):
        return wanted
    text = wanted if isinstance(wanted, str) else reprlib.repr(wanted)
    return text[:LONGEST_KEPT].encode("utf-8", "backslashreplace").decode()
