"""A microscope with light, behind a guard whose clock stands still."""

from streamtrack.actuators.guard import Guard
from streamtrack.config import SafetyConfig
from streamtrack.testing import FakeClock
from streamtrack.testing.microscope import SimulatedMicroscope

MS = 1_000_000


class Rig:
    """A microscope with two shutters, a lamp, and two channels, behind a guard whose clock stands still."""

    def __init__(self, most_ms=100.0, *, lamp="0", channel="Green", mode="armed", **safety):
        self.clock = FakeClock()
        self.microscope = SimulatedMicroscope(
            properties={"Lamp.Power": lamp, "Lamp.Label": "Green", "Camera.Gain": "1", "TTL.State": "1"},
            presets={"Channel": (channel, *({"Green", "Red", "Off"} - {channel}))},
            shutters=("One", "Two"),
            exposure_ms=10,
        )
        self.safety = SafetyConfig(
            **{
                "properties": ("Lamp.Power", "Lamp.Label", "Camera.Gain", "TTL.State"),
                "presets": ("Channel",),
                "shutters": ("One", "Two"),
                "light": ("Lamp", "Channel"),
                "exposure_ms": (0, 1000),
                "pulse_ms": (0, 1000),
                "slms": ("SLM",),
                "slm_area_px2": 10,
                "slm_intensity": 255,
                "max_dose_ms": most_ms,
                **safety,
            }
        )
        self.guard = Guard(self.microscope, self.safety, mode, self.clock)
        self.guard._alarm.look_again = lambda: None  # its thread knows another clock: the tests ring themselves

    def wait(self, ms):
        self.clock.advance(round(ms * MS))

    @property
    def used_ms(self):
        return self.guard.light()["used_ms"]
