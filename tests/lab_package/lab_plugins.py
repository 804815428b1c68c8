"""A lab's own plug-ins, as small as they can be, with faults that can be switched on."""

import threading
import time
from typing import Literal

import numpy as np

from streamtrack.clock import monotonic_ns
from streamtrack.errors import EngineError, SourceError
from streamtrack.types import Detections, Event, Frame, LostFrame, SourceInfo


class LabCamera:
    """Two bright pixels, one of which moves a pixel a frame."""

    def __init__(
        self,
        *,
        frames: int = 20,
        lost_at: int | None = None,
        nan_at: int | None = None,
        fail_at: int | None = None,
        silent_at: int | None = None,
        live: bool = False,
        pause_s: float = 0.0,
    ) -> None:
        self.info = SourceInfo("lab-camera", (48, 64), "float32", frames, live=live)
        self._lost_at, self._nan_at, self._fail_at, self._silent_at = lost_at, nan_at, fail_at, silent_at
        self._pause_s = pause_s
        self._closed = threading.Event()

    def frames(self):
        for index in range(self.info.n_frames):
            if self._closed.wait(self._pause_s):
                return
            if index == self._fail_at:
                raise SourceError("the cable is out; plug it in")
            if index == self._silent_at:
                self._closed.wait(60)
                return
            if index == self._lost_at:
                yield LostFrame(index, "the shutter stuck")
                continue
            pixels = np.zeros((48, 64), np.float32)
            pixels[10, 10] = pixels[30, 5 + index % 50] = 100
            if index == self._nan_at:
                pixels[0, :3] = np.nan
            yield Frame(index, pixels, monotonic_ns(), float(index))

    def close(self):
        self._closed.set()


class AbcMovie:
    """A movie in the lab's own format: numpy's, under another name."""

    def __init__(self, *, path: str) -> None:
        self._movie = np.load(path, mmap_mode="r")
        self.info = SourceInfo(
            path, self._movie.shape[1:], self._movie.dtype.name, len(self._movie), frame_interval_s=1
        )

    @staticmethod
    def opens(path: str) -> bool:
        return path.endswith((".abc", "lab.tif"))

    def frames(self):
        for index, pixels in enumerate(self._movie):
            yield Frame(index, np.array(pixels), monotonic_ns(), float(index))

    def close(self):
        pass


class BrightestPixels:
    """Every pixel above the threshold is a particle."""

    def __init__(
        self,
        *,
        threshold: float = 50.0,
        fail_at: int | None = None,
        pause_s: float = 0.0,
        dtype: str = "float32",
        remark: str = "",
    ) -> None:
        self._threshold, self._fail_at, self._pause_s, self._dtype = threshold, fail_at, pause_s, dtype
        self._remark = remark
        self.info = {"backend": "numpy"}
        self.calls = 0
        self.in_a_row = 0

    def prepare(self, shape, dtype):
        if dtype != self._dtype:
            raise EngineError(f"cannot take {dtype}")

    def reset(self):
        self.in_a_row = 0

    def detect(self, pixels, *, denoise):
        if self.calls == self._fail_at:
            raise ValueError("a bug in the lab's engine")
        self.calls += 1
        self.in_a_row += 1
        time.sleep(self._pause_s)
        y, x = np.nonzero(pixels > self._threshold)
        score = np.ones(len(y), np.float32)
        found = Detections(
            y.astype(np.float32), x.astype(np.float32), score, pixels[y, x].astype(np.float32), 0.5 * score
        )
        return found, pixels.astype(np.float32) if denoise else None

    def remarks(self):
        if self._remark == "fail":
            raise MemoryError("no room for a remark")
        return [self._remark] if self._remark else []

    def close(self):
        pass


class EveryFrame:
    """Sees something in every frame."""

    def prepare(self, source):
        pass

    def check(self, frame, tracks):
        return [Event(values={"tracks": len(tracks)})]


class Notebook:
    """Writes down what it was told to do, in a file, so that a test can read it."""

    rehearses = False

    def __init__(self, *, path: str, fail: bool = False, pause_s: float = 0.0) -> None:
        self._path, self._fail, self._pause_s = path, fail, pause_s

    def prepare(self, source, actions):
        pass

    def execute(self, command):
        time.sleep(self._pause_s)
        if self._fail:
            raise OSError("the stage does not answer")
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{command.frame_index}\n")
        return {"written": command.frame_index}

    def close(self):
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("safe\n")


class Diary:
    """Writes the index of each frame into a file."""

    critical = True
    files = ("diary.txt",)

    def open(self, folder, source):
        self._file = (folder / "diary.txt").open("x", encoding="utf-8", newline="\n")

    def wants_denoised(self, frame_index):
        return False

    def write(self, result):
        self._file.write(f"{result.frame.index}\n")

    def flush(self):
        self._file.flush()

    def close(self):
        self._file.close()


class Memory:
    """Keeps what it is given in a list that the test reads, and fails on demand."""

    files = ()
    kept: list = []  # noqa: RUF012
    closed = 0

    def __init__(
        self,
        *,
        critical: bool = True,
        fail_in: Literal["no", "open", "write", "close"] = "no",
        pause_s: float = 0.0,
        denoised: bool = False,
    ) -> None:
        self.critical, self._fail_in, self._pause_s, self._denoised = critical, fail_in, pause_s, denoised
        Memory.kept, Memory.closed = [], 0

    def open(self, folder, source):
        self._maybe_fail("open")

    def wants_denoised(self, frame_index):
        return self._denoised

    def write(self, result):
        self._maybe_fail("write")
        time.sleep(self._pause_s)
        Memory.kept.append(result)

    def flush(self):
        self._maybe_fail("flush")

    def close(self):
        Memory.closed += 1
        self._maybe_fail("close")

    def _maybe_fail(self, stage):
        if self._fail_in == stage:
            raise OSError(f"disk full in {stage}")
