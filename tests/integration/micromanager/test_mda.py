import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, MicroscopeError, StreamtrackError

pytest.importorskip("mm_test_adapters")
pytest.importorskip("pymmcore_plus")

import useq
from pymmcore_plus import CMMCorePlus

from streamtrack.feed import NOT_HANDED_OVER
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
    engine = {"kind": "brightest", "dtype": "uint16", "threshold": 60_000}
    config = RunConfig.model_validate({"engine": engine, "sinks": [{"kind": "memory"}], **tables})
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
        assert time.monotonic() - began > 0.3


def test_a_cancelled_acquisition_does_not_wait_for_events(tmp_path, core):
    with make_tap(tmp_path, core) as tap:
        threading.Timer(0.5, core.mda.cancel).start()
        began = time.monotonic()
        run(core, tap.events(loops(2), hold_s=25.0))
        assert time.monotonic() - began < 20


def test_frames_of_other_events_are_left_out_and_not_missed(tmp_path, core):
    sequence = useq.MDASequence(time_plan={"interval": 0, "loops": 5}, channels=["DAPI", "FITC"])

    def is_dapi(event):
        return event.channel.config == "DAPI"

    with make_tap(tmp_path, core, only=is_dapi, ingest={"policy": "block"}) as tap:
        run(core, sequence)
    assert tap.report["status"] == "completed"
    assert tap.report["frames"]["processed"] == 5


EVERYTHING = {
    "channels": ["DAPI", "FITC"],
    "stage_positions": [(0, 0, 0), useq.Position(x=40, y=25, z=0, name="cell 2")],
    "z_plan": {"range": 2, "step": 1},
    "time_plan": {"interval": 0, "loops": 6},
}


def acquisition(axis_order="tpcz", **changes):
    return useq.MDASequence(axis_order=axis_order, **{**EVERYTHING, **changes})


def refused(tap, core, events):
    """Run an acquisition beside a run that fails; return the run's error, which is one line."""
    acquired = []
    core.mda.events.frameReady.connect(lambda image, event, meta: acquired.append(event))
    run(core, events)
    with pytest.raises(StreamtrackError) as caught:
        tap.close()
    assert core.mda.status.finish_reason == "completed", "the acquisition is left alone"
    assert len(acquired) > 1
    assert tap.report["status"] == "failed"
    assert tap.report["error"] == str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("axis_order", ["tpcz", "ptzc", "pctz"])
def test_an_acquisition_of_several_streams_is_refused_before_its_first_frame(tmp_path, core, axis_order):
    tap = make_tap(tmp_path, core)
    error = refused(tap, core, acquisition(axis_order, time_plan={"interval": 0, "loops": 2}))
    assert "p: 0, 1 (cell 2)" in error
    assert "c: DAPI, FITC" in error
    assert "z: 0, 1, 2" in error
    assert "'c': 'DAPI'" in error
    assert tap.report["frames"]["in"] == 0


@pytest.mark.parametrize(
    ("only", "axis_order"),
    [
        ({"c": "FITC", "z": 2, "p": "cell 2"}, "tpcz"),
        ({"channel": 1, "z": 2, "position": 1}, "ptzc"),
        (lambda event: (event.channel.config, event.index["z"], event.pos_name) == ("FITC", 2, "cell 2"), "pctz"),
    ],
)
def test_the_chosen_stream_alone_is_tracked_at_its_times(tmp_path, core, only, axis_order):
    stamps = []

    def note(image, event, meta):
        if event.channel.config == "FITC" and event.index["z"] == 2 and event.index["p"] == 1:
            stamps.append(time.perf_counter())

    with make_tap(tmp_path, core, only=only, ingest={"policy": "block"}) as tap:
        core.mda.events.frameReady.connect(note)
        run(core, acquisition(axis_order))
    report = tap.report
    assert report["status"] == "completed"
    assert report["source"]["details"]["stream"] == {"p": 1, "c": "FITC", "z": 2, "camera": "Camera"}
    assert report["source"]["details"]["left_out"] == 66
    assert [frame.index for frame in tracked()] == [0, 1, 2, 3, 4, 5]
    times_s = [frame.time_s for frame in tracked()]
    assert times_s == sorted(times_s)
    steps_s, true_s = np.diff(times_s), np.diff(stamps)
    assert np.median(np.abs(steps_s - true_s)) < 0.05, "a twelfth of a time point"


