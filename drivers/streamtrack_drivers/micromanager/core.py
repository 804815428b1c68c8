"""A Micro-Manager core in this process, as the run's microscope."""

import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pymmcore
from numpy.typing import NDArray

from streamtrack.deadline import Deadline
from streamtrack.errors import ConfigError, MicroscopeError, one_line
from streamtrack.settings import Positive, checks_settings
from streamtrack.types import NameKind
from streamtrack_drivers.micromanager.geometry import StageMatrix, binning_of, stage_matrix, um_per_px

T = TypeVar("T")

GRACE_S = 1.0
"""How much longer than the core itself we wait, so that its own, better message comes first."""
EXPOSURE_TOLERANCE = 0.1
"""Cameras round exposures; what is further off (and by more than 1 ms) was not taken."""


@checks_settings
class MicroManager:
    """The devices of a Micro-Manager configuration file.

    Positions are um of the stage's own coordinates. Calls may come from any thread. A driver that hangs holds up calls
    of its own devices only (the core locks driver by driver), and never the frames that the core has already.

    Parameters
    ----------
    config
        Configuration file (``.cfg``). A relative path is looked for here, then beside the device adapters, where
        ``MMConfig_demo.cfg`` lies.
    adapters
        Folder of the device adapters (the folder of Micro-Manager); by default the one that pymmcore-plus finds.
    stage_um_per_px
        How far the stage has to go, um, for a distance in the image, px without binning; in place of what the core
        knows. Two numbers, x and y, or the rows of a matrix; see the method `stage_um_per_px`. For one objective.
    timeout_s
        How long a device may take.

    Raises
    ------
    ConfigError
        A path does not exist or no adapters are installed.
    MicroscopeError
        The configuration cannot be loaded.
    """

    def __init__(
        self,
        *,
        config: Path,
        adapters: Path | None = None,
        stage_um_per_px: StageMatrix | None = None,
        timeout_s: Positive = 5.0,
    ) -> None:
        folder = _adapter_folder(adapters)
        path = _config_path(config, folder)
        self._attach(_load(path, folder), stage_um_per_px, timeout_s, None)
        self._owned = True
        self._core.setTimeoutMs(round(timeout_s * 1000))
        self._info["config"] = str(path)

    @classmethod
    def around(
        cls,
        core: Any,
        *,
        stage_um_per_px: Sequence[Any] | None = None,
        timeout_s: float = 5.0,
        add_event: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> "MicroManager":
        """Return a microscope around a core that is loaded already and stays its owner's.

        Parameters
        ----------
        core
            ``pymmcore.CMMCore`` or a class derived from it: ``CMMCorePlus``, the core of pycromanager's Python backend.
        stage_um_per_px, timeout_s
            As above.
        add_event
            Gets what `add_event` is given; None where no acquisition takes events.
        """
        microscope = cls.__new__(cls)
        microscope._attach(core, stage_um_per_px, timeout_s, add_event)
        return microscope

    def _attach(
        self,
        core: Any,
        matrix: Sequence[Any] | None,
        timeout_s: float,
        add_event: Callable[[Mapping[str, Any]], None] | None,
    ) -> None:
        self._matrix = None if matrix is None else stage_matrix(matrix)
        self._core = core
        self._owned = False
        self._add_event = add_event
        self._slm_shapes: dict[str, tuple[int, int]] = {}
        self._in_time = Deadline(timeout_s + GRACE_S)
        self._info: dict[str, Any] = _describe(core)

    @property
    def info(self) -> Mapping[str, Any]:
        """Versions, configuration file, devices and their roles."""
        return self._info

    @property
    def core(self) -> Any:
        """The core; `call` is the way to ask it for something that may hang."""
        return self._core

    def call(self, what: str, ask: Callable[[], T], extra_s: float = 0.0, *, urgent: bool = False) -> T:
        """Return what ``ask()`` returns; raises MicroscopeError when it fails or takes too long."""
        return self._in_time(what, ask, extra_s, urgent=urgent)

    def names(self, kind: NameKind, of: str = "") -> Sequence[str]:
        """Return the names that the core has, of what can be set; raises MicroscopeError where ``of`` is unknown."""
        return self.call(f"list {kind}{f' of {of}' if of else ''}", lambda: _names(self._core, kind, of))

    def property_value(self, device: str, name: str) -> str:
        """Return what a device property is set to, as the device says."""
        return str(self.call(f"read {device}.{name}", lambda: self._core.getProperty(device, name)))

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a device property; the device may still be busy afterwards."""
        self.call(f"set {device}.{name} = {value}", lambda: self._core.setProperty(device, name, value))

    def preset(self, group: str) -> str:
        """Return the preset that the devices of a group are at, ``""`` if at none."""
        return self.call(f"read the preset of {group}", lambda: _preset(self._core, group))

    def set_preset(self, group: str, preset: str) -> None:
        """Apply a preset of a configuration group and wait for its devices."""

        def apply() -> None:
            self._core.setConfig(group, preset)
            for device in _devices_of(self._core, group, preset):
                self._core.waitForDevice(device)

        self.call(f"apply preset {group} = {preset}", apply)

    def set_shutter(self, device: str, opened: bool) -> None:
        """Open or close a shutter and wait until it has moved."""

        def move() -> None:
            self._core.setShutterOpen(device, opened)
            self._core.waitForDevice(device)

        self.call(f"{'open' if opened else 'close'} shutter {device}", move, urgent=not opened)

    def exposure_ms(self) -> float:
        """Return the camera's exposure."""
        return float(self.call("read the exposure", self._core.getExposure))

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set the camera's exposure; raises MicroscopeError also where the camera silently takes another."""
        if not 0 <= exposure_ms < math.inf:
            raise MicroscopeError(f"an exposure of {exposure_ms:g} ms cannot be")
        self.call(f"set the exposure to {exposure_ms:g} ms", lambda: self._core.setExposure(exposure_ms))
        taken_ms = self.exposure_ms()
        if abs(taken_ms - exposure_ms) > max(1.0, EXPOSURE_TOLERANCE * exposure_ms):
            raise MicroscopeError(f"the camera did not take an exposure of {exposure_ms:g} ms; it has {taken_ms:g} ms")

    def stage_um(self) -> tuple[float, float]:
        """Return the position of the XY stage: x, y."""
        stage = self._role("XYStage", "XY stage")
        x, y = self.call(f"read the position of {stage}", lambda: self._core.getXYPosition(stage))
        return float(x), float(y)

    def move_stage_um(self, x: float, y: float) -> None:
        """Move the XY stage and wait until it has arrived; one that does not arrive in time is stopped."""
        stage = self._role("XYStage", "XY stage")
        self._move(stage, (x, y), lambda: self._core.setXYPosition(stage, x, y))

    def focus_um(self) -> float:
        """Return the position of the focus drive."""
        drive = self._role("Focus", "focus drive")
        return float(self.call(f"read the position of {drive}", lambda: self._core.getPosition(drive)))

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive and wait until it has arrived; one that does not arrive in time is stopped."""
        drive = self._role("Focus", "focus drive")
        self._move(drive, (z,), lambda: self._core.setPosition(drive, z))

    def slm_shape(self, device: str) -> tuple[int, int]:
        """Return height and width of a spatial light modulator, px."""
        if device not in self._slm_shapes:
            self._slm_shapes[device] = self.call(f"read the size of {device}", lambda: _slm_shape(self._core, device))
        return self._slm_shapes[device]

    def show_on_slm(self, device: str, image: NDArray[np.uint8] | None, for_ms: float | None = None) -> None:
        """Show an 8-bit image, (H, W), on a spatial light modulator until the next one; None for nothing.

        Both go the same way, since a device may show one colour at once, or only when it is told to display. A device
        with a light of its own is told for how long, if it can be told.
        """
        pixels = np.zeros(self.slm_shape(device), np.uint8) if image is None else image

        def show() -> None:
            if for_ms is not None:
                with suppress(Exception):  # many know no such thing
                    self._core.setSLMExposure(device, for_ms)
            self._core.setSLMImage(device, pixels)
            self._core.displaySLMImage(device)
            self._core.waitForDevice(device)

        what = f"make {device} dark" if image is None else f"show a pattern on {device}"
        self.call(what, show, urgent=image is None)

    def autofocus(self, *, full: bool, timeout_s: float) -> None:
        """Have the autofocus device focus, and wait until it has; one that takes longer has its drive stopped."""
        device = self._role("AutoFocus", "autofocus")

        def focus() -> None:
            (self._core.fullFocus if full else self._core.incrementalFocus)()
            self._core.waitForDevice(device)

        try:
            self.call(f"focus with {device}", focus, timeout_s - self._in_time.timeout_s)
        except MicroscopeError as error:
            try:
                self.halt()
            except MicroscopeError as worse:
                raise MicroscopeError(f"{error}; and it cannot be stopped: {worse}") from error
            raise

    def continuous_focus(self) -> bool:
        """Return whether the autofocus device holds the focus; raises MicroscopeError where there is none."""
        self._role("AutoFocus", "autofocus")
        return bool(self.call("ask for the continuous focus", self._core.isContinuousFocusEnabled))

    def set_continuous_focus(self, held: bool) -> None:
        """Have the autofocus device hold the focus from now on, or let go."""
        device = self._role("AutoFocus", "autofocus")
        words = "hold the focus" if held else "let go of the focus"
        self.call(f"have {device} {words}", lambda: self._core.enableContinuousFocus(held))

    def is_focus_locked(self) -> bool:
        """Return whether the autofocus device has the focus."""
        return bool(self.call("ask whether the focus is locked", self._core.isContinuousFocusLocked))

    def stage_um_per_px(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) that turns a distance in the image (x, y), px, into one of the stage (x, y), um.

        A particle at (x, y) px comes to the place of (0, 0) px when the stage moves by ``matrix @ (x, y)``. It is the
        matrix of the configuration, else Micro-Manager's affine transform, which is defined in the same way (its
        double click into the image centres by it). Binning is taken into account, and by the transform the objective.

        Raises
        ------
        MicroscopeError
            Neither was measured.
        """
        if self._matrix is not None:
            return self._matrix * self._binning()
        return self.call("read the stage calibration", lambda: _matrix(self._core))

    def pixel_size_um(self) -> float | None:
        """Return the side of a pixel, None where it is not known."""
        if self._matrix is not None:
            return math.sqrt(abs(np.linalg.det(self._matrix * self._binning())))
        return self.call("read the pixel size", lambda: self._core.getPixelSizeUm(True)) or None

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Hand an event to the acquisition that this microscope was made for; raises MicroscopeError without one."""
        if self._add_event is None:
            raise MicroscopeError(
                "no acquisition takes events here: run it with pymmcore-plus and tap it, or take 'mda_event' out"
            )
        self._add_event(event)

    def halt(self) -> None:
        """Stop stage and focus drive where they are; raises MicroscopeError if one cannot be stopped."""
        errors = []
        for device in filter(None, (self._core.getXYStageDevice(), self._core.getFocusDevice())):
            try:
                self.call(f"stop {device}", partial(self._core.stop, device), urgent=True)
            except MicroscopeError as error:
                errors.append(str(error))
        if errors:
            raise MicroscopeError("; ".join(errors))

    def close(self) -> None:
        """Unload the devices, unless the core is somebody else's. May be called twice."""
        try:
            if self._owned:
                self._owned = False
                self.call("unload the devices", lambda: _unload(self._core))
        finally:
            self._in_time.close()

    def _binning(self) -> tuple[int, int]:
        return binning_of(self.call("read the binning", lambda: _binning(self._core)))

    def _move(self, device: str, target_um: tuple[float, ...], start: Callable[[], None]) -> None:
        where = ", ".join(f"{each:g}" for each in target_um)
        if not all(map(math.isfinite, target_um)):
            raise MicroscopeError(f"{device} cannot move to ({where}) um")

        def move() -> None:
            start()
            self._core.waitForDevice(device)

        try:
            self.call(f"move {device} to ({where}) um", move)
        except MicroscopeError as error:
            try:
                self.call(f"stop {device}", lambda: self._core.stop(device))
            except MicroscopeError as worse:
                raise MicroscopeError(f"{error}; and it cannot be stopped: {worse}") from error
            raise

    def _role(self, role: str, name: str) -> str:
        device = str(getattr(self._core, f"get{role}Device")())
        if not device:
            raise MicroscopeError(f"there is no {name}: give one the role Core-{role} in the configuration file")
        return device


def _adapter_folder(adapters: Path | None) -> Path:
    """Return where the device adapters are."""
    if adapters is not None:
        folder = adapters.expanduser()
        if not folder.is_dir():
            raise ConfigError(f"no folder {folder}: give the one of Micro-Manager as adapters")
        return folder
    from pymmcore_plus import find_micromanager

    found = find_micromanager() if find_micromanager(return_first=False) else None
    if found is None:
        interface = pymmcore.CMMCore().getAPIVersionInfo()
        raise ConfigError(f"no device adapters were found for {interface}: 'streamtrack doctor' says what to install")
    return Path(found)


def _config_path(config: Path, folder: Path) -> Path:
    given = config.expanduser()
    for path in (given, folder / given):
        if path.is_file():
            return path.resolve()
    raise ConfigError(f"no configuration file {given}, neither here nor in {folder}")


def _load(config: Path, folder: Path) -> Any:
    core = pymmcore.CMMCore()
    # Windows looks on the path for the libraries that an adapter needs itself.
    if str(folder) not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((str(folder), os.environ["PATH"]))
    core.setDeviceAdapterSearchPaths([str(folder)])
    try:
        with _readable_by_the_core(config) as path:
            core.loadSystemConfiguration(str(path))
    except Exception as error:  # whatever the SWIG layer makes of the core's errors
        raise MicroscopeError(f"{config} cannot be loaded: {one_line(error)}") from error
    if len(core.getLoadedDevices()) > 1:
        return core
    raise MicroscopeError(f"{config} holds no device: give a configuration file of Micro-Manager")


@contextmanager
def _readable_by_the_core(config: Path) -> Iterator[Path]:
    """Yield the file, or a copy of it: on Windows the core opens no path with other letters than ASCII."""
    if sys.platform != "win32" or str(config).isascii():
        yield config
        return
    folders = (tempfile.gettempdir(), os.environ.get("PUBLIC"), os.environ.get("PROGRAMDATA"))
    ascii_folder = next((folder for folder in folders if folder and folder.isascii()), None)
    with tempfile.TemporaryDirectory(prefix="streamtrack-", dir=ascii_folder) as folder:
        yield Path(shutil.copyfile(config, Path(folder, "copy.cfg")))


def _unload(core: Any) -> None:
    if core.isSequenceRunning():
        core.stopSequenceAcquisition()
    core.unloadAllDevices()


def _devices_of(core: Any, group: str, preset: str) -> set[str]:
    """Return the devices that a preset sets: the core's own waitForConfig hides those that are not ready in time."""
    settings = pymmcore.CMMCore.getConfigData(core, group, preset)  # CMMCorePlus returns something else
    return {str(settings.getSetting(place).getDeviceLabel()) for place in range(settings.size())} - {"Core"}


def _describe(core: Any) -> dict[str, Any]:
    devices = [label for label in core.getLoadedDevices() if label != "Core"]
    return {
        "core": core.getVersionInfo(),
        "device_interface": core.getAPIVersionInfo(),
        "camera": core.getCameraDevice(),
        "stage": core.getXYStageDevice(),
        "focus": core.getFocusDevice(),
        "shutter": core.getShutterDevice(),
        "devices": {label: f"{core.getDeviceLibrary(label)}.{core.getDeviceName(label)}" for label in devices},
    }


def _names(core: Any, kind: NameKind, of: str) -> tuple[str, ...]:
    if kind == "properties":
        return tuple(name for name in core.getDevicePropertyNames(of) if not core.isPropertyReadOnly(of, name))
    if kind == "presets":
        return tuple(core.getAvailableConfigs(_group(core, of)))
    if kind == "groups":
        return tuple(core.getAvailableConfigGroups())
    if kind == "shutters":  # CMMCorePlus wants another type
        return tuple(pymmcore.CMMCore.getLoadedDevicesOfType(core, pymmcore.ShutterDevice))
    return tuple(core.getLoadedDevices())


def _slm_shape(core: Any, device: str) -> tuple[int, int]:
    return int(core.getSLMHeight(device)), int(core.getSLMWidth(device))


def _preset(core: Any, group: str) -> str:
    return str(core.getCurrentConfig(_group(core, group)))


def _group(core: Any, group: str) -> str:
    """Return a group; the core itself says of one that is not there that it has no presets."""
    if not core.isGroupDefined(group):
        raise MicroscopeError("there is no such group")
    return group


def _binning(core: Any) -> str:
    camera = core.getCameraDevice()
    return str(core.getProperty(camera, "Binning")) if camera and core.hasProperty(camera, "Binning") else "1"


def _matrix(core: Any) -> NDArray[np.float64]:
    # Cached: asking every device that a pixel size depends on takes a serial turret 50 ms.
    return um_per_px(core.getPixelSizeAffine(True), core.getPixelSizeUm(True))
