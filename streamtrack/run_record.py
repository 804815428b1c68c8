"""What a run has done so far: frames, losses, latencies, rules; and the report that says so."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from streamtrack.calibrated import CALIBRATIONS
from streamtrack.clock import monotonic_ns
from streamtrack.columns import measures_depth
from streamtrack.config import RunConfig
from streamtrack.control.control import Control
from streamtrack.errors import described
from streamtrack.latency import LatencyHistogram
from streamtrack.parts import Parts
from streamtrack.protocols import Remarking
from streamtrack.report import NO_DEPTH, NO_INTERVAL, LossLedger, Status, machine, versions
from streamtrack.run_folder import RunFolder
from streamtrack.stream_steps import StreamSteps
from streamtrack.types import Frame, FrameResult, LostFrame, Stamps, Stream

STAGES = ("read", "queue", "detect", "link", "measure", "decide", "total")
"""Of frames that come at their own pace, ``total`` being from the camera to the decision."""
STAGES_ON_DISK = ("read", "detect", "link", "measure", "decide", "work")
"""Of a movie on disk, whose frames are read ahead: how long one waits there says nothing."""
STAGES_WRITTEN = ("noticed", "tracked")
"""Besides, of a movie that is followed: from when a frame was written until its pixels are there, and the decision.

Of frames that were written while it ran; others were waiting.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    processed: int
    lost: int
    n_frames: int | None


