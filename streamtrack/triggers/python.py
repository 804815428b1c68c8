"""A function of the lab's own as a trigger."""

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamtrack.errors import ConfigError
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

Answer = bool | Event | Iterable[Event] | None


class PythonTrigger:
    """Asks a function, ``function(frame, tracks)``, in every frame.

    It gets a `streamtrack.types.Frame` and `streamtrack.types.LiveTracks`, and returns True or False, an event, several
    of them, or None. It runs in the loop: the next frame waits for it.

    Parameters
    ----------
    function
        ``"module:function"``; the module is installed, or a file in the folder in which streamtrack was started.

    Raises
    ------
    ConfigError
        There is no such function, or its module cannot be imported.
    """

    def __init__(self, *, function: str) -> None:
        self._function = _find(function)

    def prepare(self, source: SourceInfo) -> None:
        """Do nothing: what the function remembers is its own."""

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return the function's events; one without a place stands for True."""
        answer = self._function(frame, tracks)
        if answer is None:
            return ()
        if isinstance(answer, bool | np.bool_):
            return (Event(),) if answer else ()
        return (answer,) if isinstance(answer, Event) else tuple(answer)


def _find(path: str) -> Callable[[Frame, LiveTracks], Answer]:
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise ConfigError(f'function is {path!r}: it must be "module:function"')
    found: Any = getattr(_import(module_name), name, None)
    if not callable(found):
        what = "nothing of that name" if found is None else f"a {type(found).__name__}"
        raise ConfigError(f"function is {path!r}: {module_name} has {what} where a function {name!r} should be")
    return found  # type: ignore[no-any-return]


def _import(name: str) -> Any:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last: a file there never takes the place of an installed module
    try:
        return importlib.import_module(name)
    except Exception as error:  # the lab's code runs here: anything may happen
        raise ConfigError(f"cannot import {name}: {type(error).__name__}: {error}") from error
