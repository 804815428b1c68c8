"""From the camera to the command, on Micro-Manager's own core with its demo camera.

``python -m benchmarks.live [--quick] [--minutes M] [--out FILE.json]``

Two runs of `streamtrack.session.Session`, 256x256 uint16, 9 ms exposure (about 100 frames/s), a rule that sets a device
property in every frame, armed:

- *pace*: an engine that takes no time (the brightest pixel is the particle), so that what is left is everything else:
  polling the core, queue, linker, trigger, rule, command, guard, the call into the core. Time is counted from the
  core's own stamp of the frame to the moment at which the actuator takes the command, and to its return.
- *slow engine*: the same engine, resting 30 ms with every frame. The run has to stay live: the frames that are
  processed are the newest, all others are counted, memory stays, and the core's buffer stays empty.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from pymmcore_plus import CMMCorePlus

from benchmarks.shared.record import command_line, command_parser, write
from streamtrack.bench.computer import describe, memory_mib
from streamtrack.config import RunConfig
from streamtrack.latency import percentiles
from streamtrack.power import switch_interval_s
from streamtrack.session import Session
from streamtrack.types import Detections, Frame, LostFrame, Pixels, SourceInfo
from streamtrack_drivers.micromanager import MicroManager, MicroManagerSource

SIZE_PX = 256
EXPOSURE_MS = 9.0
WARM_UP_FRAMES = 100
CAMERA = {
    "OnCameraCCDXSize": SIZE_PX,
    "OnCameraCCDYSize": SIZE_PX,
    "PixelType": "16bit",
    "Mode": "Fluorescent Beads",
    "BeadDensity": 20,
}
RUN = {
    "mode": "armed",
    "triggers": [
        {"kind": "nearest", "confirmed": False, "max_per_minute": 100_000, "do": "gain", "action": {"value": "1"}}
    ],
    "actuators": {"gain": {"kind": "property", "device": "Camera", "property": "Gain"}},
    "safety": {"properties": ["Camera.Gain"]},
    "sinks": [{"kind": "tables"}],
}


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = command_parser(__doc__, "six seconds in all")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of the run without an engine; the other has a tenth"
    )
    arguments = parser.parse_args()
    seconds = 5.0 if arguments.quick else 60 * arguments.minutes
    sys.setswitchinterval(switch_interval_s())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pace = measure(seconds, 0.0, Path(folder) / "pace")
        slow = measure(max(seconds / 10, 3.0), 0.030, Path(folder) / "slow")
    record = {
        "command": command_line("live"),
        "computer": describe(),
        "pace": pace,
        "slow engine": slow,
    }
    print(json.dumps({key: record[key] for key in ("pace", "slow engine")}, indent=2))
    write(record, arguments.out)


def measure(seconds: float, rest_s: float, folder: Path) -> dict[str, Any]:
    """Run for some time; return what came, what was lost, latencies and memory."""
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    for name, value in CAMERA.items():
        core.setProperty("Camera", name, value)
    with closing(MicroManager.around(core)) as microscope:
        frames = int(seconds * 1e3 / EXPOSURE_MS)
        camera = MicroManagerSource(microscope=microscope, exposure_ms=EXPOSURE_MS, frames=frames)
        source = Stamped(camera, frames)
        memory: list[float] = []
        session = Session(
            RunConfig.model_validate(RUN), folder, source=source, engine=BrightestPixel(rest_s), microscope=microscope
        )
        begun_s = time.monotonic()
        report = session.run(lambda progress: watch_memory(progress.processed, memory))
        took_s = time.monotonic() - begun_s
    core.unloadAllDevices()
    details = report["source"]["details"]
    return {
        "status": report["status"],
        "seconds": round(took_s, 1),
        "frames": {key: report["frames"][key] for key in ("in", "processed", "lost", "lost_by_cause")},
        "unaccounted": report["frames"]["in"] - report["frames"]["processed"] - report["frames"]["lost"],
        "frames_per_s": round(report["frames"]["in"] / took_s, 1),
        "commands": {key: value for key, value in report["outputs"]["actuators"]["gain"].items() if key != "error"},
        "core_to_python_ms": details["core_to_python_ms"],
        "core_to_command_ms": core_to_command_ms(source, folder, details["core_to_python_ms"]["p50"]),
        "stages_ms": report["latency_ms"],
        "most_frames_in_core_buffer": details["most_buffered_frames"],
        "memory_mib": {"first": memory[0], "middle": memory[len(memory) // 2], "last": memory[-1]},
    }


def watch_memory(processed: int, memory: list[float]) -> None:
    """Note the memory now and then, before the tables are made at the end."""
    if processed % WARM_UP_FRAMES == 1:
        memory.append(memory_mib()["now"] or float("nan"))


def core_to_command_ms(source: "Stamped", folder: Path, median_wait_ms: float) -> Mapping[str, float]:
    """Return percentiles of the time from the core's stamp of a frame to the command, warm-up left out.

    The core's stamps are known up to the moment at which their clock began; the median wait, which the source has
    measured, gives it.
    """
    rows = source.rows[: source.n]
    since_ns = rows["grabbed_ns"] - rows["time_s"] * 1e9
    wait_ms = (since_ns - np.median(since_ns)) / 1e6 + median_wait_ms
    waits = dict(zip(rows["index"].tolist(), wait_ms.tolist(), strict=True))
    lines = map(json.loads, (folder / "commands.jsonl").read_text(encoding="utf-8").splitlines())
    sent = [(line["frame"], line["grabbed_to_commanded_ms"]) for line in lines if line["fate"] == "sent"]
    return percentiles(np.array([ms + waits[index] for index, ms in sent if index >= WARM_UP_FRAMES]))


class Stamped:
    """A source that keeps the stamps of the frames of another."""

    def __init__(self, source: MicroManagerSource, n_frames: int) -> None:
        self._source = source
        self.rows = np.zeros(n_frames, [("index", np.int64), ("grabbed_ns", np.int64), ("time_s", np.float64)])
        self.n = 0

    @property
    def info(self) -> SourceInfo:
        """As the other's."""
        return self._source.info

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield the other's, and note the stamps."""
        for item in self._source.frames():
            if isinstance(item, Frame):
                self.rows[self.n] = item.index, item.grabbed_ns, item.time_s
                self.n += 1
            yield item

    def close(self) -> None:
        """Stop the camera."""
        self._source.close()


class BrightestPixel:
    """An engine that takes no time: the brightest pixel is the particle."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self.info: Mapping[str, Any] = {"backend": "numpy", "rest_ms": 1e3 * rest_s}

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Note the width."""
        self._width = shape[1]

    def reset(self) -> None:
        """Nothing is remembered."""

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, None]:
        """Return the brightest pixel."""
        if self._rest_s:
            time.sleep(self._rest_s)
        y, x = divmod(int(pixels.argmax()), self._width)
        one = np.ones(1, np.float32)
        return Detections(y * one, x * one, one, pixels[y, x] * one, 0.3 * one), None

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    main()
