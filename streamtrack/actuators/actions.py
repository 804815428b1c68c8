"""What all actuators do with a command: read its action, and try again when the hardware fails."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from streamtrack.clock import monotonic_ns
from streamtrack.errors import CommandRefused, ConfigError, StreamtrackError

T = TypeVar("T")

Retries = Annotated[int, Field(ge=0, le=10)]


def attempt(call: Callable[[], T], retries: int, valid_until_ns: float) -> tuple[T, int]:
    """Call, and again where that fails, as long as the command is valid; return the result and how many calls it took.

    Raises
    ------
    StreamtrackError
        From the last call. What a limit forbids (CommandRefused) is not tried again.
    """
    for tries in range(1, retries + 1):
        try:
            return call(), tries
        except CommandRefused:
            raise
        except StreamtrackError:
            if monotonic_ns() > valid_until_ns:
                raise
    return call(), retries + 1


def one_key(action: Mapping[str, Any], *keys: str) -> str:
    """Return the one key of an action; raises ConfigError unless it has exactly one, and one of ``keys``."""
    if len(action) == 1 and (key := next(iter(action))) in keys:
        return key
    choices = " or ".join(f"{{ {key} = ... }}" for key in keys)
    raise ConfigError(f"action = {dict(action)} is not understood: give {choices}")


def number(action: Mapping[str, Any], key: str) -> float:
    """Return a number of an action; raises ConfigError if it is none. Infinite ones are for the guard to refuse."""
    value = action[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"action: {key} = {value!r} is not a number")
    return float(value)


def pair(action: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Return two numbers of an action, x and y; raises ConfigError if it has none."""
    value = action[key]
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(f"action: {key} = {value!r} is not a pair [x, y]")
    x, y = (number({key: each}, key) for each in value)
    return x, y


def text(value: str | float | bool) -> str:
    """Return a property's value as Micro-Manager writes it: 20 for 20.0, 1 and 0 for true and false."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
