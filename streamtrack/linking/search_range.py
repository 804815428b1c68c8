"""What linkers that know no more than how far a particle moves have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import LinkerError
from streamtrack.linking.measurement import MARGIN_PX
from streamtrack.settings import Positive, checks_settings
from streamtrack.types import Detections, TrackUpdate

CONFIRMING_HITS = 3
"""Without probabilities, a track counts as certain from its third detection on."""

Positions = NDArray[np.float64]
Ids = NDArray[np.int64]


class Links(NamedTuple):
    """What became of the detections of a frame.

    Attributes
    ----------
    particle, hits
        Shape (N,): the track of each detection, and the track's detections so far, this one included.
    ended
        Shape (E,): tracks that ended.
    n_live
        Tracks still followed.
    """

    particle: Ids
    hits: Ids
    ended: Ids
    n_live: int


@checks_settings
class SearchRangeLinker(ABC):
    """Base of linkers with a search range and a memory.

    A track's existence is 1/3 at its first detection, 2/3 at its second and 1 from the third on.

    Parameters
    ----------
    search_range
        Farthest that a particle moves from one detection to the next, px.
    memory
        Frames in a row in which a particle may be missed, lost frames included.

    Raises
    ------
    ConfigError
        A setting is out of its range.
    """

    def __init__(self, *, search_range: Positive = 7.0, memory: Annotated[int, Field(ge=0)] = 3) -> None:
        self._search_range = search_range
        self._memory = memory
        self._start_over((0, 0))

    def _start_over(self, shape: tuple[int, int]) -> None:
        """Forget everything from before; frames have (H, W) px from now on."""
        self._shape = shape
        self._last_index: int | None = None
        self._ignored = 0

    @abstractmethod
    def _link(self, positions: Positions, frame_index: int, last_index: int | None) -> Links:
        """Link positions of shape (N, 2): y, x, all finite; ``last_index`` is the frame before, None at first."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, and how many detections were ignored."""
        return {
            "search_range": self._search_range,
            "memory": self._memory,
            "ignored_detections": self._ignored,
        }

    def prepare(self, shape: tuple[int, int]) -> None:
        """Make ready for frames of (H, W) px, and forget everything from before."""
        self._start_over(shape)

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Link the detections of the next frame.

        Parameters
        ----------
        detections
            Those that are not finite or lie more than a pixel outside the image get no track and are counted.
        frame_index
            Rises; lost frames count as frames without detections.
        time_s
            Not used: frames are counted.

        Raises
        ------
        LinkerError
            ``frame_index`` does not rise, ``prepare`` was not called, or the linker cannot cope with the frame.
        """
        last = self._advance_to(frame_index)
        usable = np.flatnonzero(self._inside(detections))
        self._ignored += len(detections) - len(usable)
        positions = np.column_stack((detections.y[usable], detections.x[usable])).astype(np.float64)
        links = self._link(positions, frame_index, last)
        particle = np.full(len(detections), -1, np.int64)
        existence = np.zeros(len(detections), np.float32)
        particle[usable] = links.particle
        existence[usable] = np.minimum(links.hits / CONFIRMING_HITS, 1.0)
        return TrackUpdate(
            particle=particle,
            existence=existence,
            started=links.particle[links.hits == 1],
            confirmed=links.particle[links.hits == CONFIRMING_HITS],
            ended=links.ended,
            n_live=links.n_live,
            final_index=frame_index,
        )

    def _advance_to(self, frame_index: int) -> int | None:
        """Go on to a frame, and return the one before."""
        if not self._shape[0]:
            raise LinkerError("the linker does not know the frames' size: call prepare(shape) before update()")
        last = self._last_index
        if last is not None and frame_index <= last:
            raise LinkerError(
                f"frame {frame_index} came after frame {last}: frame indices must rise; a new movie needs a new linker"
            )
        self._last_index = frame_index
        return last

    def _inside(self, detections: Detections) -> NDArray[np.bool_]:
        half = np.array(self._shape) / 2
        from_middle = np.column_stack((detections.y, detections.x)) - (half - 0.5)
        return np.asarray((np.abs(from_middle) <= half + MARGIN_PX).all(axis=1))  # NaN is not
