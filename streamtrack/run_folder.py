"""The folder of a run: who writes there, what lies in it, and what a new run may remove from it.

Removed are names that a run's sinks say they write, and nothing else. A folder of such a name is removed only where a
mark in it says that streamtrack wrote it: ``streamtrack`` in the attributes of its ``zarr.json``.
"""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack.errors import ConfigError
from streamtrack.files import move, remove_file, remove_tree, write_durably
from streamtrack.report import (
    COMMANDS_NAME,
    REPORT_NAME,
    failed,
    read_report,
    write_last_report,
    write_report,
)
from streamtrack.run_lock import LOCK_NAME, RunLock

STOP_NAME = "stop"
"""A file of this name in the folder of a run stops it."""
ANSWER_NAME = "stopping.json"
"""What the microscope was made safe with, while the files are being finished; then the report has it."""
UNFINISHED_NAME = "detections.partial.arrows"
"""What a killed run leaves besides its report, for ``streamtrack recover``."""
KEPT_NAMES = tuple(f"{name}.resumed.{end}" for end in ("arrows", "parquet") for name in ("detections", "frames"))
"""What the rows of a run that was broken off are called while another one goes on with it."""
RUN_FILES = (REPORT_NAME, f"{REPORT_NAME}.partial", COMMANDS_NAME, ANSWER_NAME)
"""What a run writes whatever its sinks."""
ENDED = ("completed", "incomplete", "interrupted")
"""What a report says of a run whose tables are complete."""
MARK = "streamtrack"
"""Key in the attributes of a zarr group that says who wrote it; its ``members`` are the names that belong to it."""
UNFINISHED_MARK = "zarr.json.partial"
_UPLOADED = "the folder lies in OneDrive, which uploads files while they are written and delays the run: choose another"
LONGEST_PATH = 259
"""Characters that Windows takes, unless its long paths are switched on."""
DEEPEST_NAME = 110
"""Characters of the longest name below a run's folder: a chunk of a recording, under zarr's unfinished name."""


