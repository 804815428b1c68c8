"""Micro-Manager's demo camera on its own core: it shows beads that move with the demo stage, 1 um per px."""

import pytest

pymmcore_plus = pytest.importorskip("pymmcore_plus", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

SIZE_PX = 256
UM_PER_PX = 1.0
"""What the beads go with."""


def core_with_beads(density, exposure_ms):
    """Yield a core of which the camera shows beads, and unload it: the body of a fixture."""
    core = pymmcore_plus.CMMCorePlus()
    core.loadSystemConfiguration()
    camera = {
        "OnCameraCCDXSize": SIZE_PX,
        "OnCameraCCDYSize": SIZE_PX,
        "PixelType": "16bit",
        "Mode": "Fluorescent Beads",
        "BeadDensity": density,
        "BeadSize": 1,
    }
    for name, value in camera.items():
        core.setProperty("Camera", name, value)
    core.setExposure(exposure_ms)
    yield core
    core.unloadAllDevices()
