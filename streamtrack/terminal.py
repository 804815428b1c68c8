"""What is shown while the terminal may be gone: its user went home, ssh broke off, the pipe's reader has ended."""

from contextlib import suppress


def unseen() -> suppress:
    """Return a block in which an output that fails is left out: it must not turn what is being done into a failure."""
    return suppress(OSError, ValueError, SystemExit)  # rich ends the program where a pipe is broken
