"""The lock on the folder of a run: ``run.lock``, held open by the process that writes there.

The system's own lock says whether that process lives; it goes with the process, however that ends. What stands in the
file is for people, and decides where a file system knows no locks.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from streamtrack.errors import ConfigError
from streamtrack.files import remove_file

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "run.lock"
TAKE_S = 1.0
"""How long to try: somebody who asks who holds the lock has it for a moment."""
POLL_S = 0.05
_FAR = 1 << 30
"""Where Windows locks a byte: it keeps others from reading what it locks."""


class RunLock:
    """The lock on one folder, which must exist."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._file: FileIO | None = None
        self._content = b""

    def take(self) -> None:
        """Take the lock, also that of a process that is gone; raises ConfigError where a living one has it."""
        give_up_s = time.monotonic() + TAKE_S
        while not self._taken():
            if time.monotonic() > give_up_s:
                raise ConfigError(_said(self._path))
            time.sleep(POLL_S)

    def release(self) -> None:
        """Give the lock back and delete its file. May be called twice."""
        file, self._file = self._file, None
        if file is None:
            return
        if not self.is_held_here():  # the folder is another one now
            file.close()
            return
        if sys.platform == "win32":  # which deletes no open file
            file.close()
        with suppress(OSError):
            remove_file(self._path)
        file.close()

    def is_held_here(self) -> bool:
        """Return whether the file in the folder still is the one of this lock."""
        with suppress(OSError):
            if self._path.read_bytes() == self._content:
                return True
        return False

    def _taken(self) -> bool:
        _refuse_foreign(self._path)
        file = FileIO(self._path, "a+")
        locked = _lock(file)
        free = not _lives(_read(self._path)) if locked is None else locked
        if not free or not _is_at(file, self._path):
            file.close()
            return False
        self._content = _about_this_process()
        file.truncate(0)
        file.write(self._content)
        self._file = file
        if locked is None:  # two may write at once; the last one has it
            time.sleep(POLL_S)
            return self.is_held_here()
        return True


def held_by(folder: Path) -> str | None:
    """Return one line on the process that writes into a folder, or None where none does."""
    path = folder / LOCK_NAME
    try:
        with FileIO(path, "r") as file:
            locked = _lock(file)
    except OSError:
        return None
    free = not _lives(_read(path)) if locked is None else locked
    return None if free else _said(path)


def _said(path: Path) -> str:
    about = _read(path)
    who = f"process {about['pid']} on {about['host']}" if about else "another process"
    since = f" since {str(about['since'])[:19].replace('T', ' ')} ({about['command']})" if about else ""
    cure = f"end it with 'streamtrack stop {path.parent}', or choose another folder"
    return f"{path.parent} is in use: {who} writes into it{since}; {cure}"


def _about_this_process() -> bytes:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "process_started": _process_started(os.getpid()),
        "since": datetime.now().astimezone().isoformat(timespec="microseconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]),
    }
    return json.dumps(about).encode() + b"\n"


def _read(path: Path) -> dict[str, Any]:
    """Return what stands in a lock; nothing where it is not there or being written."""
    with suppress(OSError, ValueError):
        about = json.loads(path.read_bytes())
        if isinstance(about, dict) and about.keys() >= {"pid", "host", "process_started", "since", "command"}:
            return about
    return {}


def _refuse_foreign(path: Path) -> None:
    if path.is_dir() or (path.is_file() and path.stat().st_size > 0 and not _read(path)):
        raise ConfigError(f"{path} was not written by streamtrack; move it away, or choose another folder")


def _lives(about: dict[str, Any]) -> bool:
    """Return whether the process that wrote a lock lives, as far as can be known: another host's is taken to."""
    if not about:
        return False
    if about["host"] != socket.gethostname():
        return True
    return bool(about["process_started"] == _process_started(int(about["pid"])))


def _is_at(file: FileIO, path: Path) -> bool:
    """Return whether an open file still is the one of that name: it may have been deleted before it was locked."""
    with suppress(OSError):
        return bool(os.path.samestat(os.fstat(file.fileno()), path.stat()))
    return False


if sys.platform == "win32":

    def _lock(file: FileIO) -> bool | None:
        """Lock an open file until it is closed; return False where another has it, None where there are no locks."""
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        except OSError:
            return None
        return True

    def _process_started(pid: int) -> str | None:
        """Return when a process began, in its system's own terms; None where there is none of that number."""
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        handle = ctypes.c_void_p(kernel32.OpenProcess(0x1000, False, pid))  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return None
        times = (ctypes.c_uint64 * 4)()
        code = ctypes.c_uint32()
        known = kernel32.GetProcessTimes(handle, *(ctypes.byref(times, 8 * i) for i in range(4)))
        running = kernel32.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value == 259  # STILL_ACTIVE
        kernel32.CloseHandle(handle)
        return str(times[0]) if known and running else None

else:

    def _lock(file: FileIO) -> bool | None:
        """Lock an open file until it is closed; return False where another has it, None where there are no locks."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _process_started(pid: int) -> str | None:
        """Return when a process began, in its system's own terms; None where there is none of that number."""
        if sys.platform == "linux":
            with suppress(OSError):
                return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
            return None
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return said or None
