"""The microscope's own autofocus."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from streamtrack.actuators.actions import one_key
from streamtrack.actuators.guard import Guard
from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError
from streamtrack.settings import NotNegative, checks_settings
from streamtrack.types import Command, SourceInfo


@checks_settings
class Autofocus:
    """Has the autofocus device search the focus: ``action = { full = true }``, or ``{ incremental = true }``.

    ``full`` searches from wherever the focus drive is, ``incremental`` from nearly in focus. It needs
    ``safety.autofocus = true`` and ``safety.z_um``: a drive that ends outside of them, or finds no focus, is brought
    back to where it was.

    Parameters
    ----------
    microscope
        Given by the run.
    rest_s
        How long after a search, found or not, commands are skipped.
    timeout_s
        How long a search may take.
    """

    rehearses = True

    def __init__(
        self,
        *,
        microscope: Guard,
        rest_s: NotNegative = 10.0,
        timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0,
    ) -> None:
        self._microscope = microscope
        self._rest_s = rest_s
        self._timeout_s = timeout_s
        self._ended_ns: int | None = None

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the actions that rules will ask for; raises ConfigError."""
        for action in actions:
            self._is_full(action)
            self._microscope.trial.autofocus()

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Search the focus; returns where from and where to, um, and the time it took, ms, or why it was skipped."""
        full = self._is_full(command.action)
        begun_ns = monotonic_ns()
        if self._ended_ns is not None and (rested_s := (begun_ns - self._ended_ns) / 1e9) < self._rest_s:
            return {"skipped": f"the last search was {rested_s:.1f} s ago: rest_s = {self._rest_s:g}"}
        from_um = self._microscope.focus_um()
        try:
            self._microscope.autofocus(full=full, timeout_s=self._timeout_s)
        finally:
            self._ended_ns = monotonic_ns()
        took_ms = (self._ended_ns - begun_ns) / 1e6
        return {"from_um": from_um, "to_um": self._microscope.focus_um(), "took_ms": round(took_ms, 3)}

    def close(self) -> None:
        """Do nothing: the focus stays where it is."""

    def _is_full(self, action: Mapping[str, Any]) -> bool:
        key = one_key(action, "full", "incremental")
        if action[key] is not True:
            raise ConfigError(f"action: {key} = {action[key]!r} is not true")
        return key == "full"
