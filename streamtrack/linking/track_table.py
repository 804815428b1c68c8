"""The tracks that are followed, in one growing array."""

import numpy as np
from numpy.typing import NDArray

from streamtrack.linking.imm_filter import (
    COVARIANCE,
    POSITION,
    POSITION_VAR,
    TRACK,
    VELOCITY,
    VELOCITY_VAR,
    Motion,
)


class TrackTable:
    """Live tracks in no order; the memory grows with the most that were ever alive at a time."""

    def __init__(self) -> None:
        self._records = np.zeros(256, TRACK)
        self._n_live = 0
        self._next_particle = 0

    @property
    def live(self) -> NDArray[np.void]:
        """The live tracks, of dtype ``TRACK``: a view to be changed in place, valid until tracks start or end."""
        return self._records[: self._n_live]

    def end(self, ending: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Drop the live tracks that are marked; return their ids."""
        ended = self.live["particle"][ending]
        # The last ones that stay fill the gaps: far fewer bytes than moving all up.
        n_staying = self._n_live - len(ended)
        gaps = np.flatnonzero(ending[:n_staying])
        self.live[gaps] = self.live[n_staying:][~ending[n_staying:]]
        self._n_live = n_staying
        return ended

    def start(
        self, y: NDArray[np.float64], x: NDArray[np.float64], motion: Motion, existence: float
    ) -> NDArray[np.int64]:
        """Start one track at each position (px); return their ids."""
        particle = np.arange(self._next_particle, self._next_particle + len(y))
        self._next_particle += len(y)
        self._reserve(self._n_live + len(y))
        self._n_live += len(y)
        born = self.live[self._n_live - len(y) :]
        born["particle"] = particle
        born["existence"] = existence
        born["hits"] = 1
        born["misses"] = 0
        born["probability"] = motion.prior
        born["mean"][..., VELOCITY] = 0.0
        born["mean"][..., 0, POSITION] = y[:, None]
        born["mean"][..., 1, POSITION] = x[:, None]
        born["covariance"][..., POSITION_VAR] = motion.localisation_var
        born["covariance"][..., COVARIANCE] = 0.0
        born["covariance"][..., VELOCITY_VAR] = motion.speed_var
        return particle

    def _reserve(self, n: int) -> None:
        if n > len(self._records):
            grown = np.zeros(max(n, 2 * len(self._records)), TRACK)
            grown[: self._n_live] = self.live
            self._records = grown
