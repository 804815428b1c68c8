"""The camera's exposure."""

from collections.abc import Mapping, Sequence
from typing import Any

from streamtrack.actuators.actions import Retries, attempt, number, one_key
from streamtrack.actuators.guard import Guard
from streamtrack.errors import ConfigError
from streamtrack.settings import NotNegative, checks_settings
from streamtrack.types import Command, SourceInfo


@checks_settings
class Exposure:
    """Sets the camera's exposure: ``action = { exposure_ms = 5 }``, within ``safety.exposure_ms``.

    Parameters
    ----------
    microscope
        Given by the run.
    exposure_ms
        Set where the action names none.
    retries
        How often a call that failed is repeated while the command is valid.
    """

    rehearses = True

    def __init__(self, *, microscope: Guard, exposure_ms: NotNegative | None = None, retries: Retries = 0) -> None:
        self._microscope = microscope
        self._exposure_ms = exposure_ms
        self._retries = retries

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the actions that rules will ask for; raises ConfigError."""
        for action in actions:
            self._microscope.trial.set_exposure_ms(self._read(action))

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Set the exposure; returns it, ms, and the number of tries."""
        exposure_ms = self._read(command.action)
        _, tries = attempt(lambda: self._microscope.set_exposure_ms(exposure_ms), self._retries, command.valid_until_ns)
        return {"exposure_ms": exposure_ms, "tries": tries}

    def close(self) -> None:
        """Do nothing: the exposure stays as it is."""

    def _read(self, action: Mapping[str, Any]) -> float:
        if action:
            return number(action, one_key(action, "exposure_ms"))
        if self._exposure_ms is None:
            raise ConfigError("no exposure to set: give action = { exposure_ms = ... }")
        return self._exposure_ms
