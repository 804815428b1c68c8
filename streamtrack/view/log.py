"""The newest lines of a run's ``commands.jsonl``, read as it grows."""

import json
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

MOST_LINES = 50
MOST_BYTES = 1 << 18
"""Read at a time; of what comes quicker, the newest."""


class NewestLines:
    """What was decided, and what became of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._begun = b""
        self._lines: deque[dict[str, Any]] = deque(maxlen=MOST_LINES)

    def look(self) -> list[dict[str, Any]]:
        """Return the newest lines, oldest first."""
        with suppress(OSError), self._path.open("rb") as file:
            size = file.seek(0, 2)
            if size - self._at > MOST_BYTES:
                self._at, self._begun = size - MOST_BYTES, b""
            file.seek(self._at)
            content = self._begun + file.read(MOST_BYTES)
            self._at = file.tell()
            *whole, self._begun = content.split(b"\n")
            for line in whole:
                with suppress(ValueError):  # cut at the front
                    self._lines.append(json.loads(line))
        return list(self._lines)
