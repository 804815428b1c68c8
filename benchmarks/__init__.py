"""Benchmarks, in folders by question; ``python -m benchmarks.NAME`` finds NAME in any of them (see README.md)."""

from pathlib import Path

__path__ += [str(Path(__file__).with_name(folder)) for folder in ("detection", "loop", "studies")]
