"""A lab's microscope, engine and sink that take their time, for stopping a run at the worst moments."""

import hashlib
import time
from pathlib import Path

import numpy as np

from streamtrack.errors import MicroscopeError
from streamtrack.types import Detections
from streamtrack_drivers.micromanager.core import MicroManager


def note(stamps, what):
    with stamps.open("a", encoding="utf-8") as file:
        file.write(f"{what} {time.monotonic_ns()}\n")


class StampedMicroscope(MicroManager):
    """Micro-Manager's demo devices with a slow stage; notes in a file what was done when, by the monotonic clock."""

    def __init__(self, *, stamps: Path, stuck: bool = False) -> None:
        super().__init__(config=Path("MMConfig_demo.cfg"))
        self.core.setProperty("XY", "Velocity", "0.1")
        self._stamps, self._stuck = stamps, stuck

    def set_shutter(self, device, opened):
        if self._stuck:
            raise MicroscopeError("the shutter is stuck")
        super().set_shutter(device, opened)
        note(self._stamps, "opened" if opened else "closed")

    def move_stage_um(self, x, y):
        note(self._stamps, "moving")
        super().move_stage_um(x, y)

    def halt(self):
        super().halt()
        note(self._stamps, "halted")


class SlowStart:
    """Finds nothing, after a compilation in a C call that no signal interrupts."""

    def __init__(self, *, stamps: Path, rounds: int = 1) -> None:
        self._stamps, self._rounds = stamps, rounds
        self.info = {"backend": "hashlib"}

    def prepare(self, shape, dtype):
        note(self._stamps, "compiling")
        hashlib.pbkdf2_hmac("sha256", b"engine", b"plan", self._rounds)

    def reset(self):
        pass

    def detect(self, pixels, *, denoise):
        none = np.zeros(0, np.float32)
        return Detections(none, none, none, none, none), None

    def close(self):
        pass


class SlowEnd:
    """Keeps nothing, and takes its time to finish."""

    files = ()

    def __init__(self, *, close_s: float = 0.0, critical: bool = True) -> None:
        self.critical, self._close_s = critical, close_s

    def open(self, folder, source):
        pass

    def wants_denoised(self, frame_index):
        return False

    def write(self, result):
        pass

    def flush(self):
        pass

    def close(self):
        time.sleep(self._close_s)
