"""``python -m streamtrack``, and the command ``streamtrack``."""

import os
import sys
import threading
from contextlib import suppress

from streamtrack.interrupts import hear_as_ctrl_c

INTERRUPTED = 130
"""Exit code, as of a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line. Ctrl-C, ``kill`` and the like end it with exit code 130, also while it is being loaded."""
    try:
        hear_as_ctrl_c()
        from streamtrack.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except SystemExit as end:
        _leave(end.code)


def _leave(code: str | int | None) -> None:
    """End the program; at once where a thread hangs in a driver or a file, which could keep it from ending."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the terminal is gone
            stream.flush()
    if any(thread.name.startswith("streamtrack") for thread in threading.enumerate()):
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)


if __name__ == "__main__":
    main()
