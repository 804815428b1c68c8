"""A folder that gets full, read-only, lost, or hangs while a program writes into it. Linux, as root."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

KINDS = ("healthy", "full", "read-only", "removed", "hanging")
SIZE_MB = 64


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Make a folder a disk of its own, of `SIZE_MB`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def spoilt(folder: Path, kind: str) -> Iterator[None]:
    """Spoil a folder until the end of the block; a removed one stays removed."""
    if kind == "full":
        _fill(folder / "filler")
        try:
            yield
        finally:
            (folder / "filler").unlink()
    elif kind == "removed":
        shutil.rmtree(folder, ignore_errors=True)
        yield
    elif kind == "read-only":
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        try:
            yield
        finally:
            _unmount(folder)
    elif kind == "hanging":
        with _hanging(folder):
            yield
    else:
        yield


def can_mount(folder: Path) -> bool:
    """Return whether this user may do all this."""
    if sys.platform != "linux":
        return False
    try:
        with small_disk(folder), _hanging(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


@contextmanager
def _hanging(folder: Path) -> Iterator[None]:
    """Lay a file system over the folder whose server never answers; all who ask are let go at the end."""
    server = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if libc.mount(b"fuse", bytes(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), f"cannot mount over {folder}")
        yield
    finally:
        os.close(server)
        _unmount(folder)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", folder], check=False, capture_output=True)