class RunRecord:
    """Keeps the books of one run.

    The source's thread calls `count_read`, the loop `count`; the others may be called from any thread.

    Parameters
    ----------
    config, parts
        What runs.
    run_folder
        Where it writes.
    control
        What was changed meanwhile.
    """

    def __init__(self, config: RunConfig, parts: Parts, run_folder: RunFolder, control: Control) -> None:
        self._config, self._parts, self._run_folder, self._control = config, parts, run_folder, control
        self._info = parts.info
        self._ledger = LossLedger()
        written = () if parts.info.follow_s is None else STAGES_WRITTEN
        stages = (*(STAGES if parts.info.live else STAGES_ON_DISK), *written)
        self._latency = {stage: LatencyHistogram() for stage in stages if stage != "measure" or parts.measures}
        self._counts: Counter[str] = Counter()
        self._last_frame = {"detections": 0, "tracks": 0}
        self._steps: StreamSteps | None = None
        self._streams: defaultdict[Stream, _StreamRecord] = defaultdict(_StreamRecord)
        self._asked_ns = 0
        """When the source was asked for its first frame."""
        self._started = datetime.now(UTC)
        self._begun_s = time.monotonic()

    def count_read(self, took_ns: int) -> None:
        """Count a frame that the source gave, be it a lost one, and how long it took."""
        if not self._counts["read"]:
            self._asked_ns = monotonic_ns() - took_ns
        self._latency["read"].add(took_ns)
        self._counts["read"] += 1

    def lose(self, frame: Frame | LostFrame, cause: str) -> None:
        """Note a frame that is not processed."""
        self._ledger.add(LostFrame(frame.index, cause, frame.stream))

    def count(self, result: FrameResult) -> None:
        """Count a frame that is processed."""
        counts, stamps, latency = self._counts, result.stamps, self._latency
        counts["processed"] += 1
        counts["detections"] += len(result.detections)
        if result.masked_pixels:
            counts["masked_pixels"] += result.masked_pixels
            counts["masked_frames"] += 1
        self._last_frame = {"detections": len(result.detections), "tracks": result.tracks.n_live}
        counts["work_ns"] += stamps.decided - stamps.dequeued
        if "queue" in latency:
            latency["queue"].add(stamps.dequeued - stamps.grabbed)
        latency["detect"].add(stamps.detected - stamps.dequeued)
        latency["link"].add(stamps.linked - stamps.detected)
        if "measure" in latency:
            latency["measure"].add(stamps.measured - stamps.linked)
        latency["decide"].add(stamps.decided - stamps.measured)
        stage, began = whole(self._info.live, stamps)
        latency[stage].add(stamps.decided - began)
        if result.frame.written_ns is not None and result.frame.written_ns >= self._asked_ns and "tracked" in latency:
            latency["noticed"].add(stamps.grabbed - result.frame.written_ns)
            latency["tracked"].add(stamps.decided - result.frame.written_ns)
        if self._steps is not None:
            self._streams[result.frame.stream].add(result, self._info.live)

    def of_several(self, steps: StreamSteps) -> None:
        """Say that the run has several streams."""
        self._steps = steps

    @property
    def n_lost(self) -> int:
        """Frames lost so far."""
        return self._ledger.count

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return Progress(self._counts["processed"], self._ledger.count, self._info.n_frames)

    def report(
        self, status: Status, error: str | None, outcome: Mapping[str, Any], traceback: str | None = None
    ) -> dict[str, Any]:
        """Return the report as it is now; ``outcome`` is the fan-out's."""
        counts, parts = self._counts, self._parts
        write_ms = outcome.get("write_ms", {})
        return {
            "status": status,
            "error": error,
            "traceback": traceback,
            "remarks": [*_of_sinks(outcome.get("sinks", {})), *self._remarks()],
            "source": self._source(),
            "frames": {
                "expected": self._info.n_frames,
                **self._frames(),
                **self._ledger.as_ranges(),
                "with_masked_pixels": counts["masked_frames"],
                "masked_pixels": counts["masked_pixels"],
            },
            "frames_per_second": round(1e9 * counts["processed"] / max(counts["work_ns"], 1), 3),
            "detections": counts["detections"],
            **({"streams": self._of_streams()} if self._steps is not None else {}),
            "latency_ms": {
                **self._latencies(),
                **{f"write {name}": summary for name, summary in write_ms.items()},
            },
            "engine": dict(parts.engine.info),
            "linker": dict(parts.linker.info),
            "measures": {kind: dict(measure.info) for kind, measure in parts.measures.items()},
            "microscope": dict(parts.microscope.info) if parts.microscope else None,
            "rules": self._rules(),
            "safety": (parts.guard.outcome() if parts.guard else None) or None,
            **self._control.changes.outcome(),
            "files": list(self._run_folder.files),
            "outputs": {key: value for key, value in outcome.items() if key != "write_ms"},
            "config": self.full_config(),
            "versions": versions(),
            "machine": machine(),
            "started": self._started.isoformat(timespec="seconds"),
            "duration_s": round(time.monotonic() - self._begun_s, 3),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return how the run stands: a part of the report, and what the last frame showed."""
        guard = self._parts.guard
        return {
            "source": self._info.name,
            "frames": self._frames(),
            "last_frame": dict(self._last_frame),
            "latency_ms": self._latencies(),
            "rules": self._rules(),
            "light": guard.light() if guard is not None else None,
            "stage_um": self._stage_um(),
            "reach_px": self._reach_px(),
            **self._control.snapshot(),
        }

    def _stage_um(self) -> tuple[float, float] | None:
        """Return where the stage went last, x and y; None where the run does not know."""
        moves = self._parts.stage_moves
        known = (math.nan, math.nan) if moves is None else moves.recent[-1].to_um
        return None if math.isnan(known[0]) else known

    def _reach_px(self) -> list[tuple[float, float]] | None:
        """Return the part of the image, four corners y, x, that the stage may bring to its middle; None: unknown."""
        here, safety, moves = self._stage_um(), self._config.safety, self._parts.stage_moves
        if here is None or moves is None or (safety.x_um is None and safety.y_um is None):
            return None
        y, x = ((size - 1) / 2 for size in self._info.shape)
        corners = moves.reach_px(safety.x_um or (here[0],) * 2, safety.y_um or (here[1],) * 2)
        return None if corners is None else [(y + dy, x + dx) for dy, dx in corners]

    def _source(self) -> dict[str, Any]:
        """Return what the source says by now, and what the run measures."""
        measured = {name: getattr(self._info, name) for name in ("columns", "frame_columns", "image")}
        return asdict(replace(self._parts.source.info, **measured))

    def _remarks(self) -> list[str]:
        """Return what a reader of the results has to know."""
        no_interval = [NO_INTERVAL] if self._info.time_unit == "frame" else []
        area = [str(self._parts.area)] if self._parts.area is not None else []
        is_flat = measures_depth(self._parts.engine) and self._info.pixel_size_um is None
        no_depth = [NO_DEPTH] if is_flat else []
        return [*self._run_folder.remarks(), *area, *self._plugin_remarks(), *no_interval, *no_depth]

    def _plugin_remarks(self) -> Iterator[str]:
        said = [*_remarks_of("source", self._parts.source)]
        engines = [self._parts.engine, *(self._steps.engines.values() if self._steps else ())]
        for engine in dict.fromkeys(engines):
            said += _remarks_of("engine", engine)
        for kind, sink in self._parts.sinks.items():
            said += _remarks_of(f"sink {kind}", sink)
        yield from dict.fromkeys(said)

    def _of_streams(self) -> list[dict[str, Any]]:
        """Return what became of each stream, and what it costs."""
        engines = self._steps.engines if self._steps is not None else {}
        return [
            {**asdict(stream), "engine_memory_bytes": getattr(engines.get(stream), "memory_bytes", None), **seen.said()}
            for stream, seen in sorted(self._streams.items(), key=lambda item: str(item[0]))
        ]

    def _frames(self) -> dict[str, Any]:
        counts, ledger = self._counts, self._ledger
        lost = {"lost": ledger.count, "lost_by_cause": ledger.by_cause()}
        return {"in": counts["read"], "processed": counts["processed"], **lost}

    def _latencies(self) -> dict[str, Any]:
        return {stage: histogram.summary_ms() for stage, histogram in self._latency.items()}

    def _rules(self) -> dict[str, Any]:
        if self._steps is None:
            return {rule.name: rule.outcome() for rule in self._parts.rules}
        outcomes: dict[str, dict[str, Any]] = {}
        for rule in self._steps.rules:
            one = rule.outcome()
            before = outcomes.get(rule.name, {})
            outcomes[rule.name] = {
                key: before[key] + value if before and key not in _TOLD else value for key, value in one.items()
            }
        return outcomes

    def full_config(self) -> dict[str, Any]:
        """Return the run's configuration with every default spelled out."""
        config = self._config
        mask = None if config.mask is None else str(config.folder / config.mask)
        known = config.model_dump(mode="json", include={"ingest", "safety", "mode", "roi", *CALIBRATIONS})
        drawn = {} if mask is None or self._parts.area is None else {"mask_crc32": self._parts.area.crc32}
        return {**self._parts.tables, **known, "mask": mask, **drawn}


_TOLD = ("last_error", "switched_off", "last_fired_frame", "paused")
"""Of a rule's outcome, what cannot be summed over streams: that of the last one is told."""


def whole(live: bool, stamps: Stamps) -> tuple[str, int]:
    """Return what the time of a whole frame is called, and the stamp that it begins with."""
    return ("total", stamps.grabbed) if live else ("work", stamps.dequeued)


class _StreamRecord:
    """Counts of one stream."""

    def __init__(self) -> None:
        self._processed = self._detections = 0
        self._latency: defaultdict[str, LatencyHistogram] = defaultdict(LatencyHistogram)

    def add(self, result: FrameResult, live: bool) -> None:
        stamps = result.stamps
        self._processed += 1
        self._detections += len(result.detections)
        self._latency["detect"].add(stamps.detected - stamps.dequeued)
        stage, began = whole(live, stamps)
        self._latency[stage].add(stamps.decided - began)

    def said(self) -> dict[str, Any]:
        latency = {stage: histogram.summary_ms() for stage, histogram in self._latency.items()}
        return {"processed": self._processed, "detections": self._detections, "latency_ms": latency}


def _of_sinks(outcomes: Mapping[str, Any]) -> Iterator[str]:
    """Yield what sinks without which a run is complete did not write; of the others the run's error speaks."""
    for name, outcome in outcomes.items():
        if outcome["error"] and not outcome["critical"]:
            yield f"the sink {name!r} failed: {outcome['error']}"
        elif outcome["dropped"] and not outcome["error"]:
            yield f"the sink {name!r} was too slow: results of {outcome['dropped']} frames are missing in what it wrote"


def _remarks_of(name: str, plugin: object) -> Iterator[str]:
    try:
        yield from plugin.remarks() if isinstance(plugin, Remarking) else ()
    except Exception as error:  # the report is worth more
        yield f"the {name} failed to say what it remarks: {described(error)}"
