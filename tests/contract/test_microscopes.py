from pathlib import Path

import pytest

from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.testing.microscopes import MicroscopeTests


class TestSimulatedMicroscope(MicroscopeTests):
    a_property = ("Laser", "Power", "0", "5")
    a_group = ("Channel", "Green", "Red")
    a_shutter = "Shutter"
    an_slm = "SLM"

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


class TestMicroManagerWithSlm(MicroscopeTests):
    """Its core has devices in Python, too."""

    a_property = ("LED", "State", "0", "4")
    a_group = ("Channel", "DAPI", "FITC")
    a_shutter = "White Light Shutter"
    an_slm = "SLM"

    def make_microscope(self):
        from slm_rig import core_with_slm

        from streamtrack_drivers.micromanager.core import MicroManager

        microscope = MicroManager.around(core_with_slm()[0])
        microscope.core.setCameraDevice("Camera")
        return microscope
