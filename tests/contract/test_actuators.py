import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from streamtrack.actuators.acquisition import MdaEvent
from streamtrack.actuators.autofocus import Autofocus
from streamtrack.actuators.camera import Exposure
from streamtrack.actuators.devices import Preset, Property, Shutter
from streamtrack.actuators.pulse import Pulse
from streamtrack.actuators.slm import Slm
from streamtrack.actuators.slm_calibration import SlmCalibration
from streamtrack.actuators.stage import Focus, Stage
from streamtrack.actuators.webhook import Webhook
from streamtrack.testing.actuators import EVERYTHING, ActuatorTests
from streamtrack.testing.microscope import SimulatedMicroscope


class TestProperty(ActuatorTests):
    names_devices = True
    actions = ({"value": 20}, {"value": "5"}, {"value": True}, {})
    wrong_actions = ({"value": [1, 2]}, {"power": 20}, {"value": 1, "device": "Stage"})

    def make_actuator(self, microscope):
        return Property(microscope=microscope, device="Laser", property="Power", value=1.5)


class TestPreset(ActuatorTests):
    names_devices = True
    actions = ({"preset": "Red"}, {})
    wrong_actions = ({"preset": 5}, {"channel": "Red"}, {"preset": "Red", "group": "Laser"})

    def make_actuator(self, microscope):
        return Preset(microscope=microscope, group="Channel", preset="Green")


class TestShutter(ActuatorTests):
    names_devices = True
    actions = ({"opened": True}, {"pulse_ms": 5})
    wrong_actions = ({}, {"opened": "yes"}, {"opened": 1}, {"pulse_ms": 0}, {"pulse_ms": 1e6}, {"pulse_ms": "long"})

    def make_actuator(self, microscope):
        return Shutter(microscope=microscope, device="Shutter")


class TestPulse(ActuatorTests):
    names_devices = True
    actions = ({"pulse_ms": 5}, {})
    wrong_actions = ({"pulse_ms": 0}, {"pulse_ms": 1e6}, {"pulse_ms": "long"}, {"opened": True})
    safety = EVERYTHING.model_copy(update={"properties": ("TTL.State", "TTL.Length"), "pulse_ms": (0, 100)})

    def make_actuator(self, microscope):
        settings = {"device": "TTL", "fire": "State", "on": 1, "off": 0, "length": "Length", "unit": "us"}
        return Pulse(microscope=microscope, pulse_ms=1, **settings)

    def make_microscope(self):
        return SimulatedMicroscope(properties={"TTL.State": "0", "TTL.Length": "0"})


class TestExposure(ActuatorTests):
    actions = ({"exposure_ms": 5}, {"exposure_ms": 0.5}, {})
    wrong_actions = ({"exposure_ms": "short"}, {"exposure_s": 1}, {"exposure_ms": True})

    def make_actuator(self, microscope):
        return Exposure(microscope=microscope, exposure_ms=20)


class TestStage(ActuatorTests):
    actions = ({"to": [5, -5]}, {"by": [1.5, 0]})
    wrong_actions = (
        {},
        {"to": 5},
        {"to": [1, 2, 3]},
        {"by": ["a", "b"]},
        {"centre": False},
        {"to": [0, 0], "by": [1, 1]},
    )

    def make_actuator(self, microscope):
        return Stage(microscope=microscope)


class TestStageCentring(ActuatorTests):
    actions = ({"centre": True},)
    wrong_actions = ({"center": True}, {"centre": [5, 5]})

    def make_actuator(self, microscope):
        return Stage(microscope=microscope, settle_ms=0, gain=0.5, max_move_um=2)

    def make_microscope(self):
        microscope = super().make_microscope()
        microscope.set_exposure_ms(0)  # no frame is ever older than a move: every command is carried out
        microscope.calls.clear()
        return microscope


class TestFocus(ActuatorTests):
    actions = ({"to": 5}, {"by": -1.5})
    wrong_actions = ({}, {"to": [1, 2]}, {"by": True}, {"centre": 1.5})

    def make_actuator(self, microscope):
        return Focus(microscope=microscope)


class TestSlm(ActuatorTests):
    names_devices = True
    actions = ({}, {"radius_px": 3, "inner_px": 1, "intensity": 20, "for_ms": 2})
    wrong_actions = (
        {"radius_px": 0},
        {"inner_px": 5},
        {"intensity": 300},
        {"intensity": 2.5},
        {"for_ms": "long"},
        {"for_ms": True},
        {"radius": 3},
    )

    @pytest.fixture(autouse=True)
    def _calibrated(self, tmp_path):
        self.path = tmp_path / "slm.json"
        matrix = np.array([[0.6, 0.0, 2.0], [0.0, 0.6, 3.0]])
        SlmCalibration("SLM", (48, 64), (64, 96), matrix, 0.1, {}).write(self.path)

    def make_actuator(self, microscope):
        return Slm(microscope=microscope, device="SLM", calibration=self.path, radius_px=4, for_ms=2)


class TestAutofocus(ActuatorTests):
    actions = ({"full": True}, {"incremental": True})
    wrong_actions = ({}, {"full": 1}, {"full": False}, {"to": 5}, {"full": True, "incremental": True})

    def make_actuator(self, microscope):
        return Autofocus(microscope=microscope, rest_s=0)


class TestMdaEvent(ActuatorTests):
    actions = ({"exposure": 5, "x_pos": 1, "channel": "Red"}, {"metadata": {"why": "burst"}}, {})
    wrong_actions = (
        {"slm_image": 1},
        {"action": "autofocus"},
        {"keep_shutter_open": True},
        {"metadata": 5},
        {"exposure": "short"},
        {"properties": [["Laser.Power", 5]]},
    )

    def make_actuator(self, microscope):
        return MdaEvent(microscope=microscope, repeats=3)


class TestWebhook(ActuatorTests):
    actions = ({}, {"text": "it moves"})
    wrong_actions = ({"number": float("nan")},)

    @pytest.fixture(autouse=True)
    def receiver(self):
        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}/events"
            yield
            server.shutdown()
            thread.join(10)

    def make_actuator(self, microscope):
        return Webhook(url=self.url)
