"""Frames of a camera that a Micro-Manager core in this process drives."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from threading import Event
from typing import Annotated, Literal

from pydantic import Field

from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, MicroscopeError, SourceError
from streamtrack.latency import LatencyHistogram
from streamtrack.protocols import Microscope
from streamtrack.settings import NotNegative, Positive, checks_settings
from streamtrack.types import Frame, LostFrame, SourceInfo
from streamtrack_drivers.micromanager.camera import CameraSettings, set_up
from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.image_format import ImageFormat, image_format
from streamtrack_drivers.micromanager.numbering import FrameCounter
from streamtrack_drivers.micromanager.sequence import CameraSequence, Image, Trouble

SHORTEST_NAP_S, LONGEST_NAP_S = 0.00005, 0.005
"""Between two looks for a frame; Windows makes at least 0.5 ms of it, Linux adds some 0.05 ms."""
LOOK_AFTER_S = 0.05
"""A camera that is late is looked after so often."""
MOST_BUFFER_MB = 16384

LOST = {
    "numbers": "missing in the core's image numbers",
    "cleared": "camera buffer cleared: number estimated from the time",
    "overflows": "camera buffer overflowed: number estimated from the time",
    "stops": "the camera stopped by itself: number estimated from the time",
    "stalls": "the camera sent nothing: number estimated from the time",
}


@checks_settings
class MicroManagerSource:
    """A continuous sequence of the core's camera, every frame handed over as soon as the core has it.

    The core stops the camera when its buffer is full and never overwrites. It does not fill up as long as frames are
    taken: what a live run cannot process is dropped, and counted, by the run's own queue.

    ``Frame.time_s`` is when the core received the frame, by the computer's clock, from the start on: the
    ``ElapsedTime-ms`` of most cameras is made up by the core and no better. How long frames waited in the buffer is in
    ``info.details["core_to_python_ms"]``.

    Parameters
    ----------
    microscope
        The run's ``[microscope]`` of kind ``micromanager``.
    camera
        Device label; by default the one with the role ``Core-Camera``. Needed where several cameras are bundled.
    presets
        Configuration groups to set first: ``{ Channel = "FITC" }``.
    binning
        2 for 2 x 2.
    roi
        x, y, width, height in binned pixels, as in Micro-Manager.
    exposure_ms
        By default what the camera has.
    buffer_mb
        Size of the core's buffer.
    frames
        Length; open-ended by default.
    on_stop
        What follows when the buffer overflows, or the camera stops by itself or sends nothing: ``fail`` or
        ``restart`` the sequence; the frames in between count as lost.
    max_restarts
        In one run.
    timeout_s
        A camera that is silent for so long, and three exposures, sends nothing.

    Raises
    ------
    ConfigError
        A value is out of range, or the microscope is of another kind.
    SourceError
        The camera refuses a setting, or its images cannot be tracked.
    """

    def __init__(
        self,
        *,
        microscope: Microscope,
        camera: str | None = None,
        presets: dict[str, str] | None = None,
        binning: Annotated[int, Field(ge=1)] | None = None,
        roi: tuple[int, int, int, int] | None = None,
        exposure_ms: NotNegative | None = None,
        buffer_mb: Annotated[int, Field(ge=1, le=MOST_BUFFER_MB)] = 128,
        frames: Annotated[int, Field(ge=1)] | None = None,
        on_stop: Literal["fail", "restart"] = "fail",
        max_restarts: Annotated[int, Field(ge=0)] = 10,
        timeout_s: Positive = 5.0,
    ) -> None:
        if not isinstance(microscope, MicroManager):
            raise ConfigError("the source 'micromanager' needs a [microscope] of kind 'micromanager'")
        self._microscope = microscope
        self._n_frames = frames
        self._max_restarts = max_restarts if on_stop == "restart" else 0
        self._timeout_s = timeout_s
        self._camera = set_up(microscope, CameraSettings(camera, presets or {}, binning, roi, exposure_ms, buffer_mb))
        self._sequence = CameraSequence(microscope)
        self._closed = Event()
        self._counts: Counter[str] = Counter()
        self._most_buffered = 0
        self._waited = LatencyHistogram()

    @property
    def info(self) -> SourceInfo:
        """Camera and image; ``details``: settings, what went wrong so far, and how long frames waited."""
        camera = self._camera
        details = {
            **camera.settings,
            **{kind: self._counts[kind] for kind in ("restarts", "overflows", "stops", "stalls", "clock_jumps")},
            "most_buffered_frames": self._most_buffered,
            "core_to_python_ms": self._waited.summary_ms(),
        }
        if self._sequence.stop_error:
            details["stop_error"] = self._sequence.stop_error
        return SourceInfo(
            name=camera.label,
            shape=camera.format.shape,
            dtype=camera.format.dtype,
            n_frames=self._n_frames,
            live=True,
            pixel_size_um=camera.pixel_size_um,
            clock="host",
            details=details,
        )

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Start the camera and yield its frames; raises SourceError when it cannot go on."""
        self._counter = FrameCounter(max(self._camera.settings["exposure_ms"] * 1e-3, LONGEST_NAP_S))
        self._start_ns = self._last_ns = self._looked_ns = monotonic_ns()
        self._time_s = -math.inf
        self._estimate = LOST["cleared"]
        self._sequence.start(self._n_frames)
        try:
            while not self._closed.is_set() and self._missing() != 0:
                image = self._sequence.pop()
                if image is None:
                    self._wait()
                else:
                    yield from self._take(image)
        finally:
            self._sequence.stop()

    def close(self) -> None:
        """Stop the camera; a running ``frames()`` ends. May be called twice."""
        self._closed.set()
        self._sequence.close()

    def _missing(self) -> int | None:
        """Return how many frames are still to come, None without an end."""
        return None if self._n_frames is None else max(self._n_frames - self._counter.next_index, 0)

    def _take(self, image: Image) -> Iterator[Frame | LostFrame]:
        """Yield what is missing before an image, and its frame."""
        found = ImageFormat(image.pixels.shape, image.pixels.dtype.name)
        if found != self._camera.format:
            raise SourceError(self._changed(found))
        self._last_ns = image.grabbed_ns
        self._most_buffered = max(self._most_buffered, self._sequence.remaining)
        time_s = self._received_s(image)
        first = self._counter.next_index
        place = self._counter.place(image.number, time_s)
        cause = self._estimate if place.estimated else LOST["numbers"]
        self._estimate = LOST["cleared"]
        end = place.index if self._n_frames is None else min(place.index, self._n_frames)
        for index in range(first, end):
            yield LostFrame(index, cause)
        if self._n_frames is None or place.index < self._n_frames:
            yield Frame(place.index, image.pixels, image.grabbed_ns, time_s)

    def _received_s(self, image: Image) -> float:
        """Return when the core received an image, in seconds since the start; rises."""
        if image.waited_ns is None:
            self._counts["clock_jumps"] += 1
        else:
            self._waited.add(image.waited_ns)
        received_s = (image.grabbed_ns - (image.waited_ns or 0) - self._start_ns) * 1e-9
        self._time_s = max(received_s, self._time_s + 1e-6)
        return self._time_s

    def _wait(self) -> None:
        """Sleep for half of the time until the next frame is due, or a twentieth of the time that it is late."""
        now_ns = monotonic_ns()
        silent_s = (now_ns - self._last_ns) * 1e-9
        early_s = self._counter.interval_s - silent_s
        if early_s < -LOOK_AFTER_S and (now_ns - self._looked_ns) * 1e-9 > LOOK_AFTER_S:
            self._look_after(silent_s)
            self._looked_ns = now_ns
        time.sleep(min(max(early_s / 2, -early_s / 20, SHORTEST_NAP_S), LONGEST_NAP_S))

    def _look_after(self, silent_s: float) -> None:
        """Find out why no frame comes; restart the camera, or raise SourceError."""
        # The interval, too: the exposure may have been much longer until just now.
        trouble = self._sequence.trouble(silent_s, self._timeout_s + 3 * self._counter.interval_s)
        if trouble is None or self._closed.is_set():
            return
        self._counts[trouble] += 1
        if (found := self._format_now()) != self._camera.format:
            raise SourceError(self._changed(found))
        if self._counts["restarts"] >= self._max_restarts:
            raise SourceError(self._explain(trouble, silent_s))
        self._counts["restarts"] += 1
        self._sequence.stop()
        self._counter.new_sequence()
        self._estimate = LOST[trouble]
        self._sequence.start(self._missing())
        self._last_ns = monotonic_ns()

    def _format_now(self) -> ImageFormat:
        try:
            return self._microscope.call("look at the image", lambda: image_format(self._microscope.core))
        except MicroscopeError as error:
            raise SourceError(str(error)) from error

    def _explain(self, trouble: Trouble, silent_s: float) -> str:
        camera, restarts = self._camera, self._counts["restarts"]
        after = f"after {self._counter.next_index} frames" + (f" and {restarts} restarts" if restarts else "")
        if trouble == "overflows":
            buffer = f"{camera.settings['buffer_mb']} MB"
            cure = "do not set [ingest] policy to 'block'; a larger buffer_mb helps against short stalls"
            return f"the buffer of camera {camera.label} ({buffer}) overflowed {after}: {cure}"
        cure = "" if self._max_restarts else ", or set on_stop = 'restart'"
        if trouble == "stops":
            return f"camera {camera.label} stopped by itself {after}: look after its power and cable{cure}"
        cure = f"look after its trigger and cable, raise timeout_s{cure}"
        return f"camera {camera.label} has sent nothing for {silent_s:.1f} s {after}: {cure}"

    def _changed(self, found: ImageFormat) -> str:
        cure = "ROI, binning and pixel type have to stay as they are during a run"
        return f"the images of camera {self._camera.label} changed from {self._camera.format} to {found}: {cure}"
