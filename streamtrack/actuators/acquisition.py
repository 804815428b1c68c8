"""Events for an acquisition that is running."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from streamtrack.actuators.guard import Guard
from streamtrack.settings import checks_settings
from streamtrack.types import Command, SourceInfo


@checks_settings
class MdaEvent:
    """Adds events to the running acquisition: ``action = { exposure = 5, x_pos = 120.0 }``, as useq's MDAEvent.

    What the action does not name stays as the acquisition has it. Positions, exposure, channel and properties are
    checked against the run's limits; each event counts its exposure as light. In the event's metadata stand the rule,
    the frame and the track that led to it.

    Parameters
    ----------
    microscope
        Given by the run.
    repeats
        How many events one command adds: a burst.
    """

    rehearses = True

    def __init__(self, *, microscope: Guard, repeats: Annotated[int, Field(ge=1, le=1000)] = 1) -> None:
        self._microscope = microscope
        self._repeats = repeats

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check the actions that rules will ask for; raises ConfigError."""
        for action in actions:
            self._microscope.trial.add_event(action)

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Add the events; returns how many. One that is refused ends the burst."""
        cause = {"rule": command.rule, "frame": command.frame_index, "particle": command.event.particle}
        metadata = {**command.action.get("metadata", {}), "streamtrack": cause}
        for _ in range(self._repeats):
            self._microscope.add_event({**command.action, "metadata": metadata})
        return {"events": self._repeats}

    def close(self) -> None:
        """Do nothing: what was added belongs to the acquisition."""
