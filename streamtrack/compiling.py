"""How inner loops are compiled."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function with numba at its first call and keep the machine code on disk.

    - No ``fastmath``: it lets the compiler assume that NaN does not exist and reorder sums differently on each CPU.
    - No ``nogil``: a call takes tens of microseconds, while taking the GIL back from a busy thread takes milliseconds.
    - numba notices a change in the function's own file only. Compiled functions therefore call only compiled
      functions of the same file; what spans files is put together in Python.
    """
    return cast(F, njit(cache=True)(function))