class RunFolder:
    """The folder that a run writes into.

    Attributes
    ----------
    files
        Names that this run may write; those of folders end in ``/``.
    spared
        Those that it does not move out of the way. Of a report among them, there is one at any moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: tuple[str, ...] = RUN_FILES
        self.spared: tuple[str, ...] = ()
        self._sources: list[Path] = []
        self._lock: RunLock | None = None
        self._made: list[Path] = []
        self._moved: list[Path] = []
        self._first_report = b""
        self._earlier_report = b""

    @property
    def has_report(self) -> bool:
        """Whether a run has left its report here."""
        return (self.path / REPORT_NAME).exists()

    def lock(self) -> None:
        """Make the folder if need be, and keep every other run from writing into it; raises ConfigError."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; give --out a folder")
        if has_short_paths():
            refuse_long(self.path)
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._made = missing
            lock = RunLock(self.path)
            lock.take()
        except OSError as error:
            self.release()
            raise ConfigError(f"cannot write into {self.path}: {error.strerror or error}") from error
        self._lock = lock

    def release(self) -> None:
        """Let others write; a folder that was made for nothing goes. May be called twice."""
        if self._lock is not None:
            self._lock.release()
        with suppress(OSError):  # not empty, usually
            for folder in self._made:
                folder.rmdir()
        self._made = []

    def is_still_there(self) -> bool:
        """Return whether the folder is the one that was locked: neither removed nor renamed nor replaced."""
        if self._lock is not None and self._lock.is_held_here():
            return True
        with suppress(OSError):  # tidy people delete locks
            return bool(self._first_report) and (self.path / REPORT_NAME).read_bytes() == self._first_report
        return False

    def check(self, overwrite: bool, files: Sequence[str] = (), sources: Iterable[object] = ()) -> None:
        """Raise ConfigError where the folder holds what this run may not replace.

        Parameters
        ----------
        overwrite
            Whether results may be replaced.
        files
            Names that the sinks of this run may write.
        sources
            What the source was told, in which are the paths of what is tracked: they stay whatever their names.
        """
        self.files = (*RUN_FILES, *files)
        self.refuse_stores(sources)
        if str(self.path) != str(self.path).encode("utf-8", "replace").decode():  # Arrow takes no other names
            raise ConfigError(f"the folder's name {self.path} is not in UTF-8: give --out another")
        for name in self.files:
            if self._is_tracked(name):
                raise ConfigError(f"the run would write {self.path / name} over its own source; choose another folder")
        there = [name for name in self._names() if os.path.lexists(self.path / name)]
        for name in (*there, *self.spared):
            self._refuse_foreign(name)
        if not overwrite:
            self._refuse_results(there)

    def begin(self, report: Mapping[str, Any]) -> None:
        """Move what earlier runs left out of the way, and write the first report.

        Raises
        ------
        ConfigError
            Something there is not streamtrack's, or is held, or there is no room; all is as it was.
        """
        names = self._names()
        for name in names:
            self._refuse_foreign(name)
        try:
            if REPORT_NAME in self.spared:
                self._earlier_report = (self.path / REPORT_NAME).read_bytes()
            self._moved = _move_away([self.path / name for name in names])
            try:
                self._write_first(report)
            except OSError:
                self.roll_back()
                raise
        except OSError as error:
            raise ConfigError(f"cannot write into {self.path}: {error.strerror or error}") from error

    def commit(self) -> None:
        """Delete what was moved out of the way."""
        for path in self._moved:
            with suppress(OSError):  # held: the next run will do it
                _delete(_away(path))
        self._moved = []

    def roll_back(self) -> None:
        """Remove what this run has written, and put back what was moved out of the way."""
        with suppress(OSError):
            for name in self.files:
                if name not in self.spared and not self._is_tracked(name):
                    _delete(self.path / name)
            for path in self._moved:
                move(_away(path), path)
        self._moved = []
        with suppress(OSError):
            if self._earlier_report and (self.path / REPORT_NAME).read_bytes() != self._earlier_report:
                write_durably(self.path / REPORT_NAME, self._earlier_report)

    def _write_first(self, report: Mapping[str, Any]) -> None:
        try:
            write_report(self.path, report, reserve=True)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._moved:
                raise
            self.commit()  # which makes room
            write_report(self.path, report, reserve=True)
        self._first_report = (self.path / REPORT_NAME).read_bytes()

    def end(self, report: dict[str, Any]) -> dict[str, Any]:
        """Write the last report and return it; never raises: what keeps it from being written is its error."""
        if not self.is_still_there():
            return failed(report, f"{self.path} was removed, renamed or replaced during the run; it lacks its results")
        return write_last_report(self.path, {**report, "written": self._written()})

    def _written(self) -> list[str]:
        """Return which of its files are there, whole ones, besides the report."""
        passing = (*RUN_FILES, *KEPT_NAMES)
        names = (name for name in self.files if ".partial" not in name and name not in passing)
        return [name for name in dict.fromkeys(names) if os.path.lexists(self.path / name)]

    def remarks(self) -> list[str]:
        """Return a line for each unfinished file that is still there, and one where OneDrive uploads the folder."""
        cure = {UNFINISHED_NAME: f"; where tables are missing, 'streamtrack recover {self.path}' makes them from it"}
        left = [name for name in self.files if ".partial" in name and os.path.lexists(self.path / name)]
        lines = [f"{name} is left over{cure.get(name, '')}" for name in left]
        uploaded = any(part.casefold().startswith("onedrive") for part in self.path.resolve().parts)
        return [*lines, _UPLOADED] if uploaded else lines

    def _names(self) -> list[str]:
        """Return what this run writes and what the run before it wrote, but for what is tracked now."""
        names = dict.fromkeys((*self.files, *_files_of_last_run(self.path)))
        return [name for name in names if name not in self.spared and not self._is_tracked(name)]

    def _is_tracked(self, name: str) -> bool:
        path = self.path / name
        if not os.path.lexists(path):  # nothing is in it; of most names, and a comparison of paths takes 0.3 ms
            return False
        path = path.resolve()
        return any(_is_in(source, path) for source in self._sources)

    def refuse_stores(self, sources: Iterable[object]) -> None:
        """Raise ConfigError where the folder lies in a zarr store that is tracked; ``sources`` as in `check`."""
        self._sources = [path for each in sources for path in _resolved(each)]
        folder = self.path.resolve()
        for store in filter(_is_store, (folder, *folder.parents)):
            if any(_is_in(source, store) or _is_in(store, source) for source in self._sources):
                raise ConfigError(f"{self.path} lies inside {store}, which is tracked; choose a folder outside")

    def _refuse_foreign(self, name: str) -> None:
        """Raise ConfigError where a name that a run writes is taken by what no run wrote."""
        foreign = _foreign(self.path / name, is_folder=name.endswith("/"))
        if foreign is not None:
            raise ConfigError(f"{foreign} was not written by streamtrack; move it away, or choose another folder")

    def _refuse_results(self, there: list[str]) -> None:
        status = _status(self.path)
        if status == "running" or (UNFINISHED_NAME in there and status not in ENDED):
            cure = f"go on with --resume, save it with 'streamtrack recover {self.path}', or pass --overwrite"
            raise ConfigError(f"{self.path} holds a run that was broken off: {cure}")
        held = [name.rstrip("/") for name in there if name != ANSWER_NAME]
        if held:
            raise ConfigError(f"{self.path} already holds {', '.join(held)}; choose another folder or pass --overwrite")


