import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack.testing.microscopes import MicroscopeTests

pytest.importorskip("zmq")
import zmq

from streamtrack_drivers.micromanager.bridge import PycroManager


class TestConformance(MicroscopeTests):
    a_property = ("LED", "State", "0", "4")
    a_group = ("Channel", "DAPI", "FITC")
    a_shutter = "White Light Shutter"

    @pytest.fixture
    def microscope(self, micromanager):
        microscope = PycroManager(port=micromanager.port)
        yield microscope
        microscope.close()


OFFICIAL_CLIENT = """
import sys
from pycromanager import Core
core = Core(port=int(sys.argv[1]), new_socket=True)
core.get_version_info()
core.set_exposure(7.0)
core.set_property("Camera", "Gain", "2")
core.set_shutter_open("White Light Shutter", True)
core.set_xy_position(3.0, 4.0)
core.set_config("Channel", "DAPI")
"""


@pytest.fixture
def core(microscope):
    """A second connection, as somebody else at the microscope would have it."""
    close, core = microscope.open_core()
    yield core
    close()


def test_writes_reach_the_devices(microscope, core):
    microscope.set_property("Camera", "Gain", "3")
    assert core.getProperty("Camera", "Gain") == "3"
    microscope.set_shutter("White Light Shutter", True)
    assert core.getProperty("White Light Shutter", "State") == "1"
    microscope.set_exposure_ms(5)
    assert microscope.exposure_ms() == 5.0
    microscope.move_focus_um(12.5)
    assert microscope.focus_um() == pytest.approx(12.5, abs=0.1)
    microscope.set_preset("Channel", "DAPI")
    assert core.getProperty("Dichroic", "Label") == "400DCLP"


def test_a_move_is_over_when_the_stage_has_arrived(microscope, core):
    microscope.move_stage_um(120.0, -40.0)
    assert not core.deviceBusy("XY")
    assert microscope.stage_um() == pytest.approx((120.0, -40.0), abs=0.1)


def test_the_stage_goes_where_it_was_measured_to_and_binning_counts(microscope, micromanager):
    with pytest.raises(MicroscopeError, match="never measured: run 'streamtrack calibrate stage"):
        microscope.stage_um_per_px()  # the demo's transform is no more than its pixel size
    measured = PycroManager(port=micromanager.port, stage_um_per_px=[[0.0, -0.5], [0.5, 0.0]])
    measured.set_property("Camera", "Binning", "2")
    np.testing.assert_allclose(measured.stage_um_per_px(), [[0.0, -1.0], [1.0, 0.0]])
    measured.close()


def test_the_report_names_versions_and_devices(microscope):
    assert microscope.info["core"].startswith("MMCore")
    assert microscope.info["camera"] == "Camera"
    assert microscope.info["protocol"] == "5.1.0"


def test_a_refused_call_is_one_line_and_does_not_end_the_connection(microscope):
    with pytest.raises(MicroscopeError, match="Binning") as caught:
        microscope.set_property("Camera", "Binning", "7")
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(MicroscopeError, match="NoSuch"):
        microscope.set_preset("Channel", "NoSuch")
    assert microscope.exposure_ms() == 10.0


def test_a_stage_that_does_not_arrive_is_named_and_stopped(micromanager):
    microscope = PycroManager(port=micromanager.port, timeout_s=0.2)
    _, core = microscope.open_core()
    core.setProperty("XY", "Velocity", "0.1")  # um/ms
    with pytest.raises(MicroscopeError, match=r"XY is still busy after 0.2 s; raise timeout_s"):
        microscope.move_stage_um(1000.0, 0.0)
    assert core.deviceBusy("XY") is False, "it would have moved for 10 s"
    assert microscope.exposure_ms() == 10.0, "other calls are still answered"
    microscope.close()


def test_a_call_does_not_wait_behind_another_sockets_long_call(microscope, core):
    core.setExposure(1500.0)
    thread = threading.Thread(target=core.snapImage, daemon=True)
    thread.start()
    time.sleep(0.2)
    microscope.set_property("Core", "TimeoutMs", "4000")  # the camera's own adapter is busy, whoever asks
    assert thread.is_alive(), "the answer came while the long call was under way"
    thread.join(10)


