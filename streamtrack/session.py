"""One run from its configuration to its report: source thread -> ingest channel -> step -> fan-out.

Live runs and replays are the same code; only the channel's policy differs.
"""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streamtrack.channel import Channel, ChannelClosed, Policy, Put
from streamtrack.clock import monotonic_ns
from streamtrack.config import RunConfig
from streamtrack.errors import SinkError, SourceError, StreamtrackError
from streamtrack.fanout import Fanout
from streamtrack.garbage import frozen_gc
from streamtrack.interrupts import on_ctrl_c
from streamtrack.metrics.latency import LatencyHistogram
from streamtrack.parts import Given, build_parts
from streamtrack.protocols import Engine, FrameSource, Microscope, Sink
from streamtrack.report import LossLedger, Status, machine, versions, write_report
from streamtrack.run_folder import STOP_NAME, RunFolder
from streamtrack.step import Step
from streamtrack.types import Frame, FrameResult, LostFrame
from streamtrack.waiting import joined_within

QUEUED = {Policy.BLOCK: 8, Policy.LATEST: 2, Policy.DROP_NEWEST: 2}
"""Frames that may wait for the loop, unless the configuration says otherwise."""
POLL_S = 0.5
"""How often a waiting thread looks whether it should stop."""
WATCH_S = 0.05
"""How soon a stop file is seen and the microscope made safe."""
SAFE_TIMEOUT_S = 10.0
"""How long making the microscope safe may take."""
FINISH_TIMEOUT_S = 600.0
"""How long a sink may take to finish its files after the last frame."""
STAGES = ("read", "queue", "detect", "link", "decide", "total")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    processed: int
    lost: int
    n_frames: int | None


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
    ) -> None:
        self._run_folder = RunFolder(folder)
        self._run_folder.check(overwrite)
        self._config = config
        self._folder = folder
        self._parts = build_parts(config, Given(source, engine, microscope, sinks or {}))
        self._source, self._engine, self._linker = self._parts.source, self._parts.engine, self._parts.linker
        self._info = self._source.info
        self._ledger = LossLedger()
        self._latency = {stage: LatencyHistogram() for stage in STAGES}
        self._counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._stopped_by_user = threading.Event()
        self._fanout: Fanout | None = None
        self._last_frame = {"detections": 0, "tracks": 0}
        self._interrupted = False
        self._source_error: str | None = None
        self._traceback: str | None = None
        self._started = datetime.now(UTC)
        self._begun_s = time.monotonic()

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
        """Run to the end of the source or to Ctrl-C; return the report, which is also in ``report.json``.

        Errors in the middle of a run do not raise: the report's status is ``failed`` and its ``error`` says why. Raises
        StreamtrackError when the run cannot begin.
        """
        try:
            return self._run(on_progress)
        finally:
            self._parts.close()

    def _run(self, on_progress: Callable[[Progress], None]) -> dict[str, Any]:
        self._engine.prepare(self._info.shape, self._info.dtype)
        self._linker.prepare(self._info.shape)
        channel = self._make_channel()
        fanout = Fanout(
            self._parts.sinks,
            self._parts.actuators,
            lossless=self._policy is Policy.BLOCK,
            mode=self._config.mode,
        )
        self._fanout = fanout
        self._run_folder.clear()
        try:
            fanout.start(self._folder, self._info)
        except StreamtrackError:
            self._run_folder.clear()  # a sink that did open has left empty tables
            raise
        write_report(self._folder, self._report("running", None, {}))
        with on_ctrl_c(self.stop), frozen_gc(), self._watch(fanout):
            error = self._drive(channel, fanout, on_progress)
        self._make_safe()
        report = self._report(self._status(error), error, fanout.outcome())
        write_report(self._folder, report)
        return report

    @property
    def _policy(self) -> Policy:
        if self._config.ingest.policy != "auto":
            return Policy(self._config.ingest.policy)
        return Policy.LATEST if self._info.live else Policy.BLOCK

    def _make_channel(self) -> Channel[Frame]:
        def dropped(frame: Frame, cause: str) -> None:
            self._ledger.add(LostFrame(frame.index, cause))

        capacity = self._config.ingest.capacity or QUEUED[self._policy]
        return Channel(capacity, self._policy, dropped)

    def stop(self) -> None:
        """End the run early: the frame in hand is finished, what is decided is written, the status is ``interrupted``.

        No command is sent any more, and the microscope is made safe at once. Ctrl-C calls it during :meth:`run`, and so
        does a file named ``stop`` in the run's folder. May be called from any thread.
        """
        self._stopped_by_user.set()
        self._stop.set()

    @contextmanager
    def _watch(self, fanout: Fanout) -> Iterator[None]:
        """Look for the stop file, and make the microscope safe without waiting for the loop when the run is stopped."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                if (self._folder / STOP_NAME).exists():
                    self.stop()
                if self._stopped_by_user.is_set():
                    fanout.halt()
                    self._make_safe()
                    return

        watcher = threading.Thread(target=watch, name="streamtrack-safety", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            joined_within(watcher, SAFE_TIMEOUT_S)
            (self._folder / STOP_NAME).unlink(missing_ok=True)

    def _make_safe(self) -> None:
        if self._parts.guard is not None:
            self._parts.guard.make_safe()

    def _drive(self, channel: Channel[Frame], fanout: Fanout, on_progress: Callable[[Progress], None]) -> str | None:
        """Run source, loop and fan-out; return what went wrong. Every thread is ended and every sink closed."""
        reader = threading.Thread(target=self._read, args=(channel,), name="streamtrack-source", daemon=True)
        reader.start()
        error = None
        try:
            self._loop(channel, fanout, on_progress)
        except StreamtrackError as failure:
            error = str(failure)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
            self._traceback = traceback.format_exc()
        except KeyboardInterrupt:
            self._stop.set()
        interrupted = self._stop.is_set()
        self._shut_down(channel, fanout, reader, "interrupted" if interrupted else "the run ended")
        self._interrupted = interrupted
        return error or self._source_error or fanout.critical_failure

    def _status(self, error: str | None) -> Status:
        if error is not None:
            return "failed"
        if self._interrupted:
            return "interrupted"
        return "incomplete" if self._ledger.count else "completed"

    def _shut_down(self, channel: Channel[Frame], fanout: Fanout, reader: threading.Thread, cause: str) -> None:
        self._stop.set()
        channel.fail(cause)
        self._source.close()
        joined_within(reader, 10 * POLL_S)
        fanout.finish(FINISH_TIMEOUT_S)

    def _read(self, channel: Channel[Frame]) -> None:
        """Source thread: put every frame, note every lost one, and end the channel."""
        try:
            frames = iter(self._source.frames())
            while not self._stop.is_set():
                asked = monotonic_ns()
                item = next(frames, None)
                if item is None:
                    break
                self._latency["read"].add(monotonic_ns() - asked)
                self._counts["read"] += 1
                if isinstance(item, LostFrame):
                    self._ledger.add(item)
                else:
                    self._put(channel, item)
        except StreamtrackError as error:
            self._source_error = str(error)
        except Exception as error:
            self._source_error = f"the source failed: {type(error).__name__}: {error}"
        finally:
            channel.close()

    def _put(self, channel: Channel[Frame], frame: Frame) -> None:
        while channel.put(frame, POLL_S) is Put.TIMED_OUT:
            pass

    def _loop(self, channel: Channel[Frame], fanout: Fanout, on_progress: Callable[[Progress], None]) -> None:
        step = Step(self._engine, self._linker, self._parts.rules, fanout.wants_denoised)
        while (frame := self._next(channel)) is not None:
            try:
                result = step(frame)
            except BaseException as failure:
                self._ledger.add(LostFrame(frame.index, f"not processed: {type(failure).__name__}"))
                raise
            fanout.publish(result)
            self._count(result)
            if fanout.critical_failure:
                raise SinkError(fanout.critical_failure)
            on_progress(Progress(self._counts["processed"], self._ledger.count, self._info.n_frames))

    def _next(self, channel: Channel[Frame]) -> Frame | None:
        """Wait for a frame in short steps, so that Ctrl-C is heard on every platform."""
        stall_s = self._config.ingest.stall_timeout_s
        give_up_s = time.monotonic() + stall_s
        while not self._stop.is_set():
            try:
                return channel.get(POLL_S)
            except ChannelClosed:
                return None
            except TimeoutError:
                if time.monotonic() > give_up_s:
                    cure = "if that is normal raise ingest.stall_timeout_s"
                    raise SourceError(f"no frame from {self._info.name} for {stall_s:g} s; {cure}") from None
        return None

    def _count(self, result: FrameResult) -> None:
        counts, stamps, latency = self._counts, result.stamps, self._latency
        counts["processed"] += 1
        counts["detections"] += len(result.detections)
        if result.masked_pixels:
            counts["masked_pixels"] += result.masked_pixels
            counts["masked_frames"] += 1
        self._last_frame = {"detections": len(result.detections), "tracks": result.tracks.n_live}
        latency["queue"].add(stamps.dequeued - stamps.grabbed)
        latency["detect"].add(stamps.detected - stamps.dequeued)
        latency["link"].add(stamps.linked - stamps.detected)
        latency["decide"].add(stamps.decided - stamps.linked)
        latency["total"].add(stamps.decided - stamps.grabbed)

    def _report(self, status: Status, error: str | None, fanout: Mapping[str, Any]) -> dict[str, Any]:
        counts = self._counts
        write_ms = fanout.get("write_ms", {})
        return {
            "status": status,
            "error": error,
            "traceback": self._traceback,
            "source": asdict(self._source.info),
            "frames": {
                "expected": self._info.n_frames,
                **self._frames(),
                "lost_frames": self._ledger.as_list(),
                "with_masked_pixels": counts["masked_frames"],
                "masked_pixels": counts["masked_pixels"],
            },
            "detections": counts["detections"],
            "latency_ms": {
                **self._latencies(),
                **{f"write {name}": summary for name, summary in write_ms.items()},
            },
            "engine": dict(self._engine.info),
            "linker": dict(self._linker.info),
            "microscope": dict(self._parts.microscope.info) if self._parts.microscope else None,
            "rules": self._rules(),
            "safety": self._parts.guard.outcome() if self._parts.guard else None,
            "outputs": {key: value for key, value in fanout.items() if key != "write_ms"},
            "config": self._full_config(),
            "versions": versions(),
            "machine": machine(),
            "started": self._started.isoformat(timespec="seconds"),
            "duration_s": round(time.monotonic() - self._begun_s, 3),
        }

    def _frames(self) -> dict[str, Any]:
        counts, ledger = self._counts, self._ledger
        lost = {"lost": ledger.count, "lost_by_cause": ledger.by_cause()}
        return {"in": counts["read"], "processed": counts["processed"], **lost}

    def _latencies(self) -> dict[str, Any]:
        return {stage: histogram.summary_ms() for stage, histogram in self._latency.items()}

    def _rules(self) -> dict[str, Any]:
        return {rule.name: rule.outcome() for rule in self._parts.rules}

    def snapshot(self) -> dict[str, Any]:
        """Return how the run stands, from any thread: a part of the report, and what the last frame showed."""
        fanout = self._fanout
        return {
            "source": self._info.name,
            "mode": self._config.mode,
            "frames": self._frames(),
            "last_frame": dict(self._last_frame),
            "latency_ms": self._latencies(),
            "rules": self._rules(),
            "actuators": fanout.outcome()["actuators"] if fanout else {},
        }

    def _full_config(self) -> dict[str, Any]:
        """Return the run's configuration with every default spelled out."""
        return {**self._parts.tables, **self._config.model_dump(mode="json", include={"ingest", "safety", "mode"})}
