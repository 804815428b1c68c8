"""Frames of a movie far away are asked for before they are wanted: many at a time, given in order."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.core.sync import _get_loop

from streamtrack.waiting import done_within

MOST_AHEAD, AHEAD_BYTES = 64, 64 * 2**20
"""Most parts of a movie that are asked for, or wait to be taken, and their bytes as images; one is in any case. As many
again may be on their way, compressed. Movies that are read at the same time, as positions of one are, share them."""
_STEP_S = 0.1

_readers: list[object] = []

Range = tuple[int, int]


def read_ahead(
    begin: "Callable[[int, int], Future[Any]]",
    ranges: Iterable[Range],
    range_bytes: int,
    closed: threading.Event,
) -> "Iterator[tuple[Range, Future[Any]]]":
    """Yield ranges of frames in their order, each with what came of reading it; no more once it is closed.

    Parameters
    ----------
    begin
        Begins to read frames A to B - 1.
    range_bytes
        What one of them takes.
    closed
        Set when nobody wants frames any more; what is being read then is given up.
    """
    under_way: deque[tuple[Range, Future[Any]]] = deque()
    left = iter(ranges)
    ours = object()
    _readers.append(ours)
    try:
        while True:
            share = AHEAD_BYTES // (range_bytes * len(_readers))
            while len(under_way) < max(1, min(MOST_AHEAD, share)) and (new := next(left, None)) is not None:
                under_way.append((new, begin(*new)))
            if not under_way or not _is_done(under_way[0][1], closed):
                return
            yield under_way.popleft()
    finally:
        _readers.remove(ours)
        for _, future in under_way:
            future.cancel()


def begin_reading(array: zarr.Array[Any], key: tuple[int | slice, ...]) -> "Future[NDArray[Any]]":
    """Have zarr read a part of an array in the thread in which it waits for its stores."""
    return asyncio.run_coroutine_threadsafe(array.async_array.getitem(key), _get_loop())  # type: ignore[arg-type]


def _is_done(future: "Future[Any]", closed: threading.Event) -> bool:
    """Wait until it is, or nobody wants it any more; return which."""
    while not closed.is_set():
        if done_within(future, _STEP_S):
            return not closed.is_set()
    return False
