"""Stage and focus drive."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from streamtrack.actuators.actions import Retries, attempt, number, one_key, pair
from streamtrack.actuators.guard import Guard
from streamtrack.clock import monotonic_ns
from streamtrack.errors import CommandRefused, ConfigError
from streamtrack.settings import Positive, Share, checks_settings
from streamtrack.types import Command, SourceInfo


@checks_settings
class Stage:
    """Moves the stage: ``action = { centre = true }``, ``{ to = [x, y] }`` or ``{ by = [dx, dy] }``, in um.

    ``centre`` brings the place of the event to the middle of the image. A command whose frame was exposed before the
    last such move had settled speaks of a place where nothing is any more: it is skipped, so that a loop that is faster
    than the stage does not overshoot.

    Parameters
    ----------
    microscope
        Given by the run.
    gain
        Part of the way to the middle that one command goes; less than 1 calms a noisy loop.
    max_move_um
        Longest move to the middle; a longer one is cut. None for no limit but those of ``safety``.
    settle_ms
        How long after a move, besides one exposure, frames that arrive are still from before: what the camera takes to
        read out and hand over an image, and the stage to come to rest.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        gain: Share = 1.0,
        max_move_um: Positive | None = None,
        settle_ms: Annotated[float, Field(ge=0, le=60_000)] = 10.0,
        retries: Retries = 0,
    ) -> None:
        self._microscope = microscope
        self._gain = gain
        self._max_move_um = math.inf if max_move_um is None else max_move_um
        self._settle_ms = settle_ms
        self._retries = retries
        self._middle_px: tuple[float, float] | None = None
        self._old_until_ns = 0
        """Frames grabbed before that were exposed before the last move was over."""

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Take the middle of the image, and check the actions that rules will ask for; raises ConfigError."""
        height, width = source.shape
        self._middle_px = (width - 1) / 2, (height - 1) / 2
        trial = self._microscope.trial
        for action in actions:
            key, way = self._read(action)
            if key == "centre":
                trial.centre()
            elif key == "to":
                trial.move_stage_um(*way)
            else:
                trial.move_along([axis for axis, um in zip(("x_um", "y_um"), way, strict=True) if um])

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Move the stage; returns where from and where to, um, and the number of tries, or why it was skipped."""
        key, way = self._read(command.action)
        if key == "centre" and (command.grabbed_ns or command.decided_ns) < self._old_until_ns:
            return {"skipped": "the frame was exposed before the last move was over"}
        x, y = self._microscope.stage_um()
        if key == "centre":
            way = self._way_to_middle(command)
        to_x, to_y = way if key == "to" else (x + way[0], y + way[1])
        tries = self._move((x, y), (to_x, to_y), command)
        return {"from_um": [x, y], "to_um": [to_x, to_y], "tries": tries}

    def close(self) -> None:
        """Do nothing: the stage stays where it is."""

    def _move(self, from_um: tuple[float, float], to_um: tuple[float, float], command: Command) -> int:
        blind_ms = self._microscope.exposure_ms() + self._settle_ms
        try:
            move = self._microscope.move_stage_um
            call = partial(move, *to_um, from_um=from_um, settle_ms=self._settle_ms)
            return attempt(call, self._retries, command.valid_until_ns)[1]
        finally:  # a move that failed may have gone part of the way
            self._old_until_ns = monotonic_ns() + int(1e6 * blind_ms)

    def _way_to_middle(self, command: Command) -> tuple[float, float]:
        """Return dx, dy, um."""
        if self._middle_px is None:
            raise ConfigError("centre needs to know the image: prepare() has to be called first")
        event = command.event
        offset_px = event.x - self._middle_px[0], event.y - self._middle_px[1]
        way = self._gain * self._microscope.stage_um_per_px() @ np.array(offset_px)
        length = float(np.hypot(*way))
        if not math.isfinite(length):
            raise CommandRefused(f"cannot centre what rule {command.rule!r} saw: its event has no place")
        way *= min(1.0, self._max_move_um / length) if length else 1.0
        return float(way[0]), float(way[1])

    def _read(self, action: Mapping[str, Any]) -> tuple[str, tuple[float, float]]:
        """Return the kind of action and its two numbers, um."""
        key = one_key(action, "centre", "to", "by")
        if key != "centre":
            return key, pair(action, key)
        if action[key] is not True:
            raise ConfigError(f"action: centre = {action[key]!r} is not true")
        return key, (0.0, 0.0)


@checks_settings
class Focus:
    """Moves the focus drive: ``action = { centre = true }``, ``{ to = z }`` or ``{ by = dz }``, in um.

    ``centre`` brings the particle of the event to height 0, by its ``z_um``, which an engine with a ``psf`` measures. A
    command whose frame was exposed before the last such move had settled is skipped, and so is one about a particle
    whose height was not measured.

    Parameters
    ----------
    microscope
        Given by the run.
    gain
        Part of the way to height 0 that one command goes; less than 1 calms a loop of noisy heights.
    max_move_um
        Longest move to height 0; a longer one is cut. None for no limit but ``safety.z_um``.
    settle_ms
        How long after a move to height 0, besides one exposure, frames that arrive are still from before.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        gain: Share = 0.7,
        max_move_um: Positive | None = None,
        settle_ms: Annotated[float, Field(ge=0, le=60_000)] = 10.0,
        retries: Retries = 0,
    ) -> None:
        self._microscope = microscope
        self._gain, self._max_move_um = gain, math.inf if max_move_um is None else max_move_um
        self._settle_ms = settle_ms
        self._retries = retries
        self._old_until_ns = 0
        """Frames grabbed before that were exposed before the last move to height 0 was over."""

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the actions that rules will ask for; raises ConfigError."""
        for action in actions:
            key, um = self._read(action)
            self._microscope.trial.move_focus_um(um) if key == "to" else self._microscope.trial.move_along(["z_um"])

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Move the focus drive; returns where from and where to, um, and the number of tries, or why it was skipped."""
        key, um = self._read(command.action)
        if key == "centre":
            height = command.event.values.get("z_um", math.nan)
            if not math.isfinite(height):
                return {"skipped": "the height of the particle was not measured: the engine's setting psf tells it"}
            if (command.grabbed_ns or command.decided_ns) < self._old_until_ns:
                return {"skipped": "the frame was exposed before the last move was over"}
            um = max(-self._max_move_um, min(self._gain * height, self._max_move_um))
        z = self._microscope.focus_um()
        to_z = um if key == "to" else z + um
        try:
            _, tries = attempt(lambda: self._microscope.move_focus_um(to_z), self._retries, command.valid_until_ns)
        finally:  # a move that failed may have gone part of the way
            if key == "centre":
                self._old_until_ns = monotonic_ns() + int(1e6 * (self._microscope.exposure_ms() + self._settle_ms))
        return {"from_um": z, "to_um": to_z, "tries": tries}

    def close(self) -> None:
        """Do nothing: the focus stays where it is."""

    def _read(self, action: Mapping[str, Any]) -> tuple[str, float]:
        """Return the kind of action and its number, um."""
        key = one_key(action, "centre", "to", "by")
        if key != "centre":
            return key, number(action, key)
        if action[key] is not True:
            raise ConfigError(f"action: centre = {action[key]!r} is not true")
        return key, 0.0
