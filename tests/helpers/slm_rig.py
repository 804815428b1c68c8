"""A camera that sees what a spatial light modulator lights: devices in Python, beside Micro-Manager's demo devices."""

import threading
import time

import numpy as np
import pytest

unicore = pytest.importorskip("pymmcore_plus.experimental.unicore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

SLM_SHAPE, CAMERA_SHAPE = (48, 64), (128, 160)
TO_CAMERA = np.array([[2.1, 0.25, 12.0], [-0.2, -2.2, 118.0]])
"""From (x, y, 1) of the modulator to x, y of the image, px: turned, stretched, and mirrored."""
SPOTS = ((40.0, 50.0), (90.0, 110.0), (60.0, 30.0))
"""y, x of particles that stand still, px of the camera."""


class Projector(unicore.SLMDevice):
    """A modulator that shows an image when it is told to display, as Micro-Manager's do."""

    def __init__(self):
        super().__init__()
        self._waiting = np.zeros(SLM_SHAPE, np.uint8)
        self.shown = self._waiting
        self.history = []
        self.exposure_ms = 0.0
        self.delay_s = 0.0
        self.faults = []

    def shape(self):
        return SLM_SHAPE

    def dtype(self):
        return np.uint8

    def set_image(self, pixels):
        if self.faults:
            raise self.faults.pop(0)
        self._waiting = np.array(pixels)

    def display_image(self):
        time.sleep(self.delay_s)
        self.shown = self._waiting
        self.history.append((time.monotonic(), int(np.count_nonzero(self.shown)), int(self.shown.max())))

    def set_exposure(self, interval_ms):
        self.exposure_ms = interval_ms

    def get_exposure(self):
        return self.exposure_ms

    @property
    def is_dark(self):
        return not self.shown.any()


class Watcher(unicore.CameraDevice):
    """Sees the modulator through ``transform`` on a noisy background, and spots that stand still."""

    def __init__(self, projector, spots=()):
        super().__init__()
        self.projector, self.spots = projector, spots
        self.transform = TO_CAMERA
        self.exposure = 5.0
        self.bright = 1.0
        self._rng = np.random.default_rng(0)
        self._lock = threading.Lock()

    def get_exposure(self):
        return self.exposure

    def set_exposure(self, exposure):
        self.exposure = exposure

    def shape(self):
        return CAMERA_SHAPE

    def dtype(self):
        return np.uint16

    def image(self):
        """Return what it sees now."""
        y, x = np.indices(CAMERA_SHAPE)
        lit_y, lit_x = np.nonzero(self.projector.shown)
        image = np.full(CAMERA_SHAPE, 100.0)
        to_x, to_y = self.transform @ np.stack((lit_x, lit_y, np.ones(len(lit_x))))
        values = self.projector.shown[lit_y, lit_x].astype(float)
        inside = (to_x > -20) & (to_x < CAMERA_SHAPE[1] + 20) & (to_y > -20) & (to_y < CAMERA_SHAPE[0] + 20)
        for at_x, at_y, value in zip(to_x[inside], to_y[inside], values[inside], strict=True):
            image += self.bright * value * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 1.5**2))
        for at_y, at_x in self.spots:
            image += 400 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 1.4**2))
        with self._lock:
            return self._rng.poisson(image).astype(np.uint16)

    def start_sequence(self, n, get_buffer):
        shot = 0
        while n is None or shot < n:
            time.sleep(self.exposure / 1000)
            get_buffer(CAMERA_SHAPE, np.uint16)[:] = self.image()
            shot += 1
            yield {}


def core_with_slm(spots=()):
    """Return a core with a modulator ``SLM`` and a camera that sees it, and both devices."""
    core = unicore.UniMMCore()
    core.loadSystemConfiguration()
    projector = Projector()
    watcher = Watcher(projector, spots)
    for label, device in (("SLM", projector), ("Watcher", watcher)):
        core.loadPyDevice(label, device)
        core.initializeDevice(label)
    core.setCameraDevice("Watcher")
    core.setSLMDevice("SLM")
    return core, projector, watcher