def _status(folder: Path) -> str | None:
    with suppress(ConfigError):
        return str(read_report(folder).get("status"))
    return None


def _files_of_last_run(folder: Path) -> list[str]:
    """Return the names that the last run in a folder says it wrote, plain ones only."""
    try:
        report = read_report(folder)
    except ConfigError:
        return []
    names = report.get("files", []) if MARK in report.get("versions", {}) else []  # other programs list files, too
    return [name for name in names if isinstance(name, str) and _is_plain(name.removesuffix("/"))]


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..", LOCK_NAME) and not set(name) & set("/\\:\0")


def _resolved(setting: object) -> list[Path]:
    """Return the paths in a setting of a source."""
    if isinstance(setting, list | tuple):
        return [path for each in setting for path in _resolved(each)]
    with suppress(OSError, ValueError):
        if isinstance(setting, str | Path) and str(setting) and Path(setting).exists():
            return [Path(setting).resolve()]
    return []


def _is_in(path: Path, folder: Path) -> bool:
    """Return whether a path is a folder or lies in it, by any of their names."""
    return any(each == folder or _is_same(each, folder) for each in (path, *path.parents))


def _is_same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return False


def _is_store(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _mark(folder: Path) -> Mapping[str, Any] | None:
    """Return what streamtrack says in a folder that it wrote."""
    if folder.is_symlink():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        mark = json.loads((folder / "zarr.json").read_bytes())["attributes"][MARK]
        return mark if isinstance(mark, Mapping) else None
    return None


def _foreign(path: Path, *, is_folder: bool) -> Path | None:
    """Return what is not streamtrack's, of a file or a folder of that name; None where all is."""
    if not os.path.lexists(path):
        return None
    if not is_folder:
        return path if path.is_dir() or (path.name == REPORT_NAME and _is_of_another_program(path)) else None
    if path.is_symlink() or not path.is_dir():
        return path
    mark = _mark(path)
    if mark is None:
        return next(filter(None, (_foreign_in_folder(child) for child in path.iterdir())), None)
    if "members" not in mark:
        return None
    known = {"zarr.json", UNFINISHED_MARK, *mark["members"]}
    return next((child for child in path.iterdir() if child.name not in known), None)


def _is_of_another_program(report: Path) -> bool:
    """Return whether a report is whole and none of ours; one that was written by half may be ours."""
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(report.read_bytes())
        return bool(content) and not (isinstance(content, dict) and "status" in content)
    return False


def _foreign_in_folder(child: Path) -> Path | None:
    if child.name == UNFINISHED_MARK:
        return None
    return child if _mark(child) is None else _foreign(child, is_folder=True)


def _move_away(paths: Iterable[Path]) -> list[Path]:
    """Give other names to all of these that are there, and return them; or to none where one is held."""
    moved: list[Path] = []
    try:
        for path in paths:
            if os.path.lexists(path):
                _delete(_away(path))  # of a run that was killed just then
                move(path, _away(path))
                moved.append(path)
    except OSError:
        for path in moved:
            move(_away(path), path)
        raise
    return moved


def _away(path: Path) -> Path:
    """Return a name that nobody else gives to anything."""
    return path.with_name(f"{path.name}.streamtrack-old")


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        remove_file(path)


def has_short_paths() -> bool:
    """Return whether this is a Windows that takes no path of more than 259 characters, as it comes."""
    if sys.platform != "win32":
        return False
    ask = getattr(ctypes.WinDLL("ntdll"), "RtlAreLongPathsEnabled", lambda: 0)  # not before Windows 10
    return not ask() & 0xFF  # one byte is the answer


def refuse_long(folder: Path) -> None:
    """Raise ConfigError where the names below a run's folder could get longer than Windows takes."""
    length, most = len(str(folder.absolute())), LONGEST_PATH - DEEPEST_NAME
    if length > most:
        cure = f"choose a folder of {most} characters at most, or switch long paths on in Windows"
        raise ConfigError(f"the path of {folder} has {length} characters, too many for Windows: {cure}")
