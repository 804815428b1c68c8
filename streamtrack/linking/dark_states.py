"""Whether a particle that is there is detected: some are missed by chance, some go dark for a while and come back."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamtrack.linking.records import N_GAPS, Evidence
from streamtrack.linking.running_mean import RunningMean

Blinking = bool | Literal["auto"]
Rates = NDArray[np.float64]

FIRST_DETECTION = 0.95
"""Probability that a particle is detected in a frame, until the movie says otherwise."""

FIRST_REAPPEARANCE = (0.5, 0.3, 0.2)
"""The same of particles that blink, of one that was missed in one frame, in two, or in more."""

LEAST_DETECTION, MOST_DETECTION = 0.5, 0.995
LEAST_REAPPEARANCE = 0.05
"""Bounds of what is learnt."""

RATES_WEIGHT, RATES_MEMORY = 200.0, 5000.0
"""In links: what is known before counts as much as the former, and what is older than the latter is forgotten."""

GAPS_WEIGHT, GAPS_MEMORY = 4.0, 500.0
"""The same for gaps, in missed frames."""

NO_BLINKING, BLINKING = 0.8, 0.65
"""Of particles that were missed, so many are back in the next frame where none blinks, and where some surely do. There
is room in between: who comes back may be another."""

UNDECIDED_FRAMES = 40
"""So long a sparse movie may be one of particles that blink without having shown it."""

CROWDED, SPARSE = 0.15, 0.1
"""So many others come near where a particle went dark."""

REACH, DARK_FRAMES = 2.5, 6.0
"""Near is that many standard deviations of where it may have got to in that many frames."""


class DarkStates:
    """Learns how often particles are detected, whether they blink, and how soon they are back.

    Where they blink, a particle that was missed once was so by chance, or it went dark; one that was missed in many
    frames is dark. Where they do not, misses have no memory. What is believed in between is in between.

    Parameters
    ----------
    detection
        Probability that a particle is detected in a frame if it is known; None to learn it.
    blinking
        Whether particles go dark for some frames; "auto" to learn it.

    Attributes
    ----------
    found_again
        Of particles whose tracks had ended, how many came back lately, beyond chance, and frames that they were away.
    is_decided
        Whether enough of the movie was seen to tell whether particles blink.
    """

    def __init__(self, detection: float | None, blinking: Blinking) -> None:
        self._detection = detection
        self._is_known = blinking is True
        self._may_blink = blinking is True or (blinking == "auto" and detection is None)
        self._there = RunningMean(FIRST_DETECTION, RATES_WEIGHT, RATES_MEMORY)
        self._lit = RunningMean(FIRST_DETECTION, RATES_WEIGHT, RATES_MEMORY)
        self._back = RunningMean(FIRST_DETECTION, GAPS_WEIGHT, GAPS_MEMORY)
        self._reappeared = tuple(RunningMean(each, GAPS_WEIGHT, GAPS_MEMORY) for each in FIRST_REAPPEARANCE)
        self.found_again = 0.0, 0.0
        self.is_decided = False
        self._chance_near = math.inf

    def look(self, density: float, spread: float, n_frames: int) -> None:
        """Take how crowded it is.

        Parameters
        ----------
        density
            Of particles, 1/px².
        spread
            How far one gets that is not seen, px² per frame and axis.
        n_frames
            Frames that came before.
        """
        self._chance_near = density * math.pi * REACH**2 * spread * DARK_FRAMES
        self.is_decided |= n_frames >= UNDECIDED_FRAMES

    def learn(self, evidence: Evidence, found_again: tuple[float, float]) -> None:
        """Take in what the links of one frame say of misses and gaps."""
        self.found_again = found_again
        n_found, n_missed = evidence.n_found_again.tolist(), evidence.n_missed.tolist()
        self._there.add(evidence.n_seen, evidence.n_seen + sum(n_missed))
        self._lit.add(evidence.n_seen - sum(n_found), evidence.n_seen)
        self._back.add(sum(n_found), sum(n_missed))
        for mean, found, missed in zip(self._reappeared, n_found, n_missed, strict=True):
            mean.add(found, missed)

    @property
    def blinking(self) -> float:
        """How far it is believed that particles blink, 0 to 1.

        They do where those that were missed come back late, or where tracks begin at places at which others ended. In
        the first frames neither has happened yet: where it is so sparse that no other particle can be mistaken for one
        that comes back, nothing is lost by waiting for it.
        """
        if not self._may_blink:
            return 0.0
        if self._is_known or self.found_again[0] > 0.0:
            return 1.0
        late = _ramp(float(self._back.value), NO_BLINKING, BLINKING)
        return late if self.is_decided else max(late, _ramp(self._chance_near, CROWDED, SPARSE))

    @property
    def detection(self) -> float:
        """Probability that a particle is detected that was detected in the frame before."""
        return self.visible(1)[0]

    @property
    def reappearance(self) -> Rates:
        """Probability that a particle is detected that was missed in one frame, in two, or in more: shape (N_GAPS,)."""
        return self.visible(1)[1]

    @property
    def gap_frames(self) -> float:
        """Frames for which a particle is missed that is missed, on average."""
        once, twice, more = self.reappearance.tolist()
        return float(1.0 + (1.0 - once) * (1.0 + (1.0 - twice) / more))

    def visible(self, frames: int) -> tuple[float, Rates]:
        """Return `detection` and `reappearance` so many frames on: the more, the less it matters what was before."""
        blinking = self.blinking
        detection = self._detected(blinking)
        reappearance = np.full(N_GAPS, detection)
        if blinking:
            reappearance += blinking * (self._back_from_the_dark() - detection)
        if frames == 1:
            return detection, reappearance
        there = reappearance / (1.0 - detection + reappearance)
        left = (detection - reappearance) ** frames
        return float(there[0] + (1.0 - there[0]) * left[0]), there * (1.0 - left)

    def _detected(self, blinking: float) -> float:
        if self._detection is not None:
            return self._detection
        there, lit = float(self._there.value), float(self._lit.value)
        return min(max(there + blinking * (lit - there), LEAST_DETECTION), MOST_DETECTION)

    def _back_from_the_dark(self) -> Rates:
        """Return `reappearance` of particles that blink; those whose tracks had ended were missed in many frames."""
        totals, weights = np.array([(float(mean.total), mean.weight) for mean in self._reappeared]).T
        found, away = self.found_again
        totals[-1] += found
        weights[-1] += max(away - (N_GAPS - 1) * found, found)
        rates: Rates = np.clip(totals / weights, LEAST_REAPPEARANCE, MOST_DETECTION)
        return rates

    @property
    def learnt(self) -> tuple[RunningMean, ...]:
        """All that was learnt, to be saved and restored."""
        return self._there, self._lit, self._back, *self._reappeared


def _ramp(value: float, none: float, full: float) -> float:
    """Return how far a value is on the way from one to another, 0 to 1."""
    return min(max((value - none) / (full - none), 0.0), 1.0)
