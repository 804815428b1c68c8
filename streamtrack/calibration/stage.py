"""Measures how far, and which way, the stage has to go for a distance in the image: it moves a little, and looks."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrack.actuators.guard import Guard
from streamtrack.calibration.registration import Shift, shift_between
from streamtrack.config import Limits
from streamtrack.errors import MicroscopeError

FIRST_UM = 1.0
"""First step where no pixel size is known."""
WANTED = 1 / 8
"""Of the shorter side of the image: how far test moves shift it."""
MOST_RESIDUAL = 0.03
"""Of the longest shift: the image follows the stage no better than so."""
LEAST_RESIDUAL_PX = 0.7
"""What is below is as good as images of few particles allow."""

LEAST = 1 / 24
"""Of the shorter side of the image: shifts that are shorter say too little."""
MOST_TRIES = 20

Move = tuple[float, float]


@dataclass(frozen=True, slots=True)
class StageFit:
    """What was measured.

    Attributes
    ----------
    um_per_px
        Shape (2, 2): the matrix of `streamtrack.protocols.Microscope.stage_um_per_px`, at the present binning.
    residual_px
        Root mean square of what the matrix leaves of the shifts.
    moves
        How many.
    longest_um, longest_px
        Of the moves, and of the shifts.
    """

    um_per_px: NDArray[np.float64]
    residual_px: float
    moves: int
    longest_um: float
    longest_px: float

    @property
    def pixel_um(self) -> tuple[float, float]:
        """Length of a pixel along x and y of the image."""
        x, y = np.hypot(*self.um_per_px)
        return float(x), float(y)

    @property
    def is_mirrored(self) -> bool:
        """Whether no rotation alone brings the image's axes onto the stage's."""
        return bool(np.linalg.det(self.um_per_px) < 0)

    @property
    def rotation_deg(self) -> float:
        """Direction of the stage move for a feature to the right of the middle, from the stage's x towards its y."""
        return math.degrees(math.atan2(self.um_per_px[1, 0], self.um_per_px[0, 0]))


def measure_stage(
    microscope: Guard, look: Callable[[], NDArray[np.float64]], x_um: Limits, y_um: Limits, pixel_um: float | None
) -> StageFit:
    """Move the stage a little within limits, look at the image each time, and bring the stage back, whatever happens.

    Parameters
    ----------
    microscope
        Moves within the run's limits.
    look
        Returns an image, shape (H, W), that was exposed after the call.
    x_um, y_um
        The limits.
    pixel_um
        About the side of a pixel, None if unknown: only for the length of the first step.

    Raises
    ------
    MicroscopeError
        The stage is outside the limits, or they are too narrow; the images show too little, change by themselves, or do
        not follow the stage.
    """
    home = microscope.stage_um()
    for name, value, limits in (("x_um", home[0], x_um), ("y_um", home[1], y_um)):
        if not limits[0] <= value <= limits[1]:
            cure = "move it inside first, or widen them"
            raise MicroscopeError(f"the stage is at {name} = {value:g}, outside safety.{name}: {cure}")
    try:
        return _Tests(microscope, look, home, (x_um, y_um)).fit(pixel_um)
    finally:
        microscope.move_stage_um(*home)


def fit(moves_um: NDArray[np.float64], shifts_px: NDArray[np.float64]) -> StageFit:
    """Return the matrix that explains how far the image was shifted by moves; both of shape (N, 2), x and y.

    Raises
    ------
    MicroscopeError
        No matrix does.
    """
    transposed, _, rank, _ = np.linalg.lstsq(moves_um, shifts_px, rcond=None)
    residual = shifts_px - moves_um @ transposed
    residual_px = float(np.sqrt((residual**2).sum(axis=1).mean()))
    longest_px = float(np.hypot(*shifts_px.T).max())
    if residual_px > max(LEAST_RESIDUAL_PX, MOST_RESIDUAL * longest_px):
        cure = "look whether something in view moves by itself, and whether the stage slips"
        left = f"{residual_px:.2f} px of shifts of up to {longest_px:.0f} px are left"
        raise MicroscopeError(f"the image does not follow the stage, {left}: {cure}")
    if rank < 2 or abs(np.linalg.det(transposed)) < 1e-3 * np.abs(transposed).max() ** 2:
        raise MicroscopeError("the image moves along one line only: does one axis of the stage not move?")
    longest_um = float(np.hypot(*moves_um.T).max())
    # Bringing a feature to the middle is a shift against its place in the image.
    return StageFit(-np.linalg.inv(transposed.T), residual_px, len(moves_um), longest_um, longest_px)


