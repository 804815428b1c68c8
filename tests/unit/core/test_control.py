"""Changes of a run while it runs. ``on_progress`` is called between two frames: what is asked for there is exact."""

import asyncio
import json
import re
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import zarr

from streamtrack.config import RunConfig
from streamtrack.control.requests import MOST_KEPT, MOST_WAITING, VALID_S, Asked, Changes, Made, Request
from streamtrack.errors import ConfigError, ControlRefused, StreamtrackError
from streamtrack.session import Session
from streamtrack.testing import FakeClock
from streamtrack.types import Frame, Stream
from streamtrack.waiting import set_within, within
from streamtrack_drivers.zarr_movie import ZarrSource

pytestmark = pytest.mark.usefixtures("lab_plugins")

EVERY_FRAME = {"kind": "every", "do": "memory", "confirmed": False, "max_per_minute": 10_000}


def make_session(folder, *, engine=None, overwrite=False, **tables):
    source = {"kind": "lab-camera", **tables.pop("source", {})}
    config = {"source": source, "engine": {"kind": "brightest"}, "sinks": [{"kind": "memory"}], **tables}
    return Session(RunConfig.model_validate(config), folder, engine=engine, overwrite=overwrite)


def run(session, at):
    """Run a session, and call what ``at`` says once so many frames are processed; return report and what calls gave."""
    given = {}

    def on_progress(progress):
        if progress.processed in at:
            given[progress.processed] = at[progress.processed](session.control)

    return session.run(on_progress), given


def kept():
    return sys.modules["lab_plugins"].Memory.kept


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "commands.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if "change" in line]


class Adjustable:
    """The brightest pixels, above a threshold in counts that can be set."""

    def __new__(cls):
        import lab_plugins

        class Engine(lab_plugins.BrightestPixels):
            @property
            def threshold(self):
                return self._threshold

            def set_threshold(self, value):
                if not value > 0:
                    raise ConfigError(f"threshold = {value} must be above 0")
                self._threshold = value

        return Engine(threshold=50.0)


def test_a_paused_rule_gives_no_commands_from_the_next_frame_on_and_what_it_sees_is_counted(tmp_path):
    at = {5: lambda control: control.pause("every", "page"), 12: lambda control: control.resume("every", "terminal")}
    report, given = run(make_session(tmp_path / "out", triggers=[EVERY_FRAME]), at)
    assert [result.frame.index for result in kept() if result.commands] == [*range(5), *range(12, 20)]
    assert report["rules"]["every"]["held_back_paused"] == 7
    assert report["rules"]["every"]["last_fired_frame"] == 19
    assert report["changes"] == [given[5].wait(), given[12].wait()]
    paused, resumed = lines_of(tmp_path / "out")
    assert [paused, resumed] == report["changes"]
    assert paused.pop("time").endswith("+00:00")
    wanted = {"fate": "done", "change": "paused", "rule": "every", "frame": 5, "before": False, "after": True}
    assert paused == {**wanted, "who": "page"}
    assert (resumed["frame"], resumed["before"], resumed["after"]) == (12, True, False)


def test_the_trigger_of_a_paused_rule_goes_on_to_see_every_frame(tmp_path):
    older = {"kind": "older", "frames": 5, "do": "memory", "confirmed": False}
    session = make_session(tmp_path / "out", triggers=[older])
    session.control.pause("older")
    report, _ = run(session, {12: lambda control: control.resume("older")})
    outcome = report["rules"]["older"]
    assert (outcome["fired"], outcome["held_back_paused"]) == (0, 2), "it knows its tracks when it goes on"


