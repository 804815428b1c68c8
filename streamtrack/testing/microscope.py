"""A small twin of a microscope, for tests and for rehearsing a configuration at a desk."""

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import MicroscopeError
from streamtrack.types import NameKind
from streamtrack.waiting import set_within


class SimulatedMicroscope:
    """A microscope in memory: it remembers what it was told, and refuses what it does not have.

    Parameters
    ----------
    properties
        Device properties and their values, ``{"Laser.Power": "5"}``.
    presets
        Configuration groups and their presets.
    shutters
        Shutter devices; all are closed.
    slms
        Spatial light modulators and their sizes, height and width; all are dark.
    exposure_ms
        The camera's exposure at the start.
    um_per_px
        Side of a pixel in the sample. The camera looks along the stage's axes: a stage that moves by +1 um shifts the
        image by -1 um. None where that was never measured.
    delay_ms
        How long each write takes.

    Attributes
    ----------
    calls
        Every write that was carried out, as a tuple of the method's name and its arguments.
    patterns
        What each modulator shows; None for nothing.
    in_focus_um
        Where the sample is, for the autofocus; None for nowhere.
    focus_is_held
        Whether the continuous focus is on.
    events
        The events that were added to the acquisition.
    faults
        Errors that the next writes raise, one each, instead of being carried out.
    """

    def __init__(
        self,
        *,
        properties: dict[str, str] | None = None,
        presets: dict[str, tuple[str, ...]] | None = None,
        shutters: tuple[str, ...] = ("Shutter",),
        slms: dict[str, tuple[int, int]] | None = None,
        exposure_ms: float = 10.0,
        um_per_px: float | None = 0.1,
        delay_ms: float = 0.0,
    ) -> None:
        self.properties = {"Laser.Power": "0"} if properties is None else dict(properties)
        presets = {"Channel": ("Green", "Red")} if presets is None else presets
        self.presets = {group: (names[0], names) for group, names in presets.items()}
        self.shutters = dict.fromkeys(shutters, False)
        self.slms = {"SLM": (48, 64)} if slms is None else dict(slms)
        self.patterns: dict[str, NDArray[np.uint8] | None] = dict.fromkeys(self.slms)
        self.calls: list[tuple[Any, ...]] = []
        self.events: list[dict[str, Any]] = []
        self.faults: deque[Exception] = deque()
        self.in_focus_um: float | None = 0.0
        self.focus_is_held = False
        self._exposure_ms = exposure_ms
        self._um_per_px = um_per_px
        self._delay_s = delay_ms / 1e3
        self._xyz = [0.0, 0.0, 0.0]
        self._lock = threading.Lock()
        self._closed = threading.Event()

    @property
    def info(self) -> Mapping[str, Any]:
        """Devices, for the report."""
        return {"kind": "simulated", "properties": sorted(self.properties), "shutters": sorted(self.shutters)}

    def names(self, kind: NameKind, of: str = "") -> Sequence[str]:
        """Return the names there are; the devices are those with properties, the shutters and the modulators."""
        properties = [full.rpartition(".") for full in self.properties]
        devices = sorted({device for device, _, _ in properties} | self.shutters.keys() | self.slms.keys())
        if kind == "properties":
            self._known("device", of, devices)
            return [name for device, _, name in properties if device == of]
        if kind == "presets":
            self._known("group", of, self.presets)
            return self.presets[of][1]
        return {"devices": devices, "groups": list(self.presets), "shutters": list(self.shutters)}[kind]

    def property_value(self, device: str, name: str) -> str:
        """Return what a device property is set to; raises MicroscopeError if there is none of that name."""
        self._known("property", f"{device}.{name}", self.properties)
        return self.properties[f"{device}.{name}"]

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a device property; raises MicroscopeError if there is none of that name."""
        self._known("property", f"{device}.{name}", self.properties)
        self._carry_out("set_property", device, name, value)
        self.properties[f"{device}.{name}"] = value

    def preset(self, group: str) -> str:
        """Return the preset that a group is at; raises MicroscopeError if there is no such group."""
        self._known("group", group, self.presets)
        return self.presets[group][0]

    def set_preset(self, group: str, preset: str) -> None:
        """Choose a preset; raises MicroscopeError if the group has none of that name."""
        self._known("group", group, self.presets)
        names = self.presets[group][1]
        self._known("preset", preset, names)
        self._carry_out("set_preset", group, preset)
        self.presets[group] = preset, names

    def set_shutter(self, device: str, opened: bool) -> None:
        """Open or close a shutter."""
        self._known("shutter", device, self.shutters)
        self._carry_out("set_shutter", device, opened)
        self.shutters[device] = opened

    def slm_shape(self, device: str) -> tuple[int, int]:
        """Return the size of a modulator; raises MicroscopeError if there is none of that name."""
        self._known("SLM", device, self.slms)
        return self.slms[device]

    def show_on_slm(self, device: str, image: NDArray[np.uint8] | None, for_ms: float | None = None) -> None:
        """Show an image, or nothing."""
        shape = self.slm_shape(device)
        if image is not None and image.shape != shape:
            raise MicroscopeError(f"{device} shows images of {shape} px, not of {image.shape}")
        self._carry_out("show_on_slm", device, 0 if image is None else int(np.count_nonzero(image)))
        self.patterns[device] = image

    def exposure_ms(self) -> float:
        """Return the exposure."""
        return self._exposure_ms

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set the exposure; raises MicroscopeError below 0."""
        if not 0 <= exposure_ms < math.inf:
            raise MicroscopeError(f"the camera refuses an exposure of {exposure_ms} ms; give 0 or more")
        self._carry_out("set_exposure_ms", exposure_ms)
        self._exposure_ms = exposure_ms

    def stage_um(self) -> tuple[float, float]:
        """Return the stage's position: x, y."""
        return self._xyz[0], self._xyz[1]

    def move_stage_um(self, x: float, y: float) -> None:
        """Move the stage."""
        self._finite(x, y)
        self._carry_out("move_stage_um", x, y)
        self._xyz[:2] = x, y

    def focus_um(self) -> float:
        """Return the position of the focus drive."""
        return self._xyz[2]

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive."""
        self._finite(z)
        self._carry_out("move_focus_um", z)
        self._xyz[2] = z

    def autofocus(self, *, full: bool, timeout_s: float) -> None:
        """Focus: the drive goes to ``in_focus_um``; not ``full``, only from within 5 um of it."""
        if self.in_focus_um is None or not (full or abs(self._xyz[2] - self.in_focus_um) <= 5):
            self._carry_out("autofocus", full)
            raise MicroscopeError("the focus was not found")
        self._carry_out("autofocus", full)
        self._xyz[2] = self.in_focus_um

    def continuous_focus(self) -> bool:
        """Return whether the focus is held."""
        return self.focus_is_held

    def set_continuous_focus(self, held: bool) -> None:
        """Hold the focus, or let go."""
        self._carry_out("set_continuous_focus", held)
        self.focus_is_held = held

    def is_focus_locked(self) -> bool:
        """Return whether the focus is held."""
        return self.focus_is_held

    def stage_um_per_px(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) from px in the image (x, y) to um of the stage (x, y)."""
        if self._um_per_px is None:
            raise MicroscopeError("which way the image moves with the stage was never measured: give um_per_px")
        return self._um_per_px * np.eye(2)

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Keep an event."""
        self._carry_out("add_event", dict(event))
        self.events.append(dict(event))

    def halt(self) -> None:
        """Stop: here a move is either over or not begun."""
        with self._lock:
            self.calls.append(("halt",))

    def close(self) -> None:
        """Let go: a write that is being carried out fails, and so do later ones."""
        self._closed.set()

    def _carry_out(self, *call: Any) -> None:
        if set_within(self._closed, self._delay_s):
            raise MicroscopeError("the simulated microscope is closed")
        if self.faults:
            raise self.faults.popleft()
        with self._lock:
            self.calls.append(call)

    def _known(self, what: str, name: str, known: Any) -> None:
        if name not in known:
            raise MicroscopeError(f"there is no {what} {name!r} (known: {', '.join(known)})")

    def _finite(self, *position: float) -> None:
        if not all(math.isfinite(value) for value in position):
            raise MicroscopeError(f"the stage cannot go to {position}: give finite numbers")
