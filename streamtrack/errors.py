"""Errors that a user can do something about.

Each message says what is wrong, with which value, and the cure, in one line; the command line prints it and exits
with code 2. Anything else that escapes is a bug.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from unicodedata import category

_LONGEST = 200
_IN_WORDS: dict[type[BaseException], str] = {
    MemoryError: "it needs more memory than there is",
    RecursionError: "it is nested too deeply",
}


class StreamtrackError(Exception):
    """Base of every error that streamtrack raises on purpose."""

    def __str__(self) -> str:
        return _printable(super().__str__())


class ConfigError(StreamtrackError, ValueError):
    """A setting is unknown, missing or out of range."""


class UnknownPixelSizeError(ConfigError):
    """Positions are in a unit of length, and nobody says how large a pixel is."""


class PluginNotFoundError(StreamtrackError, LookupError):
    """No plug-in of that name is installed."""


class SourceError(StreamtrackError):
    """Frames cannot be read at all, or the camera stopped."""


class EngineError(StreamtrackError):
    """The detector cannot be loaded or cannot take this frame."""


class LinkerError(StreamtrackError):
    """Detections cannot be linked into tracks."""


class MeasureError(StreamtrackError):
    """A measure lacks what it needs, or gave something else than its columns."""


class SinkError(StreamtrackError):
    """Results cannot be written."""


class MicroscopeError(StreamtrackError):
    """The microscope refused a call, or did not answer in time."""


class CommandRefused(StreamtrackError):
    """A command would break a limit of the run: the hardware was not touched.

    Parameters
    ----------
    message
        One line.
    reason
        A word or two, by which refusals are counted.
    """

    def __init__(self, message: str, reason: str = "not allowed") -> None:
        super().__init__(message)
        self.reason = reason


class ControlRefused(StreamtrackError):
    """A change of a run while it runs that is not made: all stays as it was."""


@contextmanager
def foreign_errors(kind: type[StreamtrackError], what: str) -> Iterator[None]:
    """Turn whatever is raised while something foreign is read into one line: ``what``, then the reason.

    At the border to each format stands this, and not a list of exceptions: libraries raise almost anything on bytes
    that nobody expected. Errors of streamtrack's own go through as they are.
    """
    try:
        yield
    except StreamtrackError:
        raise
    except Exception as error:
        raise kind(f"{what}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line of bearable length."""
    text = _printable(_IN_WORDS.get(type(error)) or str(error)) or type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def described(error: BaseException) -> str:
    """Return type and message of an exception on one line, ``"ValueError: ..."``; the type alone if it says nothing."""
    name, text = type(error).__name__, one_line(error)
    return name if text == name else f"{name}: {text}"


def _printable(text: str) -> str:
    """Return a text on one line that any terminal and file can take: names in foreign files hold anything."""
    line = re.sub(r"[ \t\r\n\f\v]+", " ", text).strip()
    return "".join(char if char.isprintable() or category(char) == "Zs" else ascii(char)[1:-1] for char in line)