def test_another_threshold_holds_from_the_next_frame_on_and_tracks_go_on(tmp_path):
    at = {n: lambda control, value=value: control.set_threshold(value) for n, value in ((5, 150.0), (6, 50.0))}
    report, given = run(make_session(tmp_path / "out", engine=Adjustable()), at)
    assert [len(result.detections) for result in kept()] == [2] * 5 + [0] + [2] * 14
    assert set(kept()[4].tracks.particle) == set(kept()[6].tracks.particle)
    assert [(change["before"], change["after"]) for change in report["changes"]] == [(50.0, 150.0), (150.0, 50.0)]
    assert given[5].result(0)["frame"] == 5


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda control: control.set_threshold(0.5), "threshold: the engine has no threshold"),
        (lambda control: control.pause("evry"), "paused: no rule is called 'evry'; did you mean 'every'"),
        (lambda control: control.follow(-1), "following: -1 is not the number of a track"),
        (lambda control: control.follow("me"), "following: 'me' is not the number of a track"),
        (lambda control: control.mark(""), "mark: a mark is a text of 1 to"),
        (lambda control: control.mark("x" * 1001), "mark: a mark is a text of 1 to"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_that_is_written_down(tmp_path, ask, why):
    report, given = run(make_session(tmp_path / "out", triggers=[EVERY_FRAME]), {3: ask})
    with pytest.raises(ControlRefused, match=why.replace("(", r"\(")) as refusal:
        given[3].wait()
    [change] = report["changes"]
    assert (change["fate"], change["frame"]) == ("refused", 3)
    assert str(refusal.value) == f"{change['change']}: {change['error']}"
    assert report["status"] == "completed"


def test_what_the_engine_refuses_leaves_the_threshold_as_it_was(tmp_path):
    session = make_session(tmp_path / "out", engine=Adjustable())
    _, given = run(session, {3: lambda control: control.set_threshold(-1)})
    with pytest.raises(ControlRefused, match="threshold = -1 must be above 0"):
        given[3].wait()
    assert session.snapshot()["threshold"] == 50.0


def test_a_rule_that_follows_shows_its_trigger_the_track_that_was_chosen_and_says_when_it_is_gone(tmp_path):
    engine = Adjustable()
    session = make_session(
        tmp_path / "out", engine=engine, triggers=[{**EVERY_FRAME, "kind": "nearest", "chosen": True}],
        linker={"kind": "nearest"}, source={"frames": 40},
    )  # fmt: skip

    def choose(control):
        still = int(kept_particle((10, 10)))
        return control.follow(still), still

    def kept_particle(place):
        result = session_results[-1]
        row = [(y, x) for y, x in zip(result.detections.y, result.detections.x, strict=True)].index(place)
        return result.tracks.particle[row]

    session_results = []
    step = session._make_step

    def watched(fanout):
        inner = step(fanout)

        def call(frame):
            session_results.append(inner(frame))
            return session_results[-1]

        return call

    session._make_step = watched
    at = {5: choose, 10: lambda control: control.set_threshold(150.0)}
    report, given = run(session, at)
    request, still = given[5]
    assert request.wait()["after"] == still
    commands = [(result.frame.index, each.event.particle) for result in session_results for each in result.commands]
    assert commands == [(index, still) for index in range(5, 10)]
    gone = report["changes"][-1]
    assert (gone["who"], gone["before"], gone["after"]) == ("run", still, None)
    assert gone["error"] == f"track {still} has ended"
    assert session.snapshot()["following"] is None


def test_a_track_that_is_not_there_is_not_followed_for_ever(tmp_path):
    report, _ = run(make_session(tmp_path / "out", source={"frames": 60}), {3: lambda control: control.follow(999)})
    assert [change.get("error") for change in report["changes"]] == [None, "there is no track 999"]
    assert report["changes"][1]["frame"] < 40


def test_a_run_says_how_what_can_be_changed_stands(tmp_path):
    session = make_session(tmp_path / "out", engine=Adjustable(), safety={"x_um": [-5, 5]})
    snapshot = session.snapshot()
    assert snapshot["threshold"] == 50.0
    assert snapshot["limits"]["x_um"] == [-5, 5]
    assert (snapshot["following"], snapshot["changes"], snapshot["stage_um"]) == (None, [], None)


def test_a_stop_waits_for_nothing_and_is_written_down(tmp_path):
    session = make_session(tmp_path / "out", source={"frames": 2000, "pause_s": 0.01, "live": True})
    report, _ = run(session, {3: lambda control: control.stop("terminal")})
    assert report["status"] == "interrupted"
    assert [(change["change"], change["who"]) for change in report["changes"]] == [("stop", "terminal")]


def test_whoever_asks_after_the_end_is_refused_and_so_is_who_still_waits_then(tmp_path):
    session = make_session(tmp_path / "out")
    _, given = run(session, {20: lambda control: control.mark("too late")})
    for request in (given[20], session.control.mark("later")):
        with pytest.raises(ControlRefused, match="mark: the run is over"):
            request.wait()


def test_requests_that_come_before_the_first_frame_hold_from_it_on(tmp_path):
    session = make_session(tmp_path / "out", triggers=[EVERY_FRAME])
    request = session.control.pause("every")
    report, _ = run(session, {})
    assert request.wait()["frame"] == 0
    assert report["rules"]["every"]["fired"] == 0


def test_a_run_that_cannot_begin_answers_who_waits(tmp_path):
    tables = {"source": {"kind": "lab-camera"}, "engine": {"kind": "brightest", "dtype": "uint8"}}
    session = Session(RunConfig.model_validate(tables), tmp_path / "out")
    request = session.control.mark("hello")
    with pytest.raises(StreamtrackError):
        session.run()
    with pytest.raises(ControlRefused, match="the run is over"):
        request.wait()


def test_a_request_is_answered_where_no_frame_comes(tmp_path):
    session = make_session(tmp_path / "out", source={"silent_at": 4})
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    end_s = time.monotonic() + 60
    while session.snapshot()["frames"]["processed"] < 4 and time.monotonic() < end_s:
        time.sleep(0.01)
    assert session.control.mark("nothing comes").wait(20)["frame"] == 4
    session.control.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_a_thousand_requests_at_once_from_ten_threads_are_bounded_and_each_is_answered(tmp_path):
    session = make_session(tmp_path / "out", source={"frames": 100_000, "live": True, "pause_s": 0.001})
    thread = threading.Thread(target=session.run, daemon=True)
    thread.start()
    requests = []

    def flood():
        for number in range(100):
            requests.append(session.control.mark(f"mark {number}"))

    callers = [threading.Thread(target=flood) for _ in range(10)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    done, refused = [], []
    for request in requests:
        try:
            done.append(request.wait(30))
        except ControlRefused as error:
            refused.append(str(error))
    session.control.stop()
    thread.join(60)
    assert len(done) + len(refused) == 1000
    assert len(done) >= MOST_WAITING
    assert set(refused) <= {f"mark: {MOST_WAITING} requests wait already: ask again when they are answered"}
    written = [line for line in lines_of(tmp_path / "out") if line["fate"] == "done" and line["change"] == "mark"]
    assert len(written) == len(done)


def test_a_flood_before_the_run_is_one_line(tmp_path):
    session = make_session(tmp_path / "out")
    requests = [session.control.mark("again") for _ in range(1000)]
    report, _ = run(session, {})
    fates = [change["fate"] for change in report["changes"]]
    assert fates.count("done") == MOST_WAITING
    assert fates.count("refused") == 1
    assert sum(request.exception(0) is not None for request in requests) == 1000 - MOST_WAITING


def test_who_gives_up_waiting_has_withdrawn():
    request = Request(Asked("mark", "x", "python"), lambda last: Made(None, None))
    with pytest.raises(ControlRefused, match="mark: no frame came within 0 s; the request is withdrawn"):
        request.wait(0.0)
    assert request.cancelled()
    with pytest.raises(ControlRefused, match="was withdrawn"):
        request.wait(0.0)


def test_what_is_withdrawn_is_not_made_and_that_is_written_down(tmp_path):
    session = make_session(tmp_path / "out", triggers=[EVERY_FRAME])
    assert session.control.pause("every").cancel()
    report, _ = run(session, {})
    assert report["rules"]["every"]["fired"] == 20
    assert [(change["change"], change["fate"]) for change in report["changes"]] == [("paused", "withdrawn")]


def test_a_request_that_nobody_came_to_in_time_is_late():
    clock = FakeClock()
    request = Request(Asked("mark", "x", "python"), lambda last: Made(None, None), clock)
    clock.advance(round(VALID_S * 1e9))
    assert not request.is_late
    clock.advance(1)
    assert request.is_late


def test_asyncio_can_wait_for_a_request(tmp_path):
    session = make_session(tmp_path / "out")
    request = session.control.mark("from a server")
    run(session, {})

    async def answer():
        return await asyncio.wait_for(asyncio.wrap_future(request), 5)

    assert asyncio.run(answer())["after"] == "from a server"


def test_the_report_lists_so_many_changes_and_says_how_many_more_there_are():
    changes = Changes()
    written = []
    changes.add(Asked("mark", "first", "python"), {"frame": 0}, "done")
    changes.write_to(written.append)
    for _ in range(MOST_KEPT + 4):
        changes.add(Asked("mark", "x", "python"), {"frame": 0}, "done")
    assert len(written) == MOST_KEPT + 5
    assert len(changes.outcome()["changes"]) == MOST_KEPT
    assert changes.outcome()["changes_left_out"] == 5


def test_snapshots_are_written_beside_each_other_and_never_over_anything(tmp_path):
    out = tmp_path / "out"
    reports = []
    for overwrite in (False, True):
        session = make_session(out, overwrite=overwrite)
        early = session.control.take_snapshot()

        def at_once(control):
            return control.take_snapshot().wait()["after"]

        report, given = run(session, {4: at_once, 9: at_once})
        assert report["status"] == "completed", report["error"]
        assert list(given.values()) == [path for path in given.values() if (out / path).is_file()]
        with pytest.raises(ControlRefused, match="no frame has come yet"):
            early.wait()
        reports.append([change["after"] for change in report["changes"] if change["fate"] == "done"])
    assert reports == [
        ["snapshots/0001_frame3.ome.tif", "snapshots/0002_frame8.ome.tif"],
        ["snapshots/0003_frame3.ome.tif", "snapshots/0004_frame8.ome.tif"],
    ]
    with tifffile.TiffFile(out / "snapshots" / "0002_frame8.ome.tif") as file:
        assert file.is_ome
        pixels = file.asarray()
    assert (pixels.dtype, pixels.shape, pixels[30, 13]) == ("float32", (48, 64), 100)
    first, *rows = (out / "snapshots" / "0002_frame8.csv").read_text().splitlines()
    assert first == "frame,y,x,score,mass,sigma,particle"
    assert [row.split(",")[:3] for row in rows] == [["8", "10.0", "10.0"], ["8", "30.0", "13.0"]]


def test_recording_is_left_out_and_taken_up_again_to_the_frame_and_the_movie_says_so(tmp_path):
    sinks = [{"kind": "raw"}, {"kind": "memory"}]
    session = make_session(tmp_path / "out", sinks=sinks)
    at = {n: lambda control, on=on: control.record(on) for n, on in ((5, False), (9, True), (15, False))}
    report, given = run(session, at)
    assert report["status"] == "completed"
    assert [(request.wait()["frame"], request.wait()["before"]) for request in given.values()] == [
        (5, True), (9, False), (15, True),
    ]  # fmt: skip
    with closing(ZarrSource(path=tmp_path / "out" / "raw.ome.zarr")) as movie:
        frames = list(movie.frames())
    assert [frame.index for frame in frames if isinstance(frame, Frame)] == [*range(5), *range(9, 15)]
    about = zarr.open_group(tmp_path / "out" / "raw.ome.zarr", mode="r").attrs["streamtrack"]
    assert (about["left_out"], about["n_left_out"], about["missing"]) == ([[5, 8], [15, 19]], 9, [[5, 8]])
    assert session.snapshot()["recording"] is False


@pytest.mark.parametrize(
    ("sinks", "on", "why"),
    [
        ([{"kind": "memory"}], True, "add [[sinks]] with kind"),
        ([{"kind": "raw", "when": "commands"}, {"kind": "memory"}], False, "no sink that records all frames"),
        ([{"kind": "raw"}, {"kind": "memory"}], "no", "neither true nor false"),
    ],
)
def test_what_is_not_recorded_cannot_be_left_out(tmp_path, sinks, on, why):
    _, given = run(make_session(tmp_path / "out", sinks=sinks), {3: lambda control: control.record(on)})
    with pytest.raises(ControlRefused, match=re.escape(why)):
        given[3].wait()


REGION = {"kind": "region", "name": "cell", "do": "memory", "confirmed": False, "margin_px": 0}


def test_a_region_is_moved_and_what_is_in_it_by_then_has_not_entered_it(tmp_path):
    """A pixel goes from x = 5 to the right, one a frame."""
    session = make_session(tmp_path / "out", triggers=[{**REGION, "x_px": [60, 63]}])
    at = {
        3: lambda control: control.move_region("cell", [20, 40], [5, 30]),
        6: lambda control: control.move_region("cell", x_px=[15, 63]),
    }

    def laid(number):
        def call(control):
            request = at[number](control)
            assert within(10, lambda step_s: time.sleep(0.01) or control.mailbox.asked), "laid over the image"
            return request

        return call

    _, given = run(session, {number: laid(number) for number in at})
    assert [(each.wait()["before"], each.wait()["after"]) for each in given.values()] == [
        ({"x_px": (60.0, 63.0)}, {"y_px": [20, 40], "x_px": [5, 30]}),
        ({"y_px": (20.0, 40.0), "x_px": (5.0, 30.0)}, {"x_px": [15, 63]}),
    ]
    assert [result.frame.index for result in kept() if result.commands] == [10]
    [region] = session.snapshot()["regions"]
    assert (region["rule"], region["x_px"]) == ("cell", (15, 63))
    assert region["outlines"] == [[(-0.5, 15), (-0.5, 63), (47.5, 63), (47.5, 15)]]


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (
            lambda control: control.move_region("cel", [0, 5]),
            "no rule 'cel' looks at a part of the image; did",
        ),
        (lambda control: control.move_region("cell"), "give exactly one of"),
        (lambda control: control.move_region("cell", [5, 0]), "from low to high"),
        (lambda control: control.move_region("cell", [100, 200]), "holds no pixel"),
        (lambda control: control.move_region("cell", "ab"), "y_px"),
        (lambda control: control.move_region("cell", [0, float("nan")]), "y_px"),
        (lambda control: control.move_region("cell", polygon_px=[[0, 1], [2, 3]]), "polygon_px"),
    ],
)
def test_a_region_that_cannot_be_is_refused_and_stays(tmp_path, ask, why):
    session = make_session(tmp_path / "out", triggers=[{**REGION, "x_px": [60, 63]}])
    request = ask(session.control)
    report, _ = run(session, {})
    with pytest.raises(ControlRefused, match=why):
        request.wait()
    assert session.snapshot()["regions"][0]["x_px"] == (60, 63)
    assert report["status"] == "completed"


