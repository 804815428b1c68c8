"""A process that does what it is asked, one thing after the other, and is killed when it takes too long.

Some solvers need exponential time in compiled code, which nothing else can interrupt.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SPAWN = multiprocessing.get_context("spawn")


class Child:
    """One process at a time; after one was killed, the next call starts another.

    Parameters
    ----------
    warm_up
        Called first in every process, outside the time limit.
    """

    def __init__(self, warm_up: Callable[[], None] | None = None) -> None:
        self._warm_up = warm_up
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def call(self, limit_s: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function of a module returns in the process.

        Raises
        ------
        TimeoutError
            It took longer than the limit; the process is gone.
        ChildProcessError
            The process died of it.
        Exception
            Whatever the function raises.
        """
        pipe = self._pipe or self._start()
        pipe.send((function, args, kwargs))
        if not pipe.poll(limit_s):
            self.kill()
            raise TimeoutError(f"timed out after {limit_s:g} s")
        try:
            result, error = pipe.recv()
        except (EOFError, ConnectionResetError):
            self.kill()
            raise ChildProcessError("the process died") from None
        if error is not None:
            raise error
        returned: T = result
        return returned

    def kill(self) -> None:
        """End the process, whatever it does; harmless where there is none."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self) -> Connection:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._warm_up), daemon=True)
        self._process.start()
        theirs.close()  # so that the death of the process is the end of the pipe
        self._pipe.recv()
        return self._pipe


def _serve(pipe: Connection, warm_up: Callable[[], None] | None) -> None:
    if warm_up:
        warm_up()
    pipe.send("ready")
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        result: Any = None
        error: Exception | None = None
        try:
            result = function(*args, **kwargs)
        except Exception as raised:
            error = raised
        pipe.send((result, error))
