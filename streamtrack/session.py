"""One run from its configuration to its report: source thread -> ingest channel -> step -> fan-out.

Live runs and replays are the same code; only the channel's policy differs.
"""

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamtrack.actuators.guard import Guard
from streamtrack.calibrated import CalibratedSource
from streamtrack.channel import Channel, ChannelClosed, Policy, Put
from streamtrack.clock import monotonic_ns
from streamtrack.config import RunConfig
from streamtrack.control.control import Control
from streamtrack.errors import ConfigError, SinkError, SourceError, StreamtrackError, described
from streamtrack.fanout import Fanout
from streamtrack.garbage import frozen_gc
from streamtrack.interrupts import Stop
from streamtrack.parts import ReadyMade, build_parts, files_of
from streamtrack.power import awake
from streamtrack.protocols import Attending, Engine, FrameSource, Microscope, Sink
from streamtrack.report import ENDED, INTERRUPTED, REPORT_NAME, Status, failed
from streamtrack.resuming import Remembering, Resumption
from streamtrack.run_folder import KEPT_NAMES, RunFolder
from streamtrack.run_record import Progress, RunRecord
from streamtrack.step import Step
from streamtrack.stop_file import StopFile, unsafe
from streamtrack.stream_steps import StreamSteps
from streamtrack.types import Frame, FrameResult, LostFrame
from streamtrack.waiting import joined_within

QUEUED = {Policy.BLOCK: 8, Policy.LATEST: 2, Policy.DROP_NEWEST: 2}
"""Frames that may wait for the loop, unless the configuration says otherwise."""
UNKNOWN_STREAMS = 16
"""As many are reckoned with where nobody knows before how many there are."""
POLL_S = 0.5
"""How often a waiting thread looks whether it should stop."""
FINISH_TIMEOUT_S = 600.0
"""How long a sink may take to finish its files after the last frame."""


