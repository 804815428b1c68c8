"""Replacing and deleting files, also while another program looks at them. Only this module does either.

On Windows a file that any program has open can be neither replaced nor deleted: a virus scanner, an indexer, a cloud
drive or a viewer, each for moments. On other systems the same error means that it is not allowed, and waiting is in
vain.
"""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 2.0
"""How long to try again while another program holds a file."""
POLL_S = 0.02


def move(path: Path, to: Path) -> None:
    """Move a file or folder to another name in the same folder, in one step, also over a file that is there."""
    patiently(lambda: os.replace(path, to))


def replace_file(partial: Path, final: Path) -> None:
    """Move a complete file to its name, in one step.

    Where one of the two is still held after `PATIENCE_S`, the content is copied: most programs that hold a file let
    others read it and write into it.

    Raises
    ------
    OSError
        Neither is possible; ``final`` is then as before, unless copying failed half-way over an old file.
    """
    try:
        move(partial, final)
    except PermissionError:
        if not _copied(partial, final):
            raise
        with suppress(OSError):
            os.unlink(partial)


def replace_at_once(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, for the moment only and without any waiting.

    Raises PermissionError where another program holds it.
    """
    partial = partial_of(path)
    partial.write_bytes(data)
    os.replace(partial, path)


def remove_file(path: Path) -> None:
    """Delete a file, or a link, if it is there."""
    with suppress(FileNotFoundError):
        patiently(lambda: os.unlink(path))


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it, if it is there."""
    with suppress(FileNotFoundError):
        patiently(lambda: shutil.rmtree(path))


def partial_of(path: Path) -> Path:
    """Return what the functions here call a file while they write it."""
    return path.with_name(f"{path.name}.partial")


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it survives a power cut, and a reader sees the old one or the new one.

    Where that cannot be, as when the disk is full, data no longer than the old ones are written over them.
    """
    partial = partial_of(path)
    try:
        _write(partial, data)
        replace_file(partial, path)
    except OSError:
        with suppress(OSError):
            os.unlink(partial)
        if not path.is_file() or len(data) > path.stat().st_size:
            raise
        _write_over(path, data)
    _sync_folder(path.parent)


def patiently(call: Callable[[], T]) -> T:
    """Call until it is not refused with PermissionError, for `PATIENCE_S` at most; then raise that."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except OSError as error:  # a folder counts as not empty while a deleted file in it is still held
            held = isinstance(error, PermissionError) or error.errno == errno.ENOTEMPTY
            if not held or time.monotonic() > give_up_s:
                raise
        time.sleep(POLL_S)


def _copied(partial: Path, final: Path) -> bool:
    """Copy the content; return False where that fails, and leave no half file under a new name."""
    is_new = not final.exists()
    try:
        shutil.copyfile(partial, final)
        with final.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError:
        if is_new:
            with suppress(OSError):
                os.unlink(final)
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_over(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    if sys.platform == "win32":
        return  # folders cannot be opened there; NTFS keeps a journal of names
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
