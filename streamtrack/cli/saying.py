"""What commands print: nothing that a terminal which is gone could turn into a failure."""

from streamtrack.terminal import unseen


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
