"""The command line of a benchmark, and its record: a JSON file that says which command it is of."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def command_parser(description: str | None, quick: str | None = None) -> argparse.ArgumentParser:
    """Return a parser that knows ``--out``, and ``--quick`` where ``quick`` says what that leaves out."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file, and the picture beside it")
    return parser


def some_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what reads an option that names some of these, with commas between; others are a mistake."""
    names = list(known)

    def read(text: str) -> list[str]:
        said = text.split(",")
        if unknown := sorted(set(said) - set(names)):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (known: {', '.join(names)})")
        return said

    return read


def command_line(name: str) -> str:
    """Return what was typed; of files and folders their names only."""
    words = [Path(word).name if "/" in word or "\\" in word else word for word in sys.argv[1:]]
    return " ".join([f"python -m benchmarks.{name}", *words])


def write(record: Record, path: Path | None, draw: Callable[[Record, Path], None] | None = None) -> None:
    """Write the record, and its picture beside it; do nothing without a path."""
    if path is None:
        return
    path.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8", newline="\n")
    if draw:
        draw(record, path.with_suffix(".png"))