@pytest.mark.parametrize(
    ("only", "error"),
    [
        ({"c": "FITZ", "p": 0, "z": 0}, r"no c = 'FITZ' .*\(it has c: DAPI, FITC\); did you mean 'FITC'\?"),
        ({"c": "DAPI", "p": 2, "z": 0}, r"no p = 2 .*\(it has p: 0, 1 \(cell 2\)\)"),
        ({"canal": "DAPI"}, "no axis 'canal'; it has p, c, z"),
        ({"c": "DAPI", "p": 0}, r"several streams .*z: 0, 1, 2.*only=\{'c': 'DAPI', 'p': 0, 'z': 0\}"),
        (lambda event: event.channel.config == "DAPI", "several streams .*'z': 0"),
        (lambda event: event.chanel.config == "DAPI", "only failed, AttributeError: .*chanel"),
        (lambda event: False, "chose none of 24 images"),
    ],
)
def test_a_choice_that_makes_no_single_stream_is_the_runs_error(tmp_path, core, only, error):
    tap = make_tap(tmp_path, core, only=only)
    assert re.search(error, refused(tap, core, acquisition(time_plan={"interval": 0, "loops": 2})))


@pytest.mark.parametrize("only", [{"t": 3}, {"c": 1.5}, ["DAPI"], "DAPI"])
def test_what_is_no_choice_is_refused_at_once(tmp_path, core, only):
    with pytest.raises(ConfigError, match=r"for each axis|all times of a stream"):
        make_tap(tmp_path, core, only=only)


@pytest.mark.parametrize("lone", ["channels", "stage_positions", "z_plan"])
def test_axes_of_length_1_mix_nothing(tmp_path, core, lone):
    one = {"channels": ["DAPI"], "stage_positions": [(0, 0, 0)], "z_plan": {"relative": [0]}}
    with make_tap(tmp_path, core, ingest={"policy": "block"}) as tap:
        run(core, useq.MDASequence(time_plan=EVERYTHING["time_plan"], **{lone: one[lone]}))
    assert tap.report["status"] == "completed"
    assert tap.report["frames"]["processed"] == 6


def test_events_one_by_one_are_refused_at_the_second_stream(tmp_path, core):
    tap = make_tap(tmp_path, core)
    error = refused(tap, core, list(acquisition("tpzc")))
    assert "(c: DAPI, FITC)" in error
    assert tap.report["frames"]["in"] <= 1


def test_a_plan_that_goes_through_the_tap_is_looked_at_before_the_first_frame(tmp_path, core):
    tap = make_tap(tmp_path, core)
    assert "c: DAPI, FITC" in refused(tap, core, tap.events(acquisition(), hold_s=0.0))
    assert tap.report["frames"]["in"] == 0


@pytest.mark.parametrize(
    "places",
    [
        [{"channel": "DAPI"}, {"channel": "FITC"}],
        [{"x_pos": 0, "y_pos": 0}, {"x_pos": 500, "y_pos": 0}],
        [{"z_pos": 0}, {"z_pos": 5}],
        [{"pos_name": "a"}, {"pos_name": "b"}],
        [{"index": {"t": 0, "g": 0}}, {"index": {"t": 0, "g": 1}}],
    ],
)
def test_events_without_a_plan_mix_streams_too(tmp_path, core, places):
    tap = make_tap(tmp_path, core)
    error = refused(tap, core, [useq.MDAEvent(**place) for place in places * 3])
    assert "several streams" in error


def test_tiles_of_a_grid_within_a_position_are_streams(tmp_path, core):
    tiles = useq.MDASequence(grid_plan={"rows": 1, "columns": 2})
    positions = [useq.Position(x=0, y=0, sequence=tiles)]
    plan = useq.MDASequence(stage_positions=positions, time_plan=EVERYTHING["time_plan"])
    assert "'g': 0" in refused(make_tap(tmp_path / "both", core), core, plan)
    with make_tap(tmp_path / "one", core, only={"g": 1}, ingest={"policy": "block"}) as tap:
        run(core, plan)
    assert tap.report["frames"]["processed"] == 6


def test_a_channel_that_is_taken_now_and_then_misses_nothing(tmp_path, core):
    channels = ["DAPI", {"config": "FITC", "acquire_every": 2}]
    plan = useq.MDASequence(channels=channels, time_plan=EVERYTHING["time_plan"])
    with make_tap(tmp_path, core, only={"c": "FITC"}, ingest={"policy": "block"}) as tap:
        run(core, plan)
    assert tap.report["status"] == "completed"
    assert [frame.index for frame in tracked()] == [0, 1, 2]


@pytest.mark.parametrize("planned", [True, False])
def test_times_of_snaps_are_those_of_the_runner_however_late_they_come(tmp_path, core, planned):
    """A slow stage that is asked for its position, or another listener, delays them by more than a frame."""
    taken_s = []

    def dawdle(image, event, meta):
        taken_s.append(meta["runner_time_ms"] / 1e3)
        time.sleep(0.05 * (len(taken_s) % 2))

    core.mda.events.frameReady.connect(dawdle)
    plan = useq.MDASequence(time_plan={"interval": 0.08, "loops": 6})
    with make_tap(tmp_path, core, ingest={"policy": "block"}):
        for _ in range(2):
            run(core, plan if planned else list(plan))
    times_s = [frame.time_s for frame in tracked()]
    for acquisition_ in (slice(0, 6), slice(6, 12)):
        np.testing.assert_allclose(np.diff(times_s[acquisition_]), np.diff(taken_s[acquisition_]), atol=1e-5)
    assert times_s[6] - times_s[5] > 0, "the second begins after the first"