def test_what_is_searched_and_where_rules_look_is_drawn(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:50] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    rules = [
        {**REGION, "mask": str(tmp_path / "mask.tif")},
        {"kind": "nearest", "do": "memory", "y_px": 5, "x_px": 7},
        {"kind": "count", "above": 3, "do": "memory"},
    ]
    session = make_session(tmp_path / "out", triggers=rules, roi="0:24,:")
    drawn = {each["rule"]: each for each in session.snapshot()["regions"]}
    run(session, {})
    assert list(drawn) == ["cell", "nearest", "searched"]
    assert drawn["nearest"]["target_px"] == (5, 7)
    for name, sides in (("cell", (9.5, 29.5, 19.5, 49.5)), ("searched", (-0.5, -0.5, 23.5, 63.5))):
        (outline,) = drawn[name]["outlines"]
        y, x = np.array(outline).T
        np.testing.assert_allclose((y.min(), x.min(), y.max(), x.max()), sides)


POSTED = {**EVERY_FRAME, "kind": "http", "event": "drug", "name": "add"}


class Page:
    """Stands for the sink of a view."""

    critical, files = False, ()

    def open(self, folder, source): ...

    def wants_denoised(self, frame_index):
        return False

    def write(self, result): ...

    flush = close = lambda self: None


