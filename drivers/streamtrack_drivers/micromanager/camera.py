"""Sets a core's camera up for a run, and says what its images will be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamtrack.errors import MicroscopeError, SourceError
from streamtrack.types import MIN_FRAME_PX
from streamtrack_drivers.micromanager.core import MicroManager
from streamtrack_drivers.micromanager.image_format import ImageFormat, grey, image_format

LEAST_BUFFERED = 8
"""Images that the core's buffer has to hold."""

Roi = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """What a run wants of the camera; None leaves as it is what the core has. See `MicroManagerSource`."""

    camera: str | None = None
    presets: Mapping[str, str] = field(default_factory=dict)
    binning: int | None = None
    roi: Roi | None = None
    exposure_ms: float | None = None
    buffer_mb: int = 128


@dataclass(frozen=True, slots=True)
class PreparedCamera:
    """A camera that is ready: label, images, size of a pixel (None if unknown), and the settings as they are now."""

    label: str
    format: ImageFormat
    pixel_size_um: float | None
    settings: Mapping[str, Any]


def set_up(microscope: MicroManager, wanted: CameraSettings) -> PreparedCamera:
    """Make the settings, in the order in which one may undo another.

    Raises
    ------
    SourceError
        The camera refuses one, runs already, or its images cannot be tracked.
    """
    core = microscope.core
    try:
        for group, preset in wanted.presets.items():
            microscope.set_preset(group, preset)
        if wanted.camera is not None:
            microscope.call(f"choose camera {wanted.camera}", lambda: core.setCameraDevice(wanted.camera))
        label = microscope.call("camera", lambda: _free_camera(core))
        if wanted.binning is not None:
            microscope.call(label, lambda: _set_binning(core, label, wanted.binning))
        if wanted.roi is not None:
            microscope.call(label, lambda: _set_roi(core, wanted.roi))
        if wanted.exposure_ms is not None:
            microscope.set_exposure_ms(wanted.exposure_ms)
        image = microscope.call(label, lambda: _check_format(grey(image_format(core)), wanted.buffer_mb))
        microscope.call("camera buffer", lambda: core.setCircularBufferMemoryFootprint(wanted.buffer_mb))
        settings = microscope.call(label, lambda: _settings(core, label, wanted.buffer_mb))
        return PreparedCamera(label, image, microscope.pixel_size_um(), settings)
    except MicroscopeError as error:
        raise SourceError(str(error)) from error


def _free_camera(core: Any) -> str:
    camera = str(core.getCameraDevice())
    if not camera:
        raise MicroscopeError("there is none: name one as camera, or give one the role Core-PreparedCamera")
    if core.isSequenceRunning():
        raise MicroscopeError(f"{camera} runs already: stop its live view or acquisition first")
    if (n_cameras := core.getNumberOfCameraChannels()) > 1:
        raise MicroscopeError(f"{camera} is {n_cameras} cameras in one: name one of them as camera")
    return camera


def _set_binning(core: Any, camera: str, binning: int | None) -> None:
    """Choose the camera's own name for a binning: "2", or "2x2"."""
    names = core.getAllowedPropertyValues(camera, "Binning")
    found = [name for name in names if name in (str(binning), f"{binning}x{binning}")]
    if names and not found:
        raise MicroscopeError(f"it cannot bin by {binning}: give one of {', '.join(names)}")
    core.setProperty(camera, "Binning", found[0] if found else str(binning))


def _set_roi(core: Any, roi: Roi | None) -> None:
    core.clearROI()
    if roi is None:
        return
    x, y, width, height = roi
    full_width, full_height = core.getImageWidth(), core.getImageHeight()
    # Drivers may take anything here, and send images that are not.
    if min(x, y) < 0 or min(width, height) < 1 or x + width > full_width or y + height > full_height:
        raise MicroscopeError(f"roi = {roi} (x, y, width, height) does not lie within {full_width} x {full_height} px")
    core.setROI(x, y, width, height)
    if (core.getImageWidth(), core.getImageHeight()) != (width, height):
        raise MicroscopeError(f"it takes {tuple(core.getROI())} for roi = {roi}: give that, or another")


def _check_format(image: ImageFormat, buffer_mb: int) -> ImageFormat:
    height, width = image.shape
    if min(height, width) < MIN_FRAME_PX:
        raise MicroscopeError(f"{image} is too small: at least {MIN_FRAME_PX} px each way")
    n_bytes = height * width * (1 if image.dtype == "uint8" else 2)
    if buffer_mb * 2**20 < LEAST_BUFFERED * n_bytes:
        least_mb = math.ceil(LEAST_BUFFERED * n_bytes / 2**20)
        raise MicroscopeError(f"buffer_mb = {buffer_mb} is too small for {image}: at least {least_mb}")
    return image


def _settings(core: Any, camera: str, buffer_mb: int) -> dict[str, Any]:
    return {
        "mmcore": core.getVersionInfo(),
        "driver": f"{core.getDeviceLibrary(camera)}.{core.getDeviceName(camera)}",
        "exposure_ms": core.getExposure(),
        "roi": list(core.getROI()),
        "binning": core.getProperty(camera, "Binning") if core.hasProperty(camera, "Binning") else None,
        "bit_depth": core.getImageBitDepth(),
        "buffer_mb": buffer_mb,
    }
