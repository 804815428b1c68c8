"""trackpy's linking (Crocker & Grier, J. Colloid Interface Sci. 179 (1996) 298), one frame at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, LinkerError
from streamtrack.types import Detections, TrackUpdate

CONFIRMING_HITS = 3
"""trackpy has no probabilities; a track counts as certain from its third detection on."""


@dataclass(slots=True)
class _Track:
    particle: int
    hits: int
    last_index: int


class TrackpyLinker:
    """Links with trackpy: the nearest detections within a fixed range, all of a frame at once.

    A track's existence is 1/3 at its first detection, 2/3 at its second and 1 from the third on.

    trackpy solves crowded groups by trial of all combinations: a search range too large for the density makes it
    stall, or give up with a LinkerError. The linker ``imm`` has no such limit.

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

    def __init__(self, *, search_range: float = 7.0, memory: int = 3) -> None:
        if not 0 < search_range < np.inf:
            raise ConfigError(f"search_range is {search_range}: it must be finite and above 0 (px)")
        if memory < 0:
            raise ConfigError(f"memory is {memory}: it must be 0 or more (frames)")
        self._search_range = search_range
        self._memory = memory
        self._start_over()

    def _start_over(self) -> None:
        self._linker: Any = None
        self._tracks: dict[Any, _Track] = {}
        self._n_particles = 0
        self._last_index: int | None = None
        self._ignored = 0

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, trackpy's version, and how many detections were ignored for a coordinate not finite."""
        import trackpy

        return {
            "linker": "trackpy",
            "trackpy": trackpy.__version__,
            "search_range": self._search_range,
            "memory": self._memory,
            "ignored_detections": self._ignored,
        }

    def prepare(self, shape: tuple[int, int]) -> None:
        """Import trackpy, let it compile its solver for crowded groups, and forget everything from before."""
        self._start_over()
        crowd = np.linspace(0, self._search_range / 2, 5)
        linker = self._new_linker()
        linker.init_level(np.column_stack((crowd, crowd)), 0)
        linker.next_level(np.column_stack((crowd, crowd)), 1)

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Link the detections of the next frame.

        Parameters
        ----------
        detections
            Those with a coordinate that is not finite get no track and are counted.
        frame_index
            Rises; lost frames count as frames without detections.
        time_s
            Not used: trackpy counts frames.

        Raises
        ------
        LinkerError
            ``frame_index`` does not rise, or the frame is too crowded for ``search_range``.
        """
        self._pass_lost_frames(frame_index)
        usable = np.flatnonzero(np.isfinite(detections.y) & np.isfinite(detections.x))
        self._ignored += len(detections) - len(usable)
        self._link(np.column_stack((detections.y[usable], detections.x[usable])).astype(np.float64), frame_index)
        particle = np.full(len(detections), -1, np.int64)
        existence = np.zeros(len(detections), np.float32)
        for i, point in zip(usable, self._linker.hash.points, strict=True):
            track = self._see(point.track, frame_index)
            particle[i] = track.particle
            existence[i] = min(1.0, track.hits / CONFIRMING_HITS)
        ended = self._end_unseen(frame_index)
        return TrackUpdate(particle, existence, ended, len(self._tracks))

    def _new_linker(self) -> Any:
        import trackpy

        return trackpy.linking.Linker(self._search_range, memory=self._memory)

    def _pass_lost_frames(self, frame_index: int) -> None:
        last, self._last_index = self._last_index, frame_index
        if last is None:
            return
        if frame_index <= last:
            self._last_index = last
            raise LinkerError(
                f"frame {frame_index} came after frame {last}: frame indices must rise; a new movie needs a new linker"
            )
        # After memory + 1 empty frames trackpy remembers nothing.
        for index in range(last + 1, min(frame_index, last + 2 + self._memory)):
            self._link(np.empty((0, 2)), index)

    def _link(self, positions: NDArray[np.float64], frame_index: int) -> None:
        from trackpy.linking import SubnetOversizeException

        try:
            if self._linker is None:
                self._linker = self._new_linker()
                self._linker.init_level(positions, frame_index)
            else:
                self._linker.next_level(positions, frame_index)
        except SubnetOversizeException as error:
            raise LinkerError(
                f"frame {frame_index} is too crowded for trackpy with a search range of {self._search_range} px: "
                "set a smaller search_range, or use the linker imm"
            ) from error

    def _see(self, key: Any, frame_index: int) -> _Track:
        # trackpy numbers tracks by a counter that all its linkers in a process share, in an order that changes from
        # run to run: its track objects are the identity, the numbers are ours.
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = _Track(self._n_particles, 0, frame_index)
            self._n_particles += 1
        track.hits += 1
        track.last_index = frame_index
        return track

    def _end_unseen(self, frame_index: int) -> NDArray[np.int64]:
        ending = [key for key, track in self._tracks.items() if frame_index - track.last_index > self._memory]
        return np.array([self._tracks.pop(key).particle for key in ending], np.int64)
