"""Carries results to sinks and commands to actuators, one worker thread each, so that none of them stalls the loop."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from streamtrack.channel import Policy
from streamtrack.clock import Clock, monotonic_ns
from streamtrack.commands import ActuatorWorker, CommandLog
from streamtrack.config import Mode
from streamtrack.errors import SinkError
from streamtrack.protocols import Actuator, Sink, ToldReport
from streamtrack.types import FrameResult, SourceInfo
from streamtrack.workers import SinkWorker, Worker

ACTUATOR_FINISH_S = 10.0
"""How long actuators may take for the commands that wait when the run ends."""
LOG_FINISH_S = 10.0
"""How long the last lines of the command log may take."""


class Fanout:
    """The workers of all sinks and actuators of a run.

    Parameters
    ----------
    lossless
        Replay: a full sink makes the loop wait, so that every result is written. Live: the sink loses the result,
        and the loss is counted.
    mode
        Whether commands are only written down, rehearsed, or sent.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        actuators: Mapping[str, Actuator],
        *,
        lossless: bool,
        mode: Mode = "observe",
        clock: Clock = monotonic_ns,
    ) -> None:
        policy = Policy.BLOCK if lossless else Policy.DROP_NEWEST
        self._sinks = {name: SinkWorker(name, sink, policy) for name, sink in sinks.items()}
        self.log = CommandLog()
        self._actuators = {
            name: ActuatorWorker(name, actuator, mode, clock, self.log) for name, actuator in actuators.items()
        }

    def start(self, folder: Path, source: SourceInfo) -> None:
        """Open every sink, then start the workers; raises SinkError where a sink cannot open."""
        opened: list[Sink] = []
        try:
            for sink_worker in self._sinks.values():
                sink_worker.sink.open(folder, source)
                opened.append(sink_worker.sink)
        except OSError as error:
            raise SinkError(f"sink {sink_worker.name!r} cannot write into {folder}: {error}") from error
        finally:
            if len(opened) < len(self._sinks):
                for sink in opened:
                    sink.close()
        self.log.open(folder)
        for worker in self._workers():
            worker.start()

    def wants_denoised(self, frame_index: int) -> bool:
        """Return whether any sink needs this frame's denoised image."""
        return any(worker.sink.wants_denoised(frame_index) for worker in self._sinks.values())

    def publish(self, result: FrameResult) -> None:
        """Hand commands to their actuators, then the result to every sink."""
        for command in result.commands:
            if command.actuator in self._actuators:
                self._actuators[command.actuator].offer(command)
            else:
                self.log.add(command, "marked")  # for a sink, which sees the commands of each result
        for worker in self._sinks.values():
            worker.offer(result)

    def finish(self, timeout_s: float) -> None:
        """Let every worker finish what it was given: actuators, then sinks."""
        self.finish_actuators()
        self.finish_sinks(timeout_s)

    def finish_actuators(self) -> None:
        """Let every actuator carry out the commands that wait, and make its hardware safe."""
        self._finish(self._actuators.values(), ACTUATOR_FINISH_S)

    def finish_sinks(self, timeout_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Let every sink finish its files; in a hurry those that are not critical are left unfinished."""
        workers = self._sinks.values()
        self._finish([worker for worker in workers if worker.sink.critical], timeout_s)
        self._finish([worker for worker in workers if not worker.sink.critical], timeout_s, hurry)
        self.log.finish(LOG_FINISH_S)

    def _finish(
        self, workers: Iterable[Worker[Any]], timeout_s: float, leave: Callable[[], bool] = lambda: False
    ) -> None:
        end_s = time.monotonic() + timeout_s
        for worker in workers:
            worker.channel.close()
        for worker in workers:
            worker.finish(max(0.0, end_s - time.monotonic()), leave)

    def tell(self, report: Mapping[str, Any]) -> bool:
        """Tell the sinks that want to know how the run ended; return whether any of them failed at it."""
        told = [worker for worker in self._sinks.values() if isinstance(worker.sink, ToldReport) and not worker.error]
        failed = [worker for worker in told if worker.tell(report)]
        return bool(failed)

    def set_mode(self, mode: Mode) -> None:
        """Deal with commands as in another mode; those that wait are dropped. Waits for nothing."""
        for worker in self._actuators.values():
            worker.set_mode(mode)

    @property
    def busy(self) -> list[str]:
        """The actuators that are carrying out a command."""
        return [name for name, worker in self._actuators.items() if worker.is_executing]

    def halt(self) -> None:
        """Drop all commands that wait: none is sent from now on."""
        for worker in self._actuators.values():
            worker.channel.fail("stopped")

    def _workers(self) -> list[ActuatorWorker | SinkWorker]:
        return [*self._actuators.values(), *self._sinks.values()]

    @property
    def critical_failure(self) -> str | None:
        """What broke the run: the first critical sink that failed, or None."""
        for worker in self._sinks.values():
            if worker.sink.critical and worker.error:
                return f"sink {worker.name!r} failed: {worker.error}"
        return None

    def outcome(self) -> dict[str, Any]:
        """Return the counters of every sink and actuator, for the report."""
        return {
            "sinks": {name: worker.outcome() for name, worker in self._sinks.items()},
            "actuators": {name: worker.outcome() for name, worker in self._actuators.items()},
            "command_log": self.log.outcome(),
            "write_ms": {name: worker.busy.summary_ms() for name, worker in self._sinks.items()},
        }
