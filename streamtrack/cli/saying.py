"""What commands print: nothing that a terminal which is gone could turn into a failure."""

from pathlib import Path

from streamtrack.terminal import unseen

_MUCH_BYTES = 2 * 10**9


def say(*lines: str) -> None:
    """Print lines on stdout."""
    from rich.console import Console

    with unseen():
        for line in lines:
            Console(highlight=False).print(line, soft_wrap=True, markup=False)


def say_error(text: str, *, alarm: bool = False) -> None:
    """Print one line on stderr, red; as an alarm, white on red."""
    from rich.console import Console
    from rich.text import Text

    style = "bold white on red" if alarm else "red"
    with unseen():
        Console(stderr=True, highlight=False).print(Text(f"streamtrack: {text}", style), soft_wrap=True)


def say_memory(table: Path, times: float = 1.0) -> None:
    """Print how much memory a command will take that reads a large table, before it does; nothing of smaller ones."""
    from streamtrack.formats.tables import memory_of

    n_bytes = times * memory_of(table)
    if n_bytes > _MUCH_BYTES:
        say(f"{table} is in memory as a whole meanwhile, with its copies: some {n_bytes / 1e9:.0f} GB")
