"""Errors that a user can do something about.

Each message says what is wrong, with which value, and the cure, in one line; the command line prints it and exits
with code 2. Anything else that escapes is a bug.
"""


class StreamtrackError(Exception):
    """Base of every error that streamtrack raises on purpose."""


class ConfigError(StreamtrackError, ValueError):
    """A setting is unknown, missing or out of range."""


class PluginNotFoundError(StreamtrackError, LookupError):
    """No plug-in of that name is installed."""


class SourceError(StreamtrackError):
    """Frames cannot be read at all, or the camera stopped."""


class EngineError(StreamtrackError):
    """The detector cannot be loaded or cannot take this frame."""


class LinkerError(StreamtrackError):
    """Detections cannot be linked into tracks."""


class SinkError(StreamtrackError):
    """Results cannot be written."""


class MicroscopeError(StreamtrackError):
    """The microscope refused a call, or did not answer in time."""


class CommandRefused(StreamtrackError):
    """A command would break a limit of the run: the hardware was not touched."""
