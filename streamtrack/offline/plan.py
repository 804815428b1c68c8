"""How a batch is run: by which workers, in blocks of how many frames."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamtrack.errors import ConfigError
from streamtrack.offline.jobs import Declared

if TYPE_CHECKING:
    from distributed import Client

    from streamtrack.offline.cluster import Workers

BLOCK_FRAMES = (32, 256)
"""Fewest and most frames of a block, where nobody says how many: each costs a task, and the frames before it twice."""
BLOCKS_PER_WORKER = 8
"""So that the last ones do not keep the others waiting for long."""
PIXEL_BYTES = 64 << 20
"""Of the images of a block, where a sink or a measure needs them; and eight times that of all that are under way."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How a batch is run.

    Attributes
    ----------
    workers
        Processes on this computer, by default one for each core. Not with a ``scheduler``.
    scheduler
        Address of one of dask, ``tls://...``, or a client of one.
    resource
        What a worker has to have to be asked, as it was started: ``"GPU"``.
    block
        Frames of a task; by default 32 to 256.
    retries
        How often a block that failed is tried again.
    timeout_s
        How long a block may take once it is its turn.
    """

    workers: int | None = None
    scheduler: "str | Client | None" = None
    resource: str | None = None
    block: int | None = None
    retries: int = 2
    timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        """Check the numbers; raises ConfigError."""
        for name, least in (("workers", 1), ("block", 1), ("retries", 0), ("timeout_s", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ConfigError(f"{name} = {value} must be at least {least}")
        if self.workers is not None and self.scheduler is not None:
            raise ConfigError("workers are this computer's own, a scheduler has its own: give one of the two")


@dataclass(frozen=True, slots=True)
class Share:
    """What the sessions of a batch share."""

    workers: "Workers"
    declared: Declared
    n_workers: int
    n_movies: int

    def block_frames(self, n_frames: int | None, frame_bytes: int) -> int:
        """Return how many frames a block should have, as if all movies were as long as this one."""
        fewest, most = BLOCK_FRAMES
        even = (n_frames or most) * self.n_movies // (BLOCKS_PER_WORKER * self.n_workers)
        return max(1, min(max(even, fewest), most, PIXEL_BYTES // frame_bytes))
