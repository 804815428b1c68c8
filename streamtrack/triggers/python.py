"""A function of the lab's own as a trigger."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, described
from streamtrack.types import Event, Frame, LiveTracks, SourceInfo

Answer = bool | Event | Iterable[Event] | None


class PythonTrigger:
    """Asks a function, ``function(frame, tracks)``, in every frame.

    It gets a `streamtrack.types.Frame` and `streamtrack.types.LiveTracks`, and returns True or False, an event, several
    of them, or None. It runs in the loop: the next frame waits for it.

    Parameters
    ----------
    function
        ``"module:function"``; the module is installed, or a file beside the run's own.
    config_folder
        Given by the run: where its file lies.

    Raises
    ------
    ConfigError
        There is no such module there. What is in it is seen by `prepare`.
    """

    def __init__(self, *, function: str, config_folder: Path | None = None) -> None:
        self._place = FunctionPath(function, config_folder or Path.cwd())
        self._function: Callable[[Frame, LiveTracks], Answer] | None = None

    def prepare(self, source: SourceInfo) -> None:
        """Import the function; what it remembers is its own. Raises ConfigError if that fails."""
        self._function = self._function or self._place.load()

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return the function's events; one without a place stands for True."""
        assert self._function is not None, "prepare() comes first"
        answer = self._function(frame, tracks)
        if answer is None:
            return ()
        if isinstance(answer, bool | np.bool_):
            return (Event(),) if answer else ()
        return (answer,) if isinstance(answer, Event) else tuple(answer)


def functions_of(config: RunConfig) -> list[str]:
    """Return the functions that a run is going to load, each with its file; raises ConfigError as their rules would."""
    named = [rule.settings.get("function") for rule in config.triggers if rule.kind == "python"]
    return [str(FunctionPath(function, config.folder)) for function in named if isinstance(function, str)]


class FunctionPath:
    """Where a function is; nothing is imported before `load`.

    Parameters
    ----------
    function
        ``"module:function"``.
    folder
        Of the run's file. The current folder is not looked at: with a file from elsewhere it may hold anything.
    """

    def __init__(self, function: str, folder: Path) -> None:
        self._function = function
        self._module, _, self._name = function.partition(":")
        if not (self._name and all(each.isidentifier() for each in self._module.split("."))):
            raise ConfigError(f'function is {function!r}: it must be "module:function"')
        self._folder = folder.resolve()
        self._spec = self._find()

    def __str__(self) -> str:
        places = (self._spec.origin, *(self._spec.submodule_search_locations or ()), "no file")
        return f"{self._function} ({next(filter(None, places))})"

    def load(self) -> Callable[[Frame, LiveTracks], Answer]:
        """Import the module and return the function."""
        with _searching(self._search_path()):
            try:
                module = importlib.import_module(self._module)
            except (Exception, SystemExit) as error:  # the lab's code runs here: anything may happen
                reason = described(error)
                raise ConfigError(f"cannot import {self._module}: {reason}") from error
        if str(self._folder) not in sys.path:
            sys.path.append(str(self._folder))  # the function may import more when it is called
        found: Any = getattr(module, self._name, None)
        if not callable(found):
            what = "nothing of that name" if found is None else f"a {type(found).__name__}"
            where = f"{self._module} has {what} where a function {self._name!r} should be"
            raise ConfigError(f"function is {self._function!r}: {where}")
        return found  # type: ignore[no-any-return]

    def _find(self) -> ModuleSpec:
        top = self._module.partition(".")[0]
        if top in sys.modules:  # the program that runs us has imported it
            file = getattr(sys.modules[top], "__file__", None)
            return ModuleSpec(top, None, origin=file)
        with _searching(self._search_path()):
            importlib.invalidate_caches()
            spec = importlib.util.find_spec(top)
        if spec is None:
            cure = f"put {top}.py beside the run's file, into {self._folder}, or install it"
            raise ConfigError(f"function is {self._function!r}: there is no module {top}; {cure}")
        return spec

    def _search_path(self) -> list[str]:
        """Return where installed packages are, and last the folder: a file there takes no installed one's place."""
        here = Path.cwd()
        return [*(each for each in sys.path if each and Path(each).resolve() != here), str(self._folder)]


@contextmanager
def _searching(path: list[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:] = path
    try:
        yield
    finally:
        sys.path[:] = before
