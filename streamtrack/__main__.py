"""``python -m streamtrack``."""

from streamtrack.cli import main

main()
