"""How the simulation's inner loops are compiled."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile a function with numba at its first call and keep the machine code on disk.

    Without ``fastmath``: the same seed gives the same pixels wherever the C library's functions agree.
    """
    return cast(F, njit(cache=True)(function))
