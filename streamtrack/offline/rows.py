"""What became of each movie of a batch, as it is known while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class MovieRow:
    """What became of a movie.

    Attributes
    ----------
    status
        As in a report; ``waiting`` before its turn.
    skipped
        Whether an earlier batch had tracked it already.
    """

    movie: str
    folder: Path
    n_frames: int | None
    status: str = "waiting"
    frames: int = 0
    lost: int = 0
    detections: int = 0
    seconds: float = 0.0
    skipped: bool = False
    error: str = ""

    def take(self, report: Mapping[str, Any]) -> None:
        """Take what a report says."""
        frames = report["frames"]
        self.status, self.error = report["status"], report["error"] or ""
        self.frames, self.lost, self.detections = frames["processed"], frames["lost"], report["detections"]
        self.seconds = report["duration_s"]


@dataclass(slots=True)
class BatchState:
    """How a batch stands; for whoever shows it.

    Attributes
    ----------
    trouble
        What keeps the page from being written that compares the movies.
    """

    rows: list[MovieRow] = field(default_factory=list)
    dashboard: str = ""
    n_workers: int = 0
    trouble: str = ""
