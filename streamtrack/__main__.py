"""``python -m streamtrack``, and the command ``streamtrack``: imports nothing before Ctrl-C is heard."""

import sys
from typing import Any

INTERRUPTED = 130
"""Exit code, as of a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line. Ctrl-C, ``kill`` and the like end it with exit code 130, also while it is being loaded."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    try:
        from streamtrack.interrupts import heard_by

        with heard_by(hear):
            from streamtrack.cli import main as command_line

            command_line()
    except KeyboardInterrupt:
        _leave(INTERRUPTED)
    except SystemExit as end:
        _leave(INTERRUPTED if heard else end.code)
    except Exception:  # an import makes another exception of Ctrl-C now and then
        if not heard:
            raise
        _leave(INTERRUPTED)


def _leave(code: str | int | None) -> None:
    """End the program; at once where a thread hangs in a driver or a file, which could keep it from ending."""
    import os
    import threading

    from streamtrack.terminal import unseen

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more; Python would try again, and end with exit code 120
            with unseen():
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if any(thread.name.startswith("streamtrack") for thread in threading.enumerate()):
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)


if __name__ == "__main__":
    main()
