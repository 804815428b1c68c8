"""What the command line calls an option, said as the keyword that it is in Python."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from streamtrack.errors import StreamtrackError

_OF_SOURCE = ("position", "channel", "z", "level", "frames", "axes")
_OTHERS = {
    **{"overwrite": "overwrite=True", "out": "out=", "roi": "roi=", "mask": "mask="},
    **{"pixel-size": "pixel_size_um=", "interval": "frame_interval_s="},
}
_OPTION = re.compile(rf"--({'|'.join((*_OF_SOURCE, *_OTHERS))})\b(?: (A:B|-?\d+:-?\d+|max|[PTCZYX]{{2,6}})(?!\w))?")


def in_python(text: str) -> str:
    """Return a message with keywords of `streamtrack.track` in place of options.

    >>> in_python("the movie has 2 channels: choose one with --channel, of 0, 1 (or --axes TZYX)")
    'the movie has 2 channels: choose one with source={"channel": ...}, of 0, 1 (or source={"axes": "TZYX"})'
    """

    def keyword(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name in _OTHERS:
            return _OTHERS[name] + (f" {value}" if value else "")
        return f'source={{"{name}": "{value}"}}' if value else f'source={{"{name}": ...}}'

    return _OPTION.sub(keyword, text)


@contextmanager
def said_in_python() -> Iterator[None]:
    """Have the errors of a block name keywords."""
    try:
        yield
    except StreamtrackError as error:
        said = in_python(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error.__cause__