def with_view(folder, *rules, **settings):
    config = {"engine": {"kind": "brightest"}, "sinks": [{"kind": "memory"}], "triggers": rules, **settings}
    source = config.pop("source", None)
    if source is None:
        config["source"] = {"kind": "lab-camera"}
    return Session(RunConfig.model_validate(config), folder, source=source, sinks={"view": Page()})


def test_an_event_of_another_program_fires_its_rule_at_the_next_frame(tmp_path):
    def post_two(control):
        return control.post("drug", {"dose": 2}), control.post("drug", particle=999)

    def post_nonsense(control):
        for name, settings, said in (
            ("drugs", {}, "did you mean 'drug'"),
            ("drug", {"value": "x"}, "no finite number"),
            ("drug", {"particle": -1}, "not the number of a track"),
        ):
            with pytest.raises(ControlRefused, match=said):
                control.post(name, **settings)

    session = with_view(tmp_path / "out", POSTED)
    report, given = run(session, {4: post_two, 6: post_nonsense})
    assert given[4] == (["add"], ["add"])
    [(index, command)] = [(result.frame.index, each) for result in kept() for each in result.commands]
    assert (index, command.event.values, command.rule) == (4, {"dose": 2.0}, "add")
    counts = report["rules"]["add"]
    assert (counts["fired"], counts["received"], counts["dropped_no_track"], counts["waiting"]) == (1, 2, 1, 0)
    assert report["events_refused"] == {"no rule takes its name": 1}
    with pytest.raises(ControlRefused, match="the run is over"):
        session.control.post("drug")


