"""Plain Python values of what users' code hands over, as JSON, logs and drivers take them."""

import math
import reprlib
from collections.abc import Mapping, Set
from typing import Any

import numpy as np


def plain_number(value: object) -> int | float | bool:
    """Return a finite number of Python for one of Python, numpy, or another array library.

    Raises
    ------
    TypeError
        It is no number.
    ValueError
        It is NaN or infinite.
    """
    number = _scalar(value)
    if not isinstance(number, int | float):
        raise TypeError(f"{reprlib.repr(value)} is not a number")
    if not isinstance(number, int) and not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number")
    return number


def plain(value: object) -> Any:
    """Return a copy of numbers, texts, lists and tables; NaN and infinity as None, anything else as its text."""
    value = _scalar(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(each) for each in value]
    return str(value)


def without_secrets(value: Any, *, paths: bool) -> Any:
    """Return a copy in which addresses have no user, no password and no query; if ``paths``, no path either.

    The report is shown around, and whoever knows the address of a web hook may post there.
    """
    if isinstance(value, Mapping):
        return {key: without_secrets(each, paths=paths) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each, paths=paths) for each in value]
    if not (isinstance(value, str) and "://" in value):
        return value
    scheme, _, rest = value.partition("://")
    place, query, _ = rest.partition("?")
    host, slash, path = place.partition("#")[0].partition("/")
    shown = f"/{'...' if paths else path}" if slash and path else slash
    return f"{scheme}://{host.rpartition('@')[2]}{shown}{'?...' if query else ''}"


def _scalar(value: Any) -> Any:
    """Return Python's own type for a number or text that only derives from it, or is an array of no dimension."""
    if not isinstance(value, type) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, np.floating):  # the longest ones stay numpy's
        return float(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
