"""Follows the live image of a running Micro-Manager, without taking frames from anyone."""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, MicroscopeError, SourceError
from streamtrack.protocols import Microscope
from streamtrack.settings import Positive, checks_settings
from streamtrack.types import Frame, LostFrame, Pixels, SourceInfo
from streamtrack_drivers.micromanager.bridge import PycroManager
from streamtrack_drivers.micromanager.image_format import grey, image_format
from streamtrack_drivers.micromanager.numbering import RECEIVED_TAG, TAGS, ImageTimes, Numbering, image_number
from streamtrack_drivers.micromanager.streams import OneStream, camera, where_by_tags
from streamtrack_drivers.micromanager.wire import RemoteObject

NOT_SEEN = "not seen: it came and went between two looks at the live image"
MARKS = (*TAGS, "ElapsedTime-ms")
"""Tags that tell a new image from one that was seen before."""


@checks_settings
class PycroManagerSource:
    """The live image, or that of an acquisition that runs in Micro-Manager's own window.

    The newest image is looked at again and again and never taken out of the buffer: Micro-Manager shows and saves as if
    nobody watched. Its server hands over about 100 MB/s; images that come and go meanwhile are counted as lost, by
    their numbers. To see every frame, record from a script through `Tap`, or use the source ``micromanager``.

    Parameters
    ----------
    microscope
        The run's ``[microscope]``, of kind ``pycromanager``.
    poll_ms
        Time between two looks; by default a quarter of the exposure, 2 to 20 ms.
    patience_s
        How long there may be no new image (live mode is off, for example) before the run fails.
    only
        The channel or camera to follow where the images are of several: ``{ c = "GFP" }``, ``{ camera = "Left" }``.
        Planes and positions are not in the tags of the live image, so that nobody can tell them apart here.

    Raises
    ------
    ConfigError
        If the microscope is of another kind, or a setting out of range.
    SourceError
        If Micro-Manager does not answer, or its camera gives colour images.
    """

    def __init__(
        self,
        *,
        microscope: Microscope,
        poll_ms: Annotated[float, Field(ge=0, le=1000)] | None = None,
        patience_s: Positive = 10.0,
        only: dict[str, int | str] | None = None,
    ) -> None:
        if not isinstance(microscope, PycroManager):
            raise ConfigError('source "pycromanager" needs [microscope] kind = "pycromanager"')
        self._closed = threading.Event()
        self._numbering, self._times, self._one = Numbering(), ImageTimes(), OneStream(only)
        self._looks = self._lost = 0
        self._last_marks: tuple[Any, ...] = ()
        self._last_pixels: Pixels | None = None
        try:
            self._disconnect, self._core = microscope.open_core()
            exposure_ms = microscope.exposure_ms()
            self._info = self._describe()
        except MicroscopeError as error:
            raise SourceError(str(error)) from error
        self._poll_s = (min(20.0, max(2.0, exposure_ms / 4)) if poll_ms is None else poll_ms) / 1000
        self._patience_s = max(patience_s, 3 * exposure_ms / 1000)

    @property
    def info(self) -> SourceInfo:
        """Camera, shape and dtype as Micro-Manager has them; ``details`` count the looks and the images not seen."""
        counts = {"looks": self._looks, "not_seen": self._lost, "restarts": self._numbering.restarts}
        details = {"stream": self._one.stream, **counts, "left_out": self._one.left_out}
        return SourceInfo(**self._info, details=details)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every new image that is seen; those between, as far as their numbers tell, as LostFrame."""
        seen_s = time.monotonic()
        while not self._closed.is_set():
            found = self._look()
            if found is None or not self._is_chosen(found[0]):
                self._check_patience(seen_s)
                time.sleep(self._poll_s)
                continue
            seen_s = time.monotonic()
            yield from self._placed(*found)

    def close(self) -> None:
        """End a running ``frames()`` and close the socket. May be called twice."""
        self._closed.set()
        self._disconnect()

    def _describe(self) -> dict[str, Any]:
        core = self._core
        label = str(core.getCameraDevice())
        image = grey(image_format(core), f"camera {label}")
        cameras = [camera(n, core.getCameraChannelName(n)) for n in range(core.getNumberOfCameraChannels())]
        self._one.plan({"camera": cameras}, [{"camera": each} for each in cameras], complete=False)
        return {
            "name": f"Micro-Manager: {label}",
            "shape": image.shape,
            "dtype": image.dtype,
            "live": True,
            "pixel_size_um": float(core.getPixelSizeUm()) or None,
            "clock": "host",
        }

    def _look(self) -> tuple[Mapping[str, Any], Pixels] | None:
        """Return tags and pixels of the newest image, None if it was seen before or there is none."""
        self._looks += 1
        try:
            image: RemoteObject = self._core.getLastTaggedImage()
            try:
                return self._if_new(image)
            finally:
                image.release()
        except MicroscopeError as error:
            if self._core.is_reachable or self._closed.is_set():
                return None  # the buffer is empty, or was cleared between two calls
            raise SourceError(str(error)) from error

    def _if_new(self, image: RemoteObject) -> tuple[Mapping[str, Any], Pixels] | None:
        tags = image.field("tags")
        marks = tuple(tags.get(name) for name in MARKS)
        has_marks = any(mark is not None for mark in marks)
        if has_marks and marks == self._last_marks:
            return None
        pixels: Pixels = image.field("pix").copy()
        if not has_marks and self._last_pixels is not None and np.array_equal(pixels, self._last_pixels):
            return None
        self._last_marks, self._last_pixels = marks, pixels
        return tags, pixels

    def _is_chosen(self, tags: Mapping[str, Any]) -> bool:
        if self._one.takes(where_by_tags(tags), tags):
            return True
        self._numbering.skip(image_number(tags))
        return False

    def _placed(self, tags: Mapping[str, Any], flat: Pixels) -> Iterator[Frame | LostFrame]:
        grabbed_ns = monotonic_ns()
        shape, dtype = (int(tags["Height"]), int(tags["Width"])), flat.dtype.name
        if (shape, dtype) != (self._info["shape"], self._info["dtype"]):
            was = f"{self._info['shape']} {self._info['dtype']}"
            raise SourceError(f"the camera's image was {was} and is now {shape} {dtype}: start a new run for it")
        *lost, index = self._numbering.place(image_number(tags))
        self._lost += len(lost)
        yield from (LostFrame(each, NOT_SEEN) for each in lost)
        time_s = self._times.time_s(tags.get(RECEIVED_TAG), grabbed_ns)
        yield Frame(index, flat.reshape(shape), grabbed_ns, time_s)

    def _check_patience(self, seen_s: float) -> None:
        if self._closed.is_set() or time.monotonic() - seen_s < self._patience_s:
            return
        self._one.end()
        try:
            running = self._core.isSequenceRunning()
        except MicroscopeError as error:
            raise SourceError(str(error)) from error
        why = "though live mode is on: look at the camera" if running else "live mode is off: switch it on"
        raise SourceError(f"no new image from Micro-Manager for {self._patience_s:g} s; {why}")
