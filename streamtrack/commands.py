"""Carries commands to their actuators and writes down what became of each."""

import json
import math
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from streamtrack.channel import Policy
from streamtrack.clock import Clock
from streamtrack.config import Mode
from streamtrack.errors import CommandRefused, described
from streamtrack.latency import LatencyHistogram
from streamtrack.plain import plain
from streamtrack.protocols import Actuator
from streamtrack.report import COMMANDS_NAME
from streamtrack.types import ONE_STREAM, Command
from streamtrack.workers import Worker

COMMAND_QUEUE = 256
"""Commands that may wait for an actuator; what comes on top is dropped and counted."""
FATES = ("sent", "rehearsed", "recorded", "skipped", "stale", "refused", "failed", "dropped")
"""What may become of a command for an actuator; one for a sink is ``marked``."""
LOG_QUEUE = 4096
"""Lines of the log that may wait to be written."""


class CommandLog(Worker[dict[str, Any]]):
    """``commands.jsonl``: a line for each command and each change, once its fate is known, readable after any crash.

    The file appears with the first line. A full disk ends the log, not the run: lines that were not written are
    counted.
    """

    def __init__(self) -> None:
        super().__init__("commands", LOG_QUEUE, Policy.DROP_NEWEST)
        self._path = Path()
        self._file: TextIO | None = None

    def open(self, folder: Path) -> None:
        """Say where the file shall be, and start the thread that writes it."""
        self._path = folder / COMMANDS_NAME
        self.start()

    def add(self, command: Command, fate: str, **more: Any) -> None:
        """Add a command and what became of it; never waits."""
        line = {
            "fate": fate,
            "frame": command.frame_index,
            "rule": command.rule,
            "actuator": command.actuator,
            "action": dict(command.action),
            "event": {key: value for key, value in asdict(command.event).items() if not _is_nan(value)},
            "grabbed_to_decided_ms": round((command.decided_ns - command.grabbed_ns) / 1e6, 3),
            **({} if command.stream is ONE_STREAM else {"stream": asdict(command.stream)}),
            **more,
        }
        self.add_line(line)

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Add a line of something else; never waits."""
        self.channel.put(dict(line), 0)

    def handle(self, item: dict[str, Any]) -> None:
        """Write one line."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", newline="\n")
        self._file.write(json.dumps(plain(item), allow_nan=False) + "\n")
        self._file.flush()

    def end(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def outcome(self) -> dict[str, Any]:
        """Return how many lines are missing and why, for the report."""
        return {"dropped": self.dropped, "error": self.error}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


class ActuatorWorker(Worker[Command]):
    """Gives one actuator its commands, in order; a command that fails does not keep the next from being tried."""

    def __init__(self, name: str, actuator: Actuator, mode: Mode, clock: Clock, log: CommandLog) -> None:
        super().__init__(name, COMMAND_QUEUE, Policy.DROP_NEWEST)
        self._actuator = actuator
        self._mode: Mode = mode
        self._lock = threading.Lock()
        self._since_ns = -1
        self._is_executing = False
        self._clock = clock
        self._log = log
        self.fates = dict.fromkeys(FATES, 0)
        self.last_problem: str | None = None
        self.to_commanded, self.to_done = LatencyHistogram(), LatencyHistogram()

    @property
    def is_executing(self) -> bool:
        """Whether the actuator is carrying out a command."""
        with self._lock:
            return self._is_executing

    def set_mode(self, mode: Mode) -> None:
        """Deal with commands as in another mode from now on, but for the one that is being carried out.

        Those that were decided before are dropped.
        """
        with self._lock:
            self._mode, self._since_ns = mode, self._clock()
        self.channel.drop(f"the mode became {mode}")

    def handle(self, item: Command) -> None:
        """Carry out one command, unless it is too late for it or the run only observes."""
        with self._lock:
            mode, is_old = self._mode, item.decided_ns <= self._since_ns
            recorded = mode == "observe" or (mode == "rehearse" and not self._actuator.rehearses)
            self._is_executing = not (recorded or is_old)
        if is_old:
            self._count_drop(item, f"the mode became {mode}")
        elif recorded:
            self._settle(item, "recorded")
        elif self._clock() > item.valid_until_ns:
            self._settle(item, "stale")
        else:
            self._carry_out(item, "sent" if mode == "armed" else "rehearsed")
        self._is_executing = False

    def end(self) -> None:
        """Leave the hardware safe."""
        self._actuator.close()

    def _carry_out(self, command: Command, done: str) -> None:
        commanded_ns = self._clock()
        try:
            result = dict(self._actuator.execute(command))
        except CommandRefused as refusal:
            self._settle(command, "refused", error=self._problem(str(refusal)))
        except (Exception, SystemExit) as error:  # sys.exit() in a plug-in of the lab's does not end the worker
            self._settle(command, "failed", error=self._problem(described(error)))
        else:
            fate = "skipped" if "skipped" in result else done
            self._settle(command, fate, **self._timing(command, commanded_ns), result=result)

    def _timing(self, command: Command, commanded_ns: int) -> Mapping[str, float]:
        to_commanded, to_done = commanded_ns - command.grabbed_ns, self._clock() - command.grabbed_ns
        self.to_commanded.add(to_commanded)
        self.to_done.add(to_done)
        return {
            "grabbed_to_commanded_ms": round(to_commanded / 1e6, 3),
            "grabbed_to_done_ms": round(to_done / 1e6, 3),
        }

    def _problem(self, text: str) -> str:
        self.last_problem = text
        return text

    def _settle(self, command: Command, fate: str, **more: Any) -> None:
        with self._lock:
            self.fates[fate] += 1
        self._log.add(command, fate, **more)

    def _count_drop(self, item: Command, cause: str) -> None:
        super()._count_drop(item, cause)
        self._settle(item, "dropped", error=cause)

    def outcome(self) -> dict[str, Any]:
        """Return what became of the commands, for the report."""
        return {
            **self.fates,
            "error": self.error or self.last_problem,
            "grabbed_to_commanded_ms": self.to_commanded.summary_ms(),
            "grabbed_to_done_ms": self.to_done.summary_ms(),
        }