def test_a_second_acquisition_of_another_stream_is_refused(tmp_path, core):
    tap = make_tap(tmp_path, core)
    run(core, acquisition(channels=["DAPI"], stage_positions=[], z_plan=None))
    assert "c: DAPI, FITC" in refused(tap, core, acquisition(channels=["FITC"], stage_positions=[], z_plan=None))


def test_frames_that_are_lost_within_the_stream_are_counted_and_those_of_others_are_not(tmp_path, core):
    with make_tap(tmp_path, core, only={"c": "FITC"}, ingest={"policy": "block"}) as tap:
        source, push = tap._source, tap._source.push

        def lossy(image, tags, where, asked, values):
            at = asked.index["t"], asked.channel.config
            if at not in ((2, "FITC"), (3, "FITC"), (4, "DAPI")):
                push(image, tags, where, asked, values)

        source.push = lossy
        run(core, acquisition(stage_positions=[], z_plan=None))
    assert [frame.index for frame in tracked()] == [0, 1, 4, 5]
    assert tap.report["frames"]["lost_frames"] == [{"first": 2, "last": 3, "cause": NOT_HANDED_OVER}]


def test_an_event_that_a_trigger_adds_is_of_the_stream_that_the_devices_are_at(tmp_path, core):
    added = {"exposure": 6.0, "metadata": {"streamtrack": {}}}
    two = useq.MDASequence(channels=["DAPI", "FITC"], time_plan={"interval": 0, "loops": 2})
    with make_tap(tmp_path, core, only={"c": "DAPI"}, ingest={"policy": "block"}) as tap:
        events = []
        for event in tap.events(two, hold_s=0.0):
            events.append(event)
            if len(events) in (1, 3):  # after DAPI, after what was added
                tap._add_event({**added, "x_pos": 10.0 * len(events)})
        run(core, events)
    assert [event.channel.config if event.channel else "added" for event in events] == [
        *("DAPI", "added", "FITC", "added", "DAPI", "FITC")
    ]
    assert tap.report["frames"]["processed"] == 3
    assert tap.report["source"]["details"]["left_out"] == 3


@pytest.fixture
def two_cameras(core):
    """Both as one device, as the core has them."""
    core.loadDevice("Second", "DemoCamera", "DCam")
    core.loadDevice("Both", "Utilities", "Multi Camera")
    for device in ("Second", "Both"):
        core.initializeDevice(device)
    for name, value in {"OnCameraCCDXSize": "128", "OnCameraCCDYSize": "96", "PixelType": "16bit"}.items():
        core.setProperty("Second", name, value)
    core.setProperty("Both", "Physical Camera 1", "Camera")
    core.setProperty("Both", "Physical Camera 2", "Second")
    core.setCameraDevice("Both")
    core.setExposure(10.0)
    return core


@pytest.mark.parametrize("interval", [0, 0.05])
def test_two_cameras_are_refused_unless_one_is_chosen(tmp_path, two_cameras, interval):
    """As a hardware sequence, and as single events."""
    plan = useq.MDASequence(time_plan={"interval": interval, "loops": 6})
    error = refused(make_tap(tmp_path / "both", two_cameras), two_cameras, plan)
    assert "camera: Camera, 1 (Second)" in error
    for only in ({"camera": "Second"}, {"camera": 1}, {"cam": 1}):
        with make_tap(tmp_path / f"{only}", two_cameras, only=only, ingest={"policy": "block"}) as tap:
            run(two_cameras, plan)
        assert tap.report["status"] == "completed"
        assert tap.report["frames"]["processed"] == 6
        assert tap.report["source"]["details"]["left_out"] == 6


def test_the_refusal_is_told_while_the_acquisition_runs(tmp_path, core, capfd):
    with make_tap(tmp_path, core) as tap:
        run(core, acquisition(time_plan={"interval": 0, "loops": 1}))
        tap._thread.join(TIMEOUT_S)
        assert "several streams" in capfd.readouterr().err
        with pytest.raises(StreamtrackError):
            tap.close()


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


def test_frames_say_where_the_stage_was(tmp_path, core):
    """And the linker is told how far the image went with it."""
    places = [useq.MDAEvent(index={"t": n}, x_pos=10.0 * n, y_pos=-5.0 * n) for n in range(3)]
    with make_tap(tmp_path, core, microscope={"kind": "pycromanager", "stage_um_per_px": [0.5, 0.5]}) as tap:
        run(core, places)
    said = [(each.values["stage_x_um"], each.values["stage_y_um"]) for each in tracked()]
    np.testing.assert_allclose(said, [(0, 0), (10, -5), (20, -10)], atol=0.1)  # in steps of the motor
    assert tap.report["linker"]["shifts_told"] == 2
