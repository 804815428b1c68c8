"""The view of a run: what it shows, what it lets nobody do, and that nothing about it harms the run."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import browsers
import jsonschema
import numpy as np
import psutil
import pytest
import running
from PIL import Image

from streamtrack.control.requests import Asked, Request
from streamtrack.errors import SinkError

views = pytest.importorskip("views", reason="needs the extra 'view'")

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

from streamtrack.view import openapi  # noqa: E402
from streamtrack.view.actions import ACTIONS  # noqa: E402
from streamtrack.view.hub import WAIT_S  # noqa: E402
from streamtrack.view.server import FILES  # noqa: E402

STOPPED = {"done": {"change": "stop", "after": True}}
MOVIE = "sim:receptor?snr=4&density=300&frames=4000&size=96&seed=3"


@pytest.fixture
def sink(tmp_path):
    with views.viewed(tmp_path) as sink:
        yield sink


@pytest.fixture(scope="module")
def run():
    return views.Run()


@pytest.fixture(scope="module")
def shared(run, tmp_path_factory):
    """The view of `run`, one for all tests that leave it as it is."""
    with views.viewed(tmp_path_factory.mktemp("view"), run) as sink:
        yield sink


def bearer(sink):
    return {"Authorization": f"Bearer {views.parts_of(sink)[1]}"}


def test_a_guest_is_shown_state_and_picture(tmp_path):
    results = list(views.example_results())
    with views.viewed(tmp_path, results=results) as sink, views.guest(sink) as guest:
        state = guest.until(lambda heard: "frames" in heard.get("state", {}) if isinstance(heard, dict) else False)
        assert state["about"]["name"] == views.example_source().name
        assert state["state"]["frames"]["lost_by_cause"] == {"ingest queue full": 2}
        picture = guest.until(lambda heard: isinstance(heard, bytes))
    head, last = _head(picture), results[-1]
    assert head["index"] == last.frame.index
    assert head["found"] == len(last.detections)
    assert [index for index, _ in head["frames"]] == [result.frame.index for result in results]
    places, ids, here, particles, values, image, denoised = _parts(picture, 4 + _length(picture), head["parts"])
    assert len(places) == 2 * len(ids) == 8 * sum(len(result.detections) for result in results) // 4
    assert np.array_equal(here.view("f4")[: head["found"]], last.detections.y)
    assert np.array_equal(particles.view("i4"), last.tracks.particle)
    assert len(values) == 4 * len(head["columns"]) * head["found"]
    assert len(image) == len(denoised) == last.frame.pixels.size


def test_a_page_gets_as_many_px_as_it_can_show_and_all_of_the_same_frame_once_it_asks(sink):
    last = list(views.example_results())[-1].frame
    with views.guest(sink) as guest:
        for step in (3, 1):
            guest.say(show={"step": step})
            picture = guest.until(lambda heard, step=step: isinstance(heard, bytes) and _head(heard)["px"] == step)
            head = _head(picture)
            assert head["index"] == last.index
            assert head["size"] == [-(-size // step) for size in last.pixels.shape[::-1]]
            assert _parts(picture, 4 + _length(picture), head["parts"])[5].size == np.prod(head["size"])


def test_a_frame_is_on_its_way_as_soon_as_it_is_there(tmp_path):
    first, *others = views.example_results()
    waited_s = []
    with views.viewed(tmp_path, results=[first]) as sink, views.guest(sink) as guest:
        guest.until(lambda heard: isinstance(heard, bytes))
        for result in others:
            began_s = time.monotonic()
            sink.write(result)
            guest.until(lambda heard: isinstance(heard, bytes))
            waited_s.append(time.monotonic() - began_s)
    assert min(waited_s) < WAIT_S / 4  # the run is asked for the next one before it is there


def _length(content):
    return int.from_bytes(content[:4], "little")


def _head(content):
    return json.loads(content[4 : 4 + _length(content)])


def _parts(content, at, sizes):
    bounds = at + np.cumsum([0, *sizes])
    parts = [np.frombuffer(content[a:b], np.uint8) for a, b in pairwise(bounds)]
    return [parts[0].view("f4"), parts[1].view("i4"), *parts[2:]]


def test_stop_from_page_and_program(tmp_path):
    for how in ("page", "program"):
        run = views.Run()
        with views.viewed(tmp_path, run) as sink:
            if how == "page":
                with views.guest(sink) as guest:
                    guest.say(do="stop")
                    assert guest.until(lambda heard: "outcome" in heard)["outcome"] == STOPPED
            else:
                status, _, said = views.ask(sink, "POST", "/api/stop", bearer(sink))
                assert (status, json.loads(said)) == (200, STOPPED)
            assert run.stopped.is_set()


def test_state_for_programs(shared):
    give_up_s = time.monotonic() + 30
    while not (state := json.loads(views.ask(shared, "GET", "/api/state", bearer(shared))[2])["state"]):
        assert time.monotonic() < give_up_s
    assert state["frames"]["processed"] == 12
    assert views.ask(shared, "POST", "/api/fly", bearer(shared))[0] == 409


def post(sink, what, **said):
    """Return status and answer of a request."""
    status, _, answer = views.ask(sink, "POST", f"/api/{what}", bearer(sink), json.dumps(said))
    return status, json.loads(answer)


def test_events_reach_the_run_at_once_also_where_a_change_waits_for_a_frame(tmp_path):
    run = Busy()
    with views.viewed(tmp_path, run) as sink, views.guest(sink) as guest:
        guest.say(do="mark", text="never answered")
        began_s = time.monotonic()
        assert post(sink, "event", name="drug", value={"dose": 2}, particle=7) == (200, {"done": {"rules": ["add"]}})
        assert time.monotonic() - began_s < 2
        assert post(sink, "event", value=2) == (409, {"error": "event needs name"})
    assert run.posted == [("drug", {"dose": 2}, 7)]


def test_more_requests_than_may_come_are_refused_and_events_among_them_counted_but_stop_passes(tmp_path):
    run = views.Run()
    with views.viewed(tmp_path, run) as sink:
        with ThreadPoolExecutor(8) as others:
            statuses = list(others.map(lambda _: post(sink, "event", name="drug")[0], range(200)))
        assert post(sink, "stop") == (200, STOPPED)
        refused = statuses.count(429)
        assert refused > 0
        give_up_s = time.monotonic() + 30
        while run.events_refused.total() < refused:
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
    assert set(statuses) == {200, 429}
    assert len(run.posted) + refused == 200
    assert run.events_refused == {"too many in a second": refused}


def test_what_may_be_asked_is_one_table_for_the_server_the_document_and_the_page_of_the_manual(shared):
    page = (Path(__file__).parents[2] / "docs" / "view.md").read_text(encoding="utf-8")
    assert openapi.table() in page
    status, _, said = views.ask(shared, "GET", "/api/openapi.json", bearer(shared))
    assert (status, json.loads(said)) == (200, openapi.document())
    assert views.ask(shared, "GET", "/api/openapi.json")[0] == 403
    paths = openapi.document()["paths"]
    assert {path for path, asked in paths.items() if "get" in asked} == {"/api/state", "/api/openapi.json"}
    for what, action in ACTIONS.items():
        body = paths[f"/api/{what}"]["post"].get("requestBody", {})
        needed = body.get("content", {}).get("application/json", {}).get("schema", {}).get("required", [])
        assert needed == [each.name for each in action.settings if each.required]
        for each in action.settings:
            if each.example is not None:
                jsonschema.validate(each.example, each.kind)


# ---- who may do what


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("no token", {}),
        ("a wrong token", {"Authorization": "Bearer nonsense"}),
        ("a token that is no text", {"Authorization": "Bearer \xff\xfe"}),
        ("another kind", {"Authorization": "Basic TOKEN"}),
        ("a foreign page (CSRF)", {"Authorization": "Bearer TOKEN", "Origin": "http://evil.example"}),
        ("no origin at all", {"Authorization": "Bearer TOKEN", "Origin": "null"}),
        ("a foreign name (DNS rebinding)", {"Authorization": "Bearer TOKEN", "Host": "evil.example"}),
    ],
)
def test_nobody_acts_without_the_token_or_from_elsewhere(shared, run, what, headers):
    headers = {key: value.replace("TOKEN", views.parts_of(shared)[1]) for key, value in headers.items()}
    for method, path in (("POST", "/api/stop"), ("GET", "/api/state")):
        status, _, said = views.ask(shared, method, path, headers)
        assert status == 403
        assert "frames" not in said
    assert not run.stopped.is_set()


@pytest.mark.parametrize("path", ["/", *(f"/{name}" for name in FILES if name)])
def test_the_page_itself_holds_nothing_and_is_for_this_computer(shared, path):
    status, headers, said = views.ask(shared, "GET", path)
    assert status == 200
    assert views.parts_of(shared)[1] not in said
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert views.ask(shared, "GET", path, {"Host": "evil.example"})[0] == 403


@pytest.mark.parametrize(
    "path", ["/../pyproject.toml", "/%2e%2e/wire.py", "/view.js/../../wire.py", "//etc/passwd", "/x"]
)
def test_no_path_of_the_disk_is_served(shared, path):
    assert views.ask(shared, "GET", path)[0] in (404, 405)


def test_a_line_of_a_foreign_page_is_refused(shared):
    for settings in ({"origin": "http://evil.example"}, {"additional_headers": {"Host": "evil.example"}}):
        with pytest.raises((InvalidStatus, ConnectionClosed)), views.guest(shared, **settings) as guest:
            guest.until(lambda heard: "state" in heard)


@pytest.mark.parametrize("token", ["wrong", "", 7])
def test_a_line_without_the_token_hears_nothing(shared, token):
    with views.guest(shared, token) as guest, pytest.raises(ConnectionClosed) as closed:
        guest.until(lambda heard: True)
    assert closed.value.rcvd.code == 4401


def says_and_listens(guest, messages):
    for message in messages:
        guest.line.send(message)
    guest.until(lambda heard: False)


def test_a_message_of_10_mb_and_nonsense_end_the_line_or_nothing(sink):
    with views.guest(sink) as guest:
        for nonsense in ("[" * 60_000, "null", '{"do": 7}', '{"show": {"stream": "x", "contrast": [1]}}', "\0"):
            guest.line.send(nonsense)
        guest.say(show={"contrast": [5, 5]})
        assert guest.until(lambda heard: "state" in heard)
        with pytest.raises(ConnectionClosed):
            says_and_listens(guest, ["x" * 10_000_000])
    with views.guest(sink) as guest:
        assert guest.until(lambda heard: "state" in heard)


def test_too_many_messages_end_the_line_but_stop_always_passes(tmp_path):
    run = views.Run()
    with views.viewed(tmp_path, run) as sink, views.guest(sink) as guest:
        with pytest.raises(ConnectionClosed) as closed:
            says_and_listens(guest, ['{"drawn": 1}'] * 10_000)
        assert closed.value.rcvd.code == 4429
        with views.guest(sink) as other:
            other.say(do="stop")
            other.until(lambda heard: "outcome" in heard)
    assert run.stopped.is_set()


def test_a_thousand_connections_leave_the_run_alone(tmp_path):
    run = views.Run()
    with views.viewed(tmp_path, run) as sink:
        port, _ = views.parts_of(sink)
        lines = []
        for _ in range(1000):
            try:
                lines.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            except OSError:  # this process may not open so many
                break
        refused = views.ask(sink, "POST", "/api/stop", bearer(sink))[0] if len(lines) > 64 else 503
        assert refused in (200, 503)
        began_s = time.monotonic()
        for result in views.example_results():
            sink.write(result)
        assert time.monotonic() - began_s < 1
        for line in lines:
            line.close()
        give_up_s = time.monotonic() + 30
        while views.ask(sink, "POST", "/api/stop", bearer(sink))[0] != 200:
            assert time.monotonic() < give_up_s
            time.sleep(0.1)
    assert run.stopped.is_set()


def test_a_page_that_takes_nothing_keeps_nobody_waiting(tmp_path):
    """Results go on, another page is shown the newest, the memory of the server stays as it is."""
    with views.viewed(tmp_path, results=[]) as sink, views.guest(sink, close_timeout=0.1), views.guest(sink) as quick:
        server = psutil.Process(json.loads((tmp_path / "view.json").read_text())["pid"])
        results = list(views.example_results(n_frames=200, shape=(512, 512)))
        before = None
        for result in results:
            sink.write(result)
            time.sleep(0.02)
            if result.frame.index == 50:
                before = server.memory_info().rss
        last = results[-1].frame.index
        quick.until(lambda heard: isinstance(heard, bytes) and f'"index": {last}'.encode() in heard[:2000])
        assert server.memory_info().rss - before < 50e6


# ---- what the run and the view do to each other


class Busy(views.Run):
    """A run in which no frame comes: what was asked for waits."""

    def mark(self, text, who):
        request = Request(Asked("mark", text, who), lambda last: None)
        self.asked = request
        return request


def test_stop_waits_for_nothing_that_was_asked_before(tmp_path):
    run = Busy()
    with views.viewed(tmp_path, run) as sink, views.guest(sink) as one, views.guest(sink) as other:
        for guest in (one, one, one, other):
            guest.say(do="mark", text="never answered")
        began_s = time.monotonic()
        one.say(do="stop")
        assert run.stopped.wait(30)
        assert time.monotonic() - began_s < 2
        run.stopped.clear()
        assert views.ask(sink, "POST", "/api/stop", bearer(sink))[0] == 200
        assert run.stopped.is_set()


def test_answers_stay_with_who_asked(tmp_path, monkeypatch):
    """Also where a page goes while it waits, or takes nothing."""
    monkeypatch.setattr("streamtrack.view.actions.WAIT_S", 0.5)
    run = Busy()
    with views.viewed(tmp_path, run) as sink:
        for _ in range(3):
            with views.guest(sink) as guest:
                guest.until(lambda heard: isinstance(heard, dict) and "state" in heard)
                guest.say(do="mark", text="gone")
                time.sleep(0.1)
        status, _, said = views.ask(sink, "POST", "/api/nonsense", bearer(sink))
        assert (status, "unknown: nonsense" in said) == (409, True)
        with views.guest(sink) as guest:
            assert guest.until(lambda heard: isinstance(heard, dict) and "frames" in heard.get("state", {}))


def test_connections_that_ask_for_nothing_are_closed(sink, monkeypatch):
    port, _ = views.parts_of(sink)
    lines = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(70)]
    began_s = time.monotonic()
    assert lines[0].recv(1) == b""
    assert time.monotonic() - began_s < 15
    give_up_s = time.monotonic() + 15
    while views.ask(sink, "GET", "/")[0] != 200:
        assert time.monotonic() < give_up_s
    for line in lines:
        line.close()


def test_an_engine_that_denoises_nothing_is_shown_all_the_same(tmp_path):
    results = [replace(result, denoised=None) for result in views.example_results()]
    with views.viewed(tmp_path, results=results[:1]) as sink, views.guest(sink) as guest:
        guest.say(show={"denoised": True})
        guest.until(lambda heard: isinstance(heard, dict) and heard.get("shown", {}).get("denoised"))
        give_up_s = time.monotonic() + 30
        while not sink.wants_denoised(1):
            assert time.monotonic() < give_up_s
        for result in results[1:]:
            sink.write(result)
        last = f'"index": {results[-1].frame.index}'.encode()
        guest.until(lambda heard: isinstance(heard, bytes) and last in heard[:2000])


def test_a_time_that_is_no_number_is_null(tmp_path):
    result = views.example_results()[0]
    result = replace(result, frame=replace(result.frame, time_s=float("nan")))
    with views.viewed(tmp_path, results=[result]) as sink, views.guest(sink) as guest:
        picture = guest.until(lambda heard: isinstance(heard, bytes))
    length = int.from_bytes(picture[:4], "little")
    assert json.loads(picture[4 : 4 + length], parse_constant=pytest.fail)["time_s"] is None


def test_files_in_the_current_folder_are_not_run(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    with views.viewed(tmp_path) as sink:
        assert sink.address
    assert not (tmp_path / "ran").exists()


def test_the_address_is_for_its_user_only_and_goes_with_the_run(tmp_path):
    with views.viewed(tmp_path):
        path = tmp_path / "view.json"
        said = json.loads(path.read_text())
        assert said["address"].startswith("http://127.0.0.1:")
        if sys.platform != "win32":
            assert path.stat().st_mode & 0o077 == 0
    assert not path.exists()
    assert not psutil.pid_exists(said["pid"])


def test_a_server_that_is_killed_does_not_harm_the_run(tmp_path):
    with views.viewed(tmp_path) as sink:
        psutil.Process(json.loads((tmp_path / "view.json").read_text())["pid"]).kill()
        for result in views.example_results():
            sink.write(result)
            assert not sink.wants_denoised(result.frame.index)


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sink = views.ViewSink(port=taken.getsockname()[1])
        with pytest.raises(SinkError, match=r"the view could not begin: port \d+ of this computer"):
            sink.open(tmp_path, views.example_source())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_run_that_is_killed_takes_its_server_with_it(tmp_path):
    process = running.start(
        "track", MOVIE, *running.ONNXRUNTIME, "--out", tmp_path / "out", "--view", stderr=subprocess.DEVNULL
    )
    pid = views.shown(process, tmp_path / "out")["pid"]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    give_up_s = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_in_a_browser(tmp_path):
    """Frame, tracks and numbers are there; what is clicked happens; Stop stops the run."""
    process = running.start("track", MOVIE, *running.ONNXRUNTIME, "--out", tmp_path / "out", "--view")
    address = views.shown(process, tmp_path / "out")["address"]
    with browsers.tab(tmp_path / "profile") as tab:
        tab.size(1280, 900)
        tab.open(address)
        tab.until("document.querySelectorAll('#colour option').length > 5")
        tab.until("document.querySelector('#latency').innerText.includes('detect')")
        assert tab.of("document.querySelector('#name').textContent") == "sim:receptor"
        for chart in ("rate", "found", "latency"):
            canvas = f"document.querySelector('#chart-{chart}')"
            pixels = f"{canvas}.getContext('2d').getImageData(0, 0, {canvas}.width, {canvas}.height).data"
            tab.until(f"{pixels}.filter(value => value).length > 200")
        tab.screenshot(tmp_path / "page.png")
        pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
        assert pixels[5, 5].max() < 40, "dark"
        for colour in ((0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)):
            assert (np.abs(pixels - colour).max(axis=2) < 12).any()
        tab.click("#denoised")
        tab.until("document.querySelector('#denoised').checked")
        tab.press("f")
        tab.until("document.querySelector('#freeze').getAttribute('aria-pressed') === 'true'")
        tab.size(800, 1100)
        assert tab.of("document.documentElement.scrollWidth <= 800"), "it fits a tablet"
        tab.click("#stop")
        tab.until("document.querySelector('#message').textContent.includes('The run is over: interrupted')")
        assert tab.of("document.querySelector('#stop').disabled")
    assert process.wait(running.WAIT_S) == 130
    process.communicate()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert not (tmp_path / "out" / "view.json").exists()


def test_a_wrong_token_is_told_to_the_person(tmp_path, shared):
    with browsers.tab(tmp_path / "profile") as tab:
        tab.open(shared.address[:-3] + "xyz")
        tab.until("document.querySelector('#message').textContent.includes('open the address that the terminal shows')")


def test_names_run_nothing_in_the_page(tmp_path):
    run = views.Run()
    run.state["rules"] = {"<img src=x onerror=document.title='bad'>": {"fired": 1}}
    run.state["frames"]["lost_by_cause"] = {"<script>document.title='bad'</script>": 1}
    with views.viewed(tmp_path, run) as sink, browsers.tab(tmp_path / "profile") as tab:
        tab.open(sink.address)
        tab.until("document.querySelector('#rules').innerText.includes('onerror')")
        assert tab.of("document.querySelectorAll('main img, main script').length") == 0
        assert "bad" not in tab.of("document.title")


def test_the_unused_line_of_http_is_answered(shared):
    port, _ = views.parts_of(shared)
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    line.request("POST", "/api/stop", body=b"x" * 100_000, headers=bearer(shared))
    assert line.getresponse().status == 413
    line.close()