def test_an_event_that_finds_no_room_or_a_run_that_stops_is_refused_and_counted(tmp_path):
    def flood(control):
        for _ in range(64):
            control.post("drug")
        with pytest.raises(ControlRefused, match="64 events wait"):
            control.post("drug")

    def stop(control):
        control.stop()
        assert set_within(session._stop.requested, 10), "a thread of its own hears it"
        with pytest.raises(ControlRefused, match="being stopped"):
            control.post("drug")

    session = with_view(tmp_path / "out", POSTED)
    report, _ = run(session, {4: flood, 6: stop})
    assert report["status"] == "interrupted", report["error"]
    assert report["rules"]["add"]["fired"] == 64
    assert report["rules"]["add"]["dropped_full"] == 1
    assert report["events_refused"] == {"the run is being stopped": 1}


def test_of_several_streams_the_rule_of_each_takes_the_event(tmp_path):
    session = with_view(tmp_path / "out", POSTED, source=TwoStreams())
    report, _ = run(session, {21: lambda control: control.post("drug")})
    fired = [result.frame.stream.position for result in kept() if result.commands]
    assert sorted(fired) == [0, 1]
    assert report["rules"]["add"]["received"] == 2


def test_a_rule_that_waits_for_events_needs_a_view(tmp_path):
    with pytest.raises(ConfigError, match="'add': nobody can post an event to a run without a view; begin it with"):
        make_session(tmp_path / "out", triggers=[POSTED])


