"""What commands write under a name that the user chose: what is there before is lost only when all is there after."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamtrack.errors import ConfigError
from streamtrack.files import move, remove_tree
from streamtrack.run_lock import held_by
from streamtrack.sinks.files import replacing, sink_errors


def check_output(out: Path, overwrite: bool, source: Path | None = None) -> None:
    """Raise ConfigError where ``out`` is taken, or is what the command reads, or a run writes into its folder."""
    if said := held_by(out.parent):
        raise ConfigError(said)
    if not out.exists():
        return
    if source is not None and source.exists() and out.samefile(source):
        raise ConfigError(f"{out} is what the command reads; name another file with --out")
    if not overwrite:
        raise ConfigError(f"{out} is there already; name another one with --out, or add --overwrite")


@contextmanager
def output_file(out: Path) -> Iterator[Path]:
    """Give the name of a file to write, which then becomes ``out``; raises SinkError."""
    with sink_errors(out), replacing(out, beside(out, "partial")) as partial:
        yield partial


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Give the name of a folder to write, which then becomes ``out``; raises SinkError.

    A folder cannot be replaced in one step: the old one is moved away, and back if anything goes wrong.
    """
    partial, old = beside(out, "partial"), beside(out, "old")
    with sink_errors(out):
        remove_tree(partial)  # of a command that was killed
        if old.exists() and not out.exists():
            move(old, out)
        remove_tree(old)
        try:
            yield partial
            _swap(partial, out, old)
        finally:
            with suppress(OSError):
                remove_tree(partial)
    with suppress(OSError):  # a program that holds a file of it keeps it: nothing is lost
        remove_tree(old)


def _swap(partial: Path, out: Path, old: Path) -> None:
    if not out.exists():
        move(partial, out)
        return
    move(out, old)
    try:
        move(partial, out)
    except BaseException:
        move(old, out)
        raise


def beside(out: Path, what: str) -> Path:
    """Return a name that nobody else gives to anything, with the same ending."""
    return out.with_stem(f"{out.stem}.streamtrack-{what}")
