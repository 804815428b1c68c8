"""Attaches to a running Micro-Manager through its pycro-manager server."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamtrack.errors import MicroscopeError
from streamtrack.settings import Positive, checks_settings
from streamtrack.types import NameKind
from streamtrack_drivers.micromanager.geometry import StageMatrix, binning_of, stage_matrix, um_per_px
from streamtrack_drivers.micromanager.wire import DEFAULT_PORT, Connection, RemoteObject, open_core

BUSY_POLL_S = 0.002


@checks_settings
class PycroManager:
    """A Micro-Manager that runs on this machine, with its server switched on.

    It has a socket of its own, so that a command does not wait behind the images that others pull. Waiting for a device
    is done by asking again and again: a long stage move does not keep the next call, an emergency stop for example,
    from being made.

    Parameters
    ----------
    port
        Of the server: Tools > Options > Run pycro-manager server on port 4827.
    timeout_s
        Most that a call, or a movement, may take. After a call that is not answered by then Micro-Manager counts as
        dead, and every later one fails at once.
    stage_um_per_px
        In place of Micro-Manager's calibration: as of `streamtrack_drivers.micromanager.core.MicroManager`.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    MicroscopeError
        If no Micro-Manager answers.
    """

    def __init__(
        self,
        *,
        port: Annotated[int, Field(ge=1, le=65535)] = DEFAULT_PORT,
        timeout_s: Positive = 5.0,
        stage_um_per_px: StageMatrix | None = None,
    ) -> None:
        self._matrix = None if stage_um_per_px is None else stage_matrix(stage_um_per_px)
        self._port = port
        self._timeout_s = timeout_s
        self._connection, self._core = open_core(port, timeout_s)
        self._add_event: Callable[[Mapping[str, Any]], None] | None = None
        self._devices_of: dict[tuple[str, str], list[str]] = {}
        self._info = {
            "kind": "pycromanager",
            "port": port,
            "protocol": self._connection.version,
            "core": self._core.getVersionInfo(),
            "camera": self._core.getCameraDevice(),
            "stage": self._core.getXYStageDevice(),
            "focus": self._core.getFocusDevice(),
        }

    @property
    def info(self) -> Mapping[str, Any]:
        """Versions and devices, as they were when the connection was made."""
        return self._info

    def open_core(self) -> tuple[Callable[[], None], RemoteObject]:
        """Open a further socket to the core, for someone who pulls images: returns what closes it, and the core."""
        connection, core = open_core(self._port, self._timeout_s)
        return lambda: _leave(connection, core), core

    def names(self, kind: NameKind, of: str = "") -> Sequence[str]:
        """Return the names that Micro-Manager has, of what can be set; raises MicroscopeError where ``of`` is unknown.

        Shutters are the devices that say whether they are open.
        """
        core = self._core
        if kind == "properties":
            return [name for name in core.getDevicePropertyNames(of) if not core.isPropertyReadOnly(of, name)]
        if kind == "presets":
            return list(core.getAvailableConfigs(self._group(of)))
        if kind == "groups":
            return list(core.getAvailableConfigGroups())
        devices = list(core.getLoadedDevices())
        return [device for device in devices if self._is_shutter(device)] if kind == "shutters" else devices

    def property_value(self, device: str, name: str) -> str:
        """Return what a device property is set to."""
        return str(self._core.getProperty(device, name))

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a device property."""
        self._core.setProperty(device, name, value)

    def preset(self, group: str) -> str:
        """Return the preset that the devices of a group are at, ``""`` if at none."""
        return str(self._core.getCurrentConfig(self._group(group)) or "")

    def set_preset(self, group: str, preset: str) -> None:
        """Apply a preset of a configuration group and wait until its devices are done."""
        self._core.setConfig(group, preset)
        if (group, preset) not in self._devices_of:
            self._devices_of[group, preset] = self._devices_in(group, preset)
        self._wait_for(self._devices_of[group, preset], f"preset {group}: {preset}")

    def set_shutter(self, device: str, opened: bool) -> None:
        """Open or close a shutter and wait until it has moved."""
        self._core.setShutterOpen(device, opened)
        self._wait_for([device], "shutter")

    def exposure_ms(self) -> float:
        """Return the camera's exposure."""
        return float(self._core.getExposure())

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set the camera's exposure."""
        _check_finite("the exposure", exposure_ms)
        self._core.setExposure(float(exposure_ms))

    def stage_um(self) -> tuple[float, float]:
        """Return the stage's position: x, y."""
        return float(self._core.getXPosition()), float(self._core.getYPosition())

    def move_stage_um(self, x: float, y: float) -> None:
        """Move the stage and wait until it has arrived."""
        _check_finite("the stage", x, y)
        self._core.setXYPosition(float(x), float(y))
        self._move(self._core.getXYStageDevice(), f"stage on its way to ({x:g}, {y:g}) um")

    def focus_um(self) -> float:
        """Return the position of the focus drive."""
        return float(self._core.getPosition())

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive and wait until it has arrived."""
        _check_finite("the focus drive", z)
        self._core.setPosition(float(z))
        self._move(self._core.getFocusDevice(), f"focus drive on its way to {z:g} um")

    def stage_um_per_px(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) from a distance in the image (x, y), px, to one of the stage (x, y), um.

        As `streamtrack_drivers.micromanager.core.MicroManager.stage_um_per_px`.
        """
        if self._matrix is not None:
            return self._matrix * binning_of(self._camera_setting("Binning") or "1")
        return um_per_px(self._core.getPixelSizeAffine(True), self._core.getPixelSizeUm(True))

    def hand_events_to(self, add_event: Callable[[Mapping[str, Any]], None]) -> None:
        """Say who takes events: an acquisition that a script of this process runs on Micro-Manager."""
        self._add_event = add_event

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Add an event to the acquisition that a script of this process runs; raises MicroscopeError without one."""
        if self._add_event is None:
            cure = "run it from a script with streamtrack_drivers.micromanager.Tap, which can add events"
            raise MicroscopeError(f"no acquisition of this process runs on Micro-Manager: {cure}")
        self._add_event(event)

    def halt(self) -> None:
        """Stop stage and focus drive where they are; raises MicroscopeError if one cannot be stopped."""
        errors = []
        for device in filter(None, (self._core.getXYStageDevice(), self._core.getFocusDevice())):
            try:
                self._core.stop(device)
            except MicroscopeError as error:
                errors.append(str(error))
        if errors:
            raise MicroscopeError("; ".join(errors))

    def close(self) -> None:
        """Close the socket; Micro-Manager goes on as it is. May be called twice."""
        _leave(self._connection, self._core)

    def _group(self, group: str) -> str:
        """Return a group; the core itself says of one that is not there that it has no presets."""
        if not self._core.isGroupDefined(group):
            raise MicroscopeError(f"there is no configuration group {group!r}")
        return group

    def _is_shutter(self, device: str) -> bool:
        try:
            self._core.getShutterOpen(device)
        except MicroscopeError:
            if not self._core.is_reachable:
                raise
            return False
        return True

    def _camera_setting(self, name: str) -> str | None:
        camera = self._info["camera"]
        return str(self._core.getProperty(camera, name)) if self._core.hasProperty(camera, name) else None

    def _devices_in(self, group: str, preset: str) -> list[str]:
        configuration = self._core.getConfigData(group, preset)
        devices = set()
        for place in range(configuration.size()):
            setting = configuration.getSetting(place)
            devices.add(str(setting.getDeviceLabel()))
            setting.release()
        configuration.release()
        return sorted(devices - {"Core"})  # the core itself is never busy

    def _move(self, device: str, what: str) -> None:
        """Wait for a stage on its way; one that does not arrive in time is stopped."""
        try:
            self._wait_for([device], what)
        except MicroscopeError:
            self._core.stop(device)
            raise

    def _wait_for(self, devices: Iterable[str], what: str) -> None:
        give_up = time.monotonic() + self._timeout_s
        for device in devices:
            while self._core.deviceBusy(device):
                if time.monotonic() > give_up:
                    cure = "raise timeout_s of [microscope] if that is normal"
                    raise MicroscopeError(f"{what}: {device} is still busy after {self._timeout_s:g} s; {cure}")
                time.sleep(BUSY_POLL_S)


def _check_finite(what: str, *numbers: float) -> None:
    if not all(map(math.isfinite, numbers)):
        raise MicroscopeError(f"{what} cannot be set to {', '.join(map(str, numbers))}: give finite numbers")


def _leave(connection: Connection, core: RemoteObject) -> None:
    """Give back an object and its socket, which Micro-Manager then closes, too."""
    with suppress(MicroscopeError):  # it is gone, or left already
        core.release()
    connection.close()
