"""Calls shared out among the cores, with a bar."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

MOST_WORKERS = 61
"""More are an error on Windows."""


def shared_out(name: str, calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
    """Return what functions give for their arguments, in order; each runs in one of as many processes as cores."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ProcessPoolExecutor(min(os.cpu_count() or 1, MOST_WORKERS), mp_context=get_context("spawn")) as pool,
    ):
        futures = [pool.submit(function, *arguments) for function, arguments in calls]
        try:
            for future in progress.track(as_completed(futures), total=len(futures)):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