class Session:
    """A run, ready to go: every plug-in is built and its settings are checked.

    Parameters
    ----------
    config
        What to run.
    folder
        Where the results go. It is made if need be; one that holds results is refused with ConfigError unless
        ``overwrite``.
    source, engine, microscope
        Ready-made ones, in place of those of the configuration; the run closes source and engine, and leaves the
        microscope open.
    sinks
        Ready-made ones by name, besides those of the configuration.
    resume
        Whether to go on with the run that was broken off in the folder, if there is one.
    stop
        Requests to end the run, where they are heard already; by default they are heard during `run`. One that comes
        before raises KeyboardInterrupt.

    Attributes
    ----------
    control
        What may be changed while it runs.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        *,
        overwrite: bool = False,
        source: FrameSource | None = None,
        engine: Engine | None = None,
        microscope: Microscope | None = None,
        sinks: Mapping[str, Sink] | None = None,
        resume: bool = False,
        stop: Stop | None = None,
    ) -> None:
        if overwrite and resume:
            raise ConfigError("overwrite begins anew, resume goes on: give one of the two")
        self._config = config
        self._folder = folder
        self._stop = stop or Stop()
        self._guard: Guard | None = None
        self._run_folder = RunFolder(folder)
        stop_file = StopFile(folder, self._stop, self._safety)
        with ExitStack() as opened:
            opened.callback(self._run_folder.release)
            self._run_folder.lock()
            self._resumption = Resumption(folder) if resume else None
            if self._resumption is not None and self._resumption.report:
                overwrite = True  # by what is the same, and more
                self._run_folder.spared = (*KEPT_NAMES, REPORT_NAME)
            self._run_folder.check(overwrite)  # before any hardware is opened
            opened.enter_context(stop_file)
            with self._stop.breaks_off():
                self._parts = build_parts(config, ReadyMade(source, engine, microscope, sinks or {}), self._protect)
            opened.callback(self._parts.close)
            settings = config.source.settings.values() if config.source else ()
            self._run_folder.check(overwrite, files_of(self._parts.sinks), [self._parts.source.info.name, *settings])
            self._open = opened.pop_all()
        self.control = Control(config, self._parts, self._stop, folder)
        self._resumed = self._remembering()
        if self._resumed is not None:
            self._parts = replace(self._parts, engine=self._resumed)
        self._source, self._engine, self._linker = self._parts.source, self._parts.engine, self._parts.linker
        self._info = self._parts.info
        self._record = RunRecord(config, self._parts, self._run_folder, self.control)
        self._ended = threading.Event()
        self._fanout: Fanout | None = None
        self._interrupted = False
        self._source_error: str | None = None
        self._traceback: str | None = None

    @property
    def contradictions(self) -> Sequence[str]:
        """Where the settings contradict what the source says of its calibration, a line each."""
        return self._source.contradictions() if isinstance(self._source, CalibratedSource) else ()

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
        """Run to the end of the source or to Ctrl-C; return the report, which is also in ``report.json``.

        Errors in the middle of a run do not raise: the report's status is ``failed`` and its ``error`` says why. Raises
        StreamtrackError when the run cannot begin.
        """
        with self._stop, self._open:
            try:
                return self._run(on_progress)
            finally:
                self.control.close()
                self._make_safe()
                self._stop.settle()

    def _run(self, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        try:
            with self._stop.breaks_off():
                self._engine.prepare(self._info.shape, self._info.dtype)
                self._linker.prepare(self._info.shape)
                if self._resumption is not None:
                    self._resumption.check(self._info, self._record.full_config(), self._engine.info)
                    self._resumption.keep()
                for measure in self._parts.measures.values():
                    measure.prepare(self._info.shape, self._info.dtype)
        except KeyboardInterrupt:
            return self._stopped_early()
        fanout = self._start_fanout()
        paced = self._info.live or self._info.follow_s is not None
        with frozen_gc(), awake() if paced else nullcontext():
            error = self._drive(self._make_channel(), fanout, on_progress)
        if unsafe(self._safety()):
            self._make_safe()  # once more: a driver may have been busy
        error = "; ".join(filter(None, (*unsafe(self._safety()), self._stop.trouble, error))) or None
        report = self._end(error, fanout)
        if not self._stop.insists and self._run_folder.is_still_there() and fanout.tell(report):
            report = self._end(error, fanout)
        if self._resumption is not None and report["status"] in ("completed", "incomplete"):
            self._resumption.forget()
        late = self._caught(self._parts.close)
        return self._run_folder.end(failed(report, late)) if late else report

    def _end(self, error: str | None, fanout: Fanout) -> dict[str, Any]:
        return self._run_folder.end(self._record.report(self._status(error), error, fanout.outcome(), self._traceback))

    def _start_fanout(self) -> Fanout:
        lossless = self._policy is Policy.BLOCK
        fanout = Fanout(self._parts.sinks, self._parts.actuators, lossless=lossless, mode=self._config.mode)
        self._run_folder.begin(self._record.report("running", None, {}))
        for sink in self._parts.sinks.values():
            if isinstance(sink, Attending):
                sink.attend(self)
        try:
            fanout.start(self._folder, self._info)
        except BaseException:
            self._run_folder.roll_back()
            raise
        self._run_folder.commit()
        self.control.attach(fanout)
        self._fanout = fanout
        return fanout

    def _stopped_early(self) -> dict[str, Any]:
        """Return the report of a run that was stopped before its first frame; results of an earlier one stay."""
        report = self._record.report("interrupted", None, {})
        return report if self._run_folder.has_report else self._run_folder.end(report)

    def _remembering(self) -> Remembering | None:
        if self._resumption is None:
            return None
        return Remembering(self._parts.engine, self._resumption, self._parts.area)

    @property
    def _policy(self) -> Policy:
        if self._config.ingest.policy != "auto":
            return Policy(self._config.ingest.policy)
        return Policy.LATEST if self._info.live else Policy.BLOCK

    def _make_channel(self) -> Channel[Frame]:
        streams = self._info.streams
        n_streams = 1 if streams is None else len(streams) or UNKNOWN_STREAMS  # they come in turn, one close on another
        capacity = self._config.ingest.capacity or QUEUED[self._policy] * n_streams
        return Channel(capacity, self._policy, self._record.lose)

    def stop(self) -> None:
        """End the run early: the frame in hand is finished, what is decided is written, the status is ``interrupted``.

        No command is sent any more, and the microscope is made safe at once. Ctrl-C and the other signals that end
        programs do the same during :meth:`run`, and so does a file named ``stop`` in the run's folder. May be called
        from any thread.
        """
        self._stop.request()

    def snapshot(self) -> dict[str, Any]:
        """Return how the run stands, from any thread: a part of the report, and what the last frame showed."""
        fanout = self._fanout
        return {
            **self._record.snapshot(),
            "actuators": fanout.outcome()["actuators"] if fanout else {},
            "stopping": self._safety() if self._stop.is_safe else None,
        }

    def _protect(self, guard: Guard) -> None:
        self._guard = guard
        self._stop.on_request(guard.make_safe)

    def _make_safe(self) -> None:
        if self._guard is not None:
            self._guard.make_safe()

    def _safety(self) -> dict[str, Any]:
        return self._guard.outcome() if self._guard is not None else {}

    def _drive(self, channel: Channel[Frame], fanout: Fanout, on_progress: Callable[[Progress], None]) -> str | None:
        """Run source, loop and fan-out; return what went wrong. Every thread is ended and every sink closed."""

        def break_off() -> None:
            self._ended.set()
            channel.fail(INTERRUPTED)
            fanout.halt()

        reader = threading.Thread(target=self._read, args=(channel,), name="streamtrack-source", daemon=True)
        reader.start()
        self._stop.on_request(break_off)
        error = self._caught(lambda: self._loop(channel, fanout, on_progress))
        self._interrupted |= self._stop.asked
        error = error or self._source_error
        late = self._shut_down(channel, fanout, reader)
        return error or self._source_error or late or fanout.critical_failure

    def _shut_down(self, channel: Channel[Frame], fanout: Fanout, reader: threading.Thread) -> str | None:
        """End every thread and close every sink, whatever goes wrong meanwhile; return that.

        The light goes off before the files are finished.
        """
        self._ended.set()
        self.control.close()
        channel.fail(INTERRUPTED if self._interrupted else ENDED)
        steps: tuple[Callable[[], object], ...] = (
            fanout.finish_actuators,
            self._make_safe,
            self._source.close,
            lambda: joined_within(reader, 10 * POLL_S),
            lambda: fanout.finish_sinks(FINISH_TIMEOUT_S, lambda: self._stop.insists),
        )
        errors = [self._caught(step) for step in steps]
        return next(filter(None, errors), None)

    def _caught(self, call: Callable[[], object]) -> str | None:
        """Return the error of a call in one line, None if there was none."""
        try:
            call()
        except StreamtrackError as failure:
            return str(failure)
        except KeyboardInterrupt:
            self._interrupted = True
        except BaseException as failure:  # sys.exit() in a plug-in is an error of that plug-in
            self._traceback = traceback.format_exc()
            return described(failure)
        return None

    def _status(self, error: str | None) -> Status:
        if error is not None:
            return "failed"
        if self._interrupted:
            return "interrupted"
        return "incomplete" if self._record.n_lost else "completed"

    def _read(self, channel: Channel[Frame]) -> None:
        """Source thread: put every frame, note every lost one, and end the channel."""
        record = self._record
        try:
            frames = iter(self._source.frames())
            while not self._ended.is_set():
                asked = monotonic_ns()
                item = next(frames, None)
                if item is None:
                    break
                record.count_read(monotonic_ns() - asked)
                if isinstance(item, LostFrame):
                    record.lose(item, item.cause)
                else:
                    self._put(channel, item)
        except StreamtrackError as error:
            self._source_error = str(error)
        except BaseException as error:
            self._source_error = f"the source failed: {described(error)}"
        finally:
            channel.close()

    def _put(self, channel: Channel[Frame], frame: Frame) -> None:
        while channel.put(frame, POLL_S) is Put.TIMED_OUT:
            pass

    def _loop(self, channel: Channel[Frame], fanout: Fanout, on_progress: Callable[[Progress], None]) -> None:
        record, control = self._record, self.control
        mailbox = control.mailbox
        step = self._make_step(fanout)
        while (frame := self._next(channel)) is not None:
            if mailbox.asked:
                control.answer(frame)
            try:
                result = step(frame)
            except BaseException as failure:
                record.lose(frame, f"not processed: {type(failure).__name__}")
                raise
            fanout.publish(result)
            record.count(result)
            control.last = result
            if fanout.critical_failure:
                raise SinkError(fanout.critical_failure)
            on_progress(record.progress)

    def _make_step(self, fanout: Fanout) -> Callable[[Frame], FrameResult]:
        parts, wants_denoised = self._parts, fanout.wants_denoised
        if self._info.streams is not None:
            steps = StreamSteps(self._config, parts, wants_denoised, self.control.begun)
            self.control.of_several(steps.rules, steps.engines)
            self._record.of_several(steps)
            return steps
        return Step(
            self._engine,
            self._linker,
            parts.rules,
            wants_denoised,
            measures=parts.measures,
            area=parts.area,
            stage=parts.stage_watch(),
        )

    def _next(self, channel: Channel[Frame]) -> Frame | None:
        """Wait for a frame in short steps, so that Ctrl-C is heard on every platform."""
        stall_s = self._config.ingest.stall_timeout_s + (self._info.follow_s or 0.0)
        give_up_s = time.monotonic() + stall_s
        while not self._ended.is_set():
            try:
                return channel.get(POLL_S)
            except ChannelClosed:
                return None
            except TimeoutError:
                if self.control.mailbox.asked:
                    self.control.answer(None)
                if time.monotonic() > give_up_s:
                    cure = "if that is normal raise ingest.stall_timeout_s"
                    raise SourceError(f"no frame from {self._info.name} for {stall_s:g} s; {cure}") from None
        return None
