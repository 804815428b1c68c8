from pathlib import Path

import pytest

from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.testing.microscopes import MicroscopeTests


class TestSimulatedMicroscope(MicroscopeTests):
    a_property = ("Laser", "Power", "0", "5")
    a_group = ("Channel", "Green", "Red")
    a_shutter = "Shutter"

    def make_microscope(self):
        return SimulatedMicroscope()


class TestMicroManager(MicroscopeTests):
    a_property = ("LED", "State", "0", "4")
    a_group = ("Channel", "DAPI", "FITC")
    a_shutter = "White Light Shutter"

    def make_microscope(self):
        pytest.importorskip("pymmcore")
        pytest.importorskip("mm_test_adapters")
        from streamtrack_drivers.micromanager.core import MicroManager

        return MicroManager(config=Path("MMConfig_demo.cfg"))
