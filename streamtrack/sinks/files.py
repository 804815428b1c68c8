"""Files that appear under their names only when they are complete, how they are named, and errors in one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamtrack.errors import SinkError
from streamtrack.files import remove_file, replace_file
from streamtrack.types import Stream


def stream_name(stream: Stream) -> str:
    """Return what the files of a stream are called."""
    return f"p{stream.position}_c{stream.channel}_z{'max' if stream.z is None else stream.z}"


@contextmanager
def sink_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about ``path`` into a SinkError that names the cure."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise SinkError(
            f"cannot write {path}: {reason}; check that the folder is there and writable, that the disk has room and "
            "that no other program holds the file open"
        ) from error


def partial_of(path: Path) -> Path:
    """Return the name of a file while it is being written: ``tracks.partial.csv`` for ``tracks.csv``."""
    return path.with_stem(f"{path.stem}.partial")


def with_partials(*names: str) -> tuple[str, ...]:
    """Return names of files, and what they are called while they are being written."""
    return (*names, *(partial_of(Path(name)).name for name in names))


@contextmanager
def replacing(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success move it there in one step, on failure delete it.

    Parameters
    ----------
    path
        The file.
    partial
        What it is called meanwhile, `partial_of` by default; what is there is written over.

    Raises
    ------
    SinkError
        If the complete file cannot be moved to its name.
    """
    partial = partial or partial_of(path)
    try:
        yield partial
        with sink_errors(path):
            with partial.open("rb+") as file:  # the data must be on the disk before the name is
                os.fsync(file.fileno())
            replace_file(partial, path)
    except BaseException:
        with suppress(OSError):
            remove_file(partial)
        raise


def check_folder(folder: Path) -> None:
    """Raise SinkError where there is no such folder."""
    if not folder.is_dir():
        raise SinkError(f"cannot write into {folder}: there is no such folder; create it first")
