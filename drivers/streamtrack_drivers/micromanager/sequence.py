"""A running sequence of the core's camera: start, take images, find out why none come, stop."""

import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pymmcore

from streamtrack.clock import monotonic_ns
from streamtrack.errors import MicroscopeError, SourceError, one_line
from streamtrack.types import Pixels
from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.numbering import TAGS, image_number, waited_ns, wall_clock

ENDLESS = 2**31 - 1
"""Images of an open-ended sequence: the number that the core itself gives drivers on Windows for "no end"."""

Trouble = Literal["overflows", "stops", "stalls"]
"""The buffer was full; the camera stopped by itself; it runs, but no image comes."""


class Image(NamedTuple):
    """An image with its number in the sequence, when it was taken from the buffer, and how long it had been there."""

    pixels: Pixels
    number: int | None
    grabbed_ns: int
    waited_ns: int | None


class CameraSequence:
    """The core's camera, running. The core stops it when its buffer is full, so that nothing is overwritten unseen.

    Parameters
    ----------
    microscope
        Its core has the camera.
    """

    def __init__(self, microscope: MicroManager) -> None:
        self._microscope = microscope
        self._core = microscope.core
        self._lock = threading.Lock()
        self._started = False
        self._closed = False
        self.remaining = 0
        """Images in the buffer at the last look."""
        self.stop_error = ""

    def start(self, n_images: int | None) -> None:
        """Start; raises SourceError when the camera refuses. Does nothing once closed."""
        with self._lock:
            if self._closed:
                return
            self._ask("start the camera", lambda: self._core.startSequenceAcquisition(n_images or ENDLESS, 0.0, True))
            self._started = True

    def pop(self) -> Image | None:
        """Take the oldest image from the buffer, None if there is none; never touches the camera."""
        self.remaining = self._core.getRemainingImageCount()
        if not self.remaining:
            return None
        metadata = pymmcore.Metadata()
        try:
            pixels = self._core.popNextImageMD(metadata)
        except IndexError:  # somebody cleared the buffer meanwhile
            return None
        except Exception as error:  # whatever the SWIG layer makes of the core's errors
            raise SourceError(f"an image cannot be taken from the camera's buffer: {one_line(error)}") from error
        tags = {tag: metadata.GetSingleTag(tag).GetValue() for tag in TAGS if metadata.HasTag(tag)}
        return Image(pixels, image_number(tags), monotonic_ns(), waited_ns(tags, wall_clock()))

    def trouble(self, silent_s: float, patience_s: float) -> Trouble | None:
        """Return why no image has come for ``silent_s``; None if there is no reason to worry, or an image after all.

        ``patience_s`` is how long the camera may be silent, on top of three exposures.
        """
        running = self._ask("look whether the camera runs", self._core.isSequenceRunning)
        if running and silent_s < patience_s:
            return None
        if running and silent_s < patience_s + 3e-3 * self._ask("read the exposure", self._core.getExposure):
            return None
        if self._core.getRemainingImageCount():
            return None
        if running:
            return "stalls"
        return "overflows" if self._core.isBufferOverflowed() else "stops"

    def stop(self) -> None:
        """Stop the camera if it was started. Does not raise: ``stop_error`` says what went wrong."""
        with self._lock:
            if not self._started:
                return
            self._started = False
            try:
                exposure_s = 1e-3 * self._microscope.exposure_ms()  # the core waits for its end
                self._microscope.call("stop the camera", self._core.stopSequenceAcquisition, exposure_s)
            except MicroscopeError as error:
                self.stop_error = str(error)

    def close(self) -> None:
        """Stop, and do not start again."""
        self._closed = True
        self.stop()

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return self._microscope.call(what, call)
        except MicroscopeError as error:
            raise SourceError(str(error)) from error