def test_without_a_micromanager_the_cure_is_said_soon():
    began = time.monotonic()
    with pytest.raises(MicroscopeError, match=r"no Micro-Manager answers on port 1: .*pycro-manager server"):
        PycroManager(port=1, timeout_s=60.0)
    assert time.monotonic() - began < 30, "nobody listens: there is nothing to wait for"


@pytest.mark.parametrize("settings", [{"port": 99999}, {"timeout_s": 0.0}, {"timeout_s": float("nan")}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=r"(port|timeout_s) = "):
        PycroManager(**settings)


def test_a_micromanager_that_dies_in_mid_call_ends_the_call_and_all_later_ones(micromanager):
    microscope = PycroManager(port=micromanager.port, timeout_s=1.0)
    _, core = microscope.open_core()
    core.setExposure(900.0)
    errors = []

    def snap():
        try:
            core.snapImage()
        except MicroscopeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=snap, daemon=True)
    thread.start()
    time.sleep(0.2)
    micromanager.kill()
    thread.join(5)
    assert errors == ["Micro-Manager did not answer snapImage within 1 s: is it still running?"]
    with pytest.raises(MicroscopeError, match="within 1 s"):
        microscope.exposure_ms()
    threads = threading.active_count()
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(MicroscopeError, match=r"was not called: .* start Micro-Manager and streamtrack again"):
            microscope.set_property("Core", "TimeoutMs", "4000")  # the camera's own adapter is busy, whoever asks
    assert time.monotonic() - began < 10, "to wait for the answers would take 20 s"
    assert threading.active_count() == threads
    microscope.close()
    microscope.close()


def test_a_process_whose_micromanager_died_can_end(micromanager):
    program = (
        "import sys; from streamtrack_drivers.micromanager.bridge import PycroManager;"
        "m = PycroManager(port=int(sys.argv[1]), timeout_s=1.0); print('open', flush=True); sys.stdin.readline()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(micromanager.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    micromanager.kill()
    process.communicate("go\n", timeout=20)
    assert process.returncode == 0


def test_another_version_of_the_protocol_is_named():
    server = zmq.Context.instance().socket(zmq.REP)
    port = server.bind_to_random_port("tcp://127.0.0.1")

    def answer():
        server.recv()
        server.send(json.dumps({"type": "none", "version": "4.0.0"}).encode())

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    with pytest.raises(MicroscopeError, match=r"speaks protocol 4\.0\.0, not 5\.x: install"):
        PycroManager(port=port)
    thread.join(5)
    server.close()


def test_the_messages_are_those_of_pycromanagers_own_client(start_micromanager, tmp_path):
    """What the real server understands is what its own client sends."""
    pytest.importorskip("pycromanager")
    standin = start_micromanager("--log", tmp_path / "requests.jsonl")
    subprocess.run([sys.executable, "-c", OFFICIAL_CLIENT, str(standin.port)], check=True, timeout=60)
    official = {message["command"]: message for message in _requests(tmp_path)}
    official_calls = {message["name"]: message for message in _requests(tmp_path) if "name" in message}
    (tmp_path / "requests.jsonl").unlink()
    microscope = PycroManager(port=standin.port)
    microscope.set_exposure_ms(7)
    microscope.set_property("Camera", "Gain", "2")
    microscope.set_shutter("White Light Shutter", True)
    microscope.move_stage_um(3, 4)
    microscope.set_preset("Channel", "DAPI")
    microscope.close()
    ours = {message["command"]: message for message in _requests(tmp_path)}
    our_calls = {message["name"]: message for message in _requests(tmp_path) if "name" in message}
    assert {name: our_calls[name] for name in official_calls} == official_calls
    for command in ("connect", "constructor", "destructor"):
        assert ours[command] == official[command]


def _requests(folder):
    time.sleep(0.2)  # the log is written after the answer
    messages = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    return [{**message, "hash-code": "..."} if "hash-code" in message else message for message in messages]


def test_without_an_acquisition_events_are_refused_with_the_cure(microscope):
    with pytest.raises(MicroscopeError, match="Tap"):
        microscope.add_event({"exposure": 5.0})
    taken = []
    microscope.hand_events_to(taken.append)
    microscope.add_event({"exposure": 5.0})
    assert taken == [{"exposure": 5.0}]