class TwoStreams:
    """The lab's camera at one position, and from its tenth frame on at another one, too, which nobody announced."""

    def __init__(self):
        import lab_plugins

        self._one, self._other = (lab_plugins.LabCamera(frames=n) for n in (20, 10))
        self.info = replace(self._one.info, n_frames=30, streams=())

    def frames(self):
        others = self._other.frames()
        for frame in self._one.frames():
            yield replace(frame, stream=Stream(position=0))
            if frame.index >= 10:
                yield replace(next(others), stream=Stream(position=1))

    def close(self):
        self._one.close()


def test_what_was_changed_holds_for_streams_that_begin_later(tmp_path):
    engine = Adjustable()
    config = {"engine": {"kind": "brightest"}, "sinks": [{"kind": "memory"}], "triggers": [EVERY_FRAME]}
    session = Session(RunConfig.model_validate(config), tmp_path / "out", source=TwoStreams(), engine=engine)
    at = {
        3: lambda control: (control.pause("every"), control.set_threshold(150.0)),
        21: lambda control: control.resume("every"),
    }
    report, given = run(session, at)
    assert [request.wait()["stream"]["position"] for request in given[3]] == [0, 0]
    assert [result.frame.index for result in kept() if result.commands and result.frame.stream.position == 0][:3] == [
        0,
        1,
        2,
    ]
    of_other = [result for result in kept() if result.frame.stream.position == 1]
    assert len(of_other) == 10
    assert [len(result.detections) for result in of_other] == [0] * 10
    fired = [result.frame.index for result in of_other if result.commands]
    assert fired == list(range(fired[0], 10))
    assert fired[0] > 3
    assert report["rules"]["every"]["held_back_paused"] == 21 - 3
    assert session.snapshot()["rules"]["every"]["paused"] is False
