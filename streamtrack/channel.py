"""A bounded channel between one producer and one consumer thread that accounts for every item.

The invariant, at any moment and whatever dies first: ``put == got + dropped + queued``.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Policy(StrEnum):
    """What happens to an item that finds the channel full."""

    BLOCK = "block"
    """The producer waits: replay, where every frame counts."""
    LATEST = "latest"
    """The oldest queued item gives way: live, where the newest frame matters."""
    DROP_NEWEST = "drop_newest"
    """The new item is dropped: live, where queued frames keep their order and neighbours."""


class Put(Enum):
    """What became of an item that was put."""

    QUEUED = "queued"
    EVICTED = "queued; the oldest item was dropped for it"
    REJECTED = "dropped: the channel is full"
    CLOSED = "dropped: the channel is closed"
    TIMED_OUT = "not taken and not counted: still full after the time-out (policy block only)"


class ChannelClosed(Exception):
    """Nothing is queued and nothing will come."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One consistent reading of a channel's counters."""

    put: int
    got: int
    dropped: int
    queued: int


class Channel(Generic[T]):
    """Hand items from a producer to a consumer thread, in order.

    Parameters
    ----------
    capacity
        Most items held at a time, at least 1.
    policy
        What happens when it is full.
    on_drop
        Called as ``on_drop(item, cause)`` for every dropped item, by the thread that caused the drop and outside the
        channel's lock.
    """

    def __init__(self, capacity: int, policy: Policy, on_drop: Callable[[T, str], None]) -> None:
        if capacity < 1:
            raise ValueError(f"a channel needs a capacity of at least 1, not {capacity}")
        self._capacity = capacity
        self._policy = policy
        self._on_drop = on_drop
        self._queue: deque[T] = deque()
        self._lock = threading.Lock()
        self._not_empty = threading.Condition(self._lock)
        self._not_full = threading.Condition(self._lock)
        self._closed_because = ""
        self._put = self._got = self._dropped = 0

    def put(self, item: T, timeout_s: float) -> Put:
        """Offer an item; ``timeout_s`` is how long policy ``block`` waits for room."""
        with self._lock:
            if self._policy is Policy.BLOCK and not self._not_full.wait_for(self._has_room_or_closed, timeout_s):
                return Put.TIMED_OUT
            outcome, loser, cause = self._accept(item)
        if loser is not None:
            self._on_drop(loser, cause)
        return outcome

    def get(self, timeout_s: float) -> T:
        """Take the oldest item.

        Raises
        ------
        TimeoutError
            Nothing came in time.
        ChannelClosed
            Nothing is left and nothing will come.
        """
        with self._lock:
            if not self._not_empty.wait_for(lambda: self._queue or self._closed_because, timeout_s):
                raise TimeoutError(f"nothing came within {timeout_s:g} s")
            if not self._queue:
                raise ChannelClosed(self._closed_because)
            self._got += 1
            self._not_full.notify()
            return self._queue.popleft()

    def close(self) -> None:
        """End the stream: what is queued can still be taken, what is put from now on is dropped."""
        with self._lock:
            self._close("the stream has ended")

    def fail(self, cause: str) -> None:
        """End the stream from the consumer's side: the queue is dropped and a waiting producer released."""
        with self._lock:
            self._close(cause)
            losers = tuple(self._queue)
            self._queue.clear()
            self._dropped += len(losers)
        for item in losers:
            self._on_drop(item, cause)

    def drop(self, cause: str) -> None:
        """Drop what is queued; what is put from now on is taken again."""
        with self._lock:
            losers = tuple(self._queue)
            self._queue.clear()
            self._dropped += len(losers)
            self._not_full.notify_all()
        for item in losers:
            self._on_drop(item, cause)

    @property
    def counts(self) -> Counts:
        """The counters, read together."""
        with self._lock:
            return Counts(self._put, self._got, self._dropped, len(self._queue))

    def _has_room_or_closed(self) -> bool:
        return len(self._queue) < self._capacity or bool(self._closed_because)

    def _accept(self, item: T) -> tuple[Put, T | None, str]:
        """Queue the item; returns its fate, and the item that was lost to it with the cause."""
        self._put += 1
        if self._closed_because:
            self._dropped += 1
            return Put.CLOSED, item, self._closed_because
        outcome, loser, cause = Put.QUEUED, None, ""
        if len(self._queue) >= self._capacity:
            self._dropped += 1
            cause = f"queue of {self._capacity} full"
            if self._policy is Policy.DROP_NEWEST:
                return Put.REJECTED, item, cause
            outcome, loser = Put.EVICTED, self._queue.popleft()
        self._queue.append(item)
        self._not_empty.notify()
        return outcome, loser, cause

    def _close(self, because: str) -> None:
        self._closed_because = self._closed_because or because
        self._not_empty.notify_all()
        self._not_full.notify_all()
