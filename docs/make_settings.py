"""Writes docs/settings.md from the signatures and docstrings of the installed plug-ins."""

from pathlib import Path

from streamtrack.cli.plugins import markdown

if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(markdown(), encoding="utf-8", newline="\n")