class _Tests:
    """Test moves around one place; moves are relative to it, x and y, um."""

    def __init__(
        self, microscope: Guard, look: Callable[[], NDArray[np.float64]], home: Move, limits: tuple[Limits, Limits]
    ) -> None:
        self._microscope = microscope
        self._look = look
        self._home = home
        self._room = [(low - um, high - um) for um, (low, high) in zip(home, limits, strict=True)]
        self._image = look()
        self._wanted_px = WANTED * min(self._image.shape)

    def fit(self, pixel_um: float | None) -> StageFit:
        """Return what some moves along both axes, to both sides where there is room, say together."""
        self._check_image()
        first_um = FIRST_UM if pixel_um is None else pixel_um * self._wanted_px / 4
        dx, dy = (self._step(axis, first_um) for axis in (0, 1))
        back_x, back_y = (step if self._is_room(axis, -step) else -step / 2 for axis, step in ((0, dx), (1, dy)))
        moves, shifts = [], []
        for move in ((dx, 0.0), (0.0, dy), (dx, dy), (-back_x, 0.0), (0.0, -back_y), (-back_x, -back_y)):
            shift = self._shift(move)
            if not shift.is_clear:
                cure = "look whether the light is steady, and whether what is in view moves by itself"
                raise MicroscopeError(f"images before and after a move do not agree ({shift.clarity:.1f}): {cure}")
            there = self._microscope.stage_um()
            moves.append((there[0] - self._home[0], there[1] - self._home[1]))
            shifts.append((shift.x, shift.y))
        return fit(np.array(moves), np.array(shifts))

    def _shift(self, move: Move) -> Shift:
        self._microscope.move_stage_um(self._home[0] + move[0], self._home[1] + move[1])
        return shift_between(self._image, self._look())

    def _check_image(self) -> None:
        """Refuse images that do not even agree with each other without a move."""
        shift = shift_between(self._image, self._look())
        if not shift.is_clear:
            cure = "there has to be more to see: more light, a longer exposure, another place, in focus"
            raise MicroscopeError(f"two images of the same place do not agree ({shift.clarity:.1f}): {cure}")
        if math.hypot(shift.x, shift.y) > LEAST_RESIDUAL_PX:
            cure = "wait until the stage has come to rest, and look for drift"
            raise MicroscopeError(f"the image moves without the stage, by ({shift.x:.1f}, {shift.y:.1f}) px: {cure}")

    def _step(self, axis: int, first_um: float) -> float:
        """Return how far to move along an axis, um, signed, to shift the image about as far as is wanted."""
        step_um, shift_px = first_um, 0.0
        for _ in range(MOST_TRIES):
            step_um, is_longest = self._inside(axis, step_um)
            shift = self._shift((step_um, 0.0) if axis == 0 else (0.0, step_um))
            shift_px = math.hypot(shift.x, shift.y) if shift.is_clear else 0.0
            if not shift.is_clear:
                step_um /= 4  # too far to have enough in common
            elif is_longest or shift_px >= self._wanted_px / 2:
                break
            else:
                step_um *= min(4.0, self._wanted_px / max(shift_px, 1.0))
        if shift_px < LEAST * min(self._image.shape):
            name = ("x_um", "y_um")[axis]
            cure = f"look whether the stage moves, and whether the limits safety.{name} are wide enough"
            raise MicroscopeError(f"moves along {name}, of {abs(step_um):g} um at last, do not shift the image: {cure}")
        return self._inside(axis, step_um * min(2.0, self._wanted_px / shift_px))[0]

    def _inside(self, axis: int, step_um: float) -> tuple[float, bool]:
        """Return a step to the side where there is more room, cut to the limits, and whether it was cut."""
        low, high = self._room[axis]
        length = min(abs(step_um), max(high, -low))
        return length if high >= -low else -length, length < abs(step_um)

    def _is_room(self, axis: int, step_um: float) -> bool:
        low, high = self._room[axis]
        return low <= step_um <= high
