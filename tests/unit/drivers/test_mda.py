import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import MicroscopeError, StreamtrackError

pytest.importorskip("mm_test_adapters")
pytest.importorskip("pymmcore_plus")

import useq
from pymmcore_plus import CMMCorePlus

from streamtrack_drivers.micromanager.mda import MdaTap

EVERY_FRAME_ADDS = {
    "mode": "armed",
    "triggers": [{"kind": "every", "do": "more", "action": {"exposure": 6.0}}],
    "actuators": {"more": {"kind": "mda_event"}},
    "safety": {"exposure_ms": [1, 100]},
}
TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def _lab(lab_plugins):
    """The lab's sink keeps the results."""


@pytest.fixture
def core():
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    for name, value in {"OnCameraCCDXSize": "128", "OnCameraCCDYSize": "96", "PixelType": "16bit"}.items():
        core.setProperty("Camera", name, value)
    core.setCircularBufferMemoryFootprint(32)
    core.setExposure(10.0)
    yield core
    core.mda.cancel()
    core.unloadAllDevices()


def make_tap(folder, core, *, only=None, **tables):
    config = RunConfig.model_validate({"sinks": [{"kind": "memory"}], **tables})
    return MdaTap(config, folder, core=core, only=only)


def loops(n):
    return useq.MDASequence(time_plan={"interval": 0, "loops": n})


def run(core, events):
    thread = core.run_mda(events)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive(), "the acquisition hangs"


def tracked():
    return [result.frame for result in sys.modules["lab_plugins"].Memory.kept]


def test_every_frame_of_a_hardware_sequence_arrives(tmp_path, core):
    with make_tap(tmp_path, core, ingest={"policy": "block"}) as tap:
        run(core, loops(30))
    assert tap.report["status"] == "completed", tap.report
    assert tap.report["frames"]["processed"] == 30
    assert [frame.index for frame in tracked()] == list(range(30))
    assert tap.report["microscope"]["camera"] == "Camera"


def test_every_frame_of_single_events_arrives(tmp_path, core):
    with make_tap(tmp_path, core, ingest={"policy": "block"}) as tap:
        run(core, tap.events(loops(10), hold_s=0.0))
    assert tap.report["frames"]["processed"] == 10
    assert core.mda.status.finish_reason == "completed"


def test_a_rule_adds_events_while_the_acquisition_runs(tmp_path, core):
    with make_tap(tmp_path, core, ingest={"policy": "block"}, **EVERY_FRAME_ADDS) as tap:
        exposures = []
        core.mda.events.frameReady.connect(lambda image, event, meta: exposures.append(meta["exposure_ms"]))
        thread = core.run_mda(tap.events(loops(3), hold_s=5.0))
        deadline = time.monotonic() + TIMEOUT_S
        while len(exposures) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        core.mda.cancel()
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert len(exposures) >= 10, "three were planned, each frame adds one"
    assert set(exposures) == {10.0, 6.0}


def test_a_burst_that_was_added_at_once_is_a_hardware_sequence(tmp_path, core):
    numbers = []

    def note(image, event, meta):
        numbers.append((meta.get("camera_metadata") or {}).get("ImageNumber"))

    with make_tap(tmp_path, core, ingest={"policy": "block"}) as tap:
        core.mda.events.frameReady.connect(note)
        events = tap.events(loops(1), hold_s=1.0)
        first = next(events)
        for _ in range(5):
            tap._add_event({"exposure": 6.0})
        run(core, iter([first, *events]))
    assert tap.report["frames"]["processed"] == 6
    assert numbers == [None, "0", "1", "2", "3", "4"], "a snap, then one sequence of the camera"


def test_the_acquisition_ends_when_nothing_is_added(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        began = time.monotonic()
        run(core, tap.events(loops(2), hold_s=0.3))
        assert 0.3 < time.monotonic() - began < 5


def test_a_cancelled_acquisition_does_not_wait_for_events(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        threading.Timer(0.5, core.mda.cancel).start()
        began = time.monotonic()
        run(core, tap.events(loops(2), hold_s=25.0))
        assert time.monotonic() - began < 10


def test_frames_of_other_events_are_left_out_and_not_missed(tmp_path, core):
    sequence = useq.MDASequence(time_plan={"interval": 0, "loops": 5}, channels=["DAPI", "FITC"])

    def is_dapi(event):
        return event.channel.config == "DAPI"

    with make_tap(tmp_path, core, only=is_dapi, ingest={"policy": "block"}) as tap:
        run(core, sequence)
    assert tap.report["status"] == "completed"
    assert tap.report["frames"]["processed"] == 5


def test_events_are_taken_only_while_the_acquisition_can_run_them(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        with pytest.raises(MicroscopeError, match=r"start it with core.run_mda\(tap.events"):
            tap._add_event({"exposure": 6.0})
        run(core, tap.events(loops(1), hold_s=0.0))
        with pytest.raises(MicroscopeError, match="longer hold_s"):
            tap._add_event({"exposure": 6.0})


def test_what_is_not_an_event_is_refused(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        events = tap.events(loops(1))
        next(events)
        with pytest.raises(MicroscopeError, match="not an event") as caught:
            tap._add_event({"exposure": "long"})
        assert len(str(caught.value).splitlines()) == 1
        events.close()


def test_a_failed_run_lets_the_acquisition_finish(tmp_path, core):
    tap = make_tap(tmp_path, core, sinks=[{"kind": "memory", "fail_in": "write"}])
    frames = []
    core.mda.events.frameReady.connect(lambda image, event, meta: frames.append(event))
    run(core, loops(30))
    assert len(frames) == 30
    assert core.mda.status.finish_reason == "completed"
    with pytest.raises(StreamtrackError, match="disk full"):
        tap.close()


def test_after_the_end_the_tap_hears_nothing_more(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        run(core, loops(3))
    run(core, loops(3))
    assert tap._source.info.details["after_the_end"] == 0


def test_the_example_runs(tmp_path):
    example = Path(__file__).parents[3] / "examples" / "pymmcore_plus_mda.py"
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "frames tracked" in done.stdout
    commands = [json.loads(line) for line in (tmp_path / "mda-results" / "commands.jsonl").read_text().splitlines()]
    assert [command["fate"] for command in commands][:1] == ["sent"]
