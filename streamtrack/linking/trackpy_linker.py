"""trackpy's linking (Crocker & Grier, J. Colloid Interface Sci. 179 (1996) 298), one frame at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamtrack.errors import LinkerError
from streamtrack.linking.search_range import Ids, Links, Positions, SearchRangeLinker


@dataclass(slots=True)
class _Track:
    particle: int
    hits: int
    last_index: int


class TrackpyLinker(SearchRangeLinker):
    """Links with trackpy: the nearest detections within a fixed range, all of a frame at once.

    A track's existence is 1/3 at its first detection, 2/3 at its second and 1 from the third on.

    trackpy solves crowded groups by trial of all combinations: a search range too large for the density makes it
    stall, or give up with a LinkerError. The linkers ``nearest`` and ``imm`` have no such limit.

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

    def _start_over(self, shape: tuple[int, int]) -> None:
        super()._start_over(shape)
        self._linker: Any = None
        self._tracks: dict[Any, _Track] = {}
        self._n_particles = 0

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings, trackpy's version, and how many detections were ignored."""
        import trackpy

        return {"linker": "trackpy", "trackpy": trackpy.__version__, **super().info}

    def prepare(self, shape: tuple[int, int]) -> None:
        """Import trackpy, let it compile its solver for crowded groups, and forget everything from before."""
        super().prepare(shape)
        crowd = np.linspace(0, self._search_range / 2, 5)
        linker = self._new_linker()
        linker.init_level(np.column_stack((crowd, crowd)), 0)
        linker.next_level(np.column_stack((crowd, crowd)), 1)

    def _link(self, positions: Positions, frame_index: int, last_index: int | None) -> Links:
        if last_index is not None:
            # After memory + 1 empty frames trackpy remembers nothing.
            for lost in range(last_index + 1, min(frame_index, last_index + 2 + self._memory)):
                self._advance(np.empty((0, 2)), lost)
        self._advance(positions, frame_index)
        tracks = [self._see(point.track, frame_index) for point in self._linker.hash.points]
        particle = np.array([track.particle for track in tracks], np.int64)
        hits = np.array([track.hits for track in tracks], np.int64)
        return Links(particle, hits, self._end_unseen(frame_index), len(self._tracks))

    def _new_linker(self) -> Any:
        import trackpy

        return trackpy.linking.Linker(self._search_range, memory=self._memory)

    def _advance(self, positions: Positions, frame_index: int) -> None:
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

    def _end_unseen(self, frame_index: int) -> Ids:
        ending = [key for key, track in self._tracks.items() if frame_index - track.last_index > self._memory]
        return np.array([self._tracks.pop(key).particle for key in ending], np.int64)
