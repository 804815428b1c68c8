"""What is done on the page or by ``streamtrack ctl`` happens in the run, on the demo camera, and is written down."""

import json

import browsers
import numpy as np
import pytest
import running

from streamtrack.run_lock import RunLock

views = pytest.importorskip("views", reason="needs the extra 'view'")

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

RUN = """
mode = "rehearse"
[microscope]
kind = "micromanager"
config = "MMConfig_demo.cfg"
[source]
kind = "micromanager"
exposure_ms = 50
roi = [0, 0, 96, 96]
[engine]
kind = "denodet"
backend = "onnxruntime"
[[triggers]]
kind = "count"
name = "few"
below = 1000
cool_down_s = 0.1
do = "laser"
action = { value = "1" }
[[triggers]]
kind = "http"
name = "add"
event = "drug"
do = "laser"
action = { value = "0" }
[[triggers]]
kind = "region"
name = "cell"
y_px = [20, 60]
x_px = [30, 70]
do = "laser"
action = { value = "0" }
[[sinks]]
kind = "tables"
[[sinks]]
kind = "raw"
[actuators.laser]
kind = "property"
device = "LED"
property = "State"
[safety]
properties = ["LED.State"]
light = ["LED.State"]
max_dose_ms = 100000
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run.toml").write_text(RUN, encoding="utf-8")
    process = running.start("live", tmp_path / "run.toml", "--out", tmp_path / "out", "--view")
    try:
        views.shown(process, tmp_path / "out")
        yield tmp_path / "out"
    finally:
        process.kill()
        print(*process.communicate())


def test_each_control_does_what_it_says(run, tmp_path, cli):
    address = json.loads((run / "view.json").read_text())["address"]
    with browsers.tab(tmp_path / "profile") as tab:
        tab.size(1280, 1000)
        tab.open(address)
        tab.until("document.querySelector('#mode').textContent === 'rehearse'")
        tab.until("document.querySelector('#rules').innerText.includes('fired')")
        tab.click("#rules button")
        tab.until("document.querySelector('#rules').innerText.includes('paused')")
        tab.of("(t => { t.value = '0.7'; t.dispatchEvent(new Event('change')) })(document.querySelector('#threshold'))")
        tab.until("document.querySelector('#log').innerText.includes('threshold')")
        tab.of("document.querySelector('#mark').value = 'drug added'")
        tab.click("#marking button")
        tab.until("document.querySelector('#log').innerText.includes('drug added')")
        tab.of("(t => { t.value = '7'; t.dispatchEvent(new Event('change')) })(document.querySelector('#threshold'))")
        tab.until("document.querySelector('#message').textContent.startsWith('threshold: ')")

        assert cli("ctl", run, "resume", "few")[0] == 0
        tab.until("!document.querySelector('#rules').innerText.includes('paused')")
        code, out, _ = cli("ctl", run, "state")
        assert code == 0
        assert json.loads(out)["threshold"] == pytest.approx(0.7)
        tab.click("#mode")
        tab.until("document.querySelector('#modes').open")
        assert "LED.State" in tab.of("document.querySelector('#may-move').textContent")
        tab.screenshot(tmp_path / "armed.png")
        assert tab.of("document.elementFromPoint(innerWidth - 40, 30).id") == "stop", "it is never covered"
        tab.click("[data-mode=armed]")
        tab.until("document.querySelector('#mode').textContent === 'armed'")
        tab.click("#disarm")
        tab.until("document.querySelector('#mode').textContent === 'rehearse'")
        assert cli("ctl", run, "mode", "observe")[0] == 0
        assert cli("ctl", run, "mode", "armed")[0] != 0, "nobody has agreed"
        assert cli("ctl", run, "follow", "12")[0] == 0
        assert cli("ctl", run, "follow", "none")[0] == 0
        assert cli("ctl", run, "threshold", "0.6")[0] == 0
        assert cli("ctl", run, "mark", "drug washed out")[0] == 0
        assert cli("ctl", run, "record", "on")[0] == 0
        tab.until("document.querySelector('#record').textContent === 'Recording'")
        tab.click("#record")
        tab.until("document.querySelector('#record').textContent === 'Record'")
        tab.press("k")
        tab.until("document.querySelector('#log').innerText.includes('snapshots/0001_frame')")
        tab.until("document.querySelector('#other').innerText.includes('LED.State: o')")
        tab.drag(on_screen(tab, 20, 50), on_screen(tab, 30, 55))
        tab.until("document.querySelector('#log').innerText.includes('region cell {')")
        tab.drag(on_screen(tab, 70, 75), on_screen(tab, 80, 90))
        tab.until("document.querySelector('#log').innerText.match(/region cell/g)?.length === 2")
        tab.drag(on_screen(tab, 50, 50), on_screen(tab, 55, 50))  # the picture, not the region
        assert json.loads(cli("ctl", run, "event", "drug")[1]) == {"rules": ["add"]}
        tab.until("/add: .*1 received/.test(document.querySelector('#rules').innerText)")
        code, _, err = cli("ctl", run, "pause", "fews")
        assert code == 2
        assert "did you mean" in err
        tab.screenshot(tmp_path / "page.png")
        tab.click("#stop")
        tab.until("document.querySelector('#message').textContent.includes('The run is over: interrupted')")
    report = json.loads((run / "report.json").read_text())
    moved = [each for each in report["changes"] if each["change"] == "region"]
    report["changes"] = [each for each in report["changes"] if each["change"] != "region"]
    assert [(each["who"], each["fate"], each["rule"]) for each in moved] == [("page", "done", "cell")] * 2
    places = [[*each["after"]["y_px"], *each["after"]["x_px"]] for each in moved]
    np.testing.assert_allclose(places, [[30, 70, 35, 75], [30, 80, 35, 90]], atol=0.5)
    seen = [(each["change"], each["who"], each["fate"], each.get("after")) for each in report["changes"]]
    assert seen == [
        ("paused", "page", "done", True),
        ("threshold", "page", "done", pytest.approx(0.7)),
        ("mark", "page", "done", "drug added"),
        ("threshold", "page", "refused", None),
        ("paused", "terminal", "done", False),
        ("mode", "page", "done", "armed"),
        ("mode", "page", "done", "rehearse"),
        ("mode", "terminal", "done", "observe"),
        ("following", "terminal", "done", 12),
        ("following", "terminal", "done", None),
        ("threshold", "terminal", "done", pytest.approx(0.6)),
        ("mark", "terminal", "done", "drug washed out"),
        ("recording", "terminal", "done", True),
        ("recording", "page", "done", False),
        ("snapshot", "page", "done", path_of_snapshot(run)),
        ("paused", "terminal", "refused", None),
        ("stop", "page", "done", None),
    ]


def on_screen(tab, y, x):
    """Where a place of the image, px, is in the window."""
    expression = """import('./picture.js').then(({ at }) => {
        const [{ zoom, left, top }, box] = [at(), document.querySelector('#screen').getBoundingClientRect()];
        return [box.x + left + (%g + 0.5) * zoom, box.y + top + (%g + 0.5) * zoom];
    })"""
    return tab.of(expression % (x, y))


def path_of_snapshot(run):
    (path,) = (run / "snapshots").glob("*.tif")
    return f"snapshots/{path.name}"


def test_ctl_wants_a_run_that_is_on(cli, tmp_path):
    for arguments, said in (
        (("state",), "there is no run in"),
        (("fly",), "no 'fly': state, stop"),
        (("pause",), "pause needs rule"),
        (("stop", "now"), "stop needs nothing else"),
        (("threshold", "high"), "value is a number, and not 'high'"),
        (("record", "no"), "record is on or off, and not 'no'"),
    ):
        code, _, err = cli("ctl", tmp_path, *arguments)
        assert code == 2
        assert said in err
    (tmp_path / "view.json").write_text('{"address": "http://127.0.0.1:9/#token=x"}')
    lock = RunLock(tmp_path)
    lock.take()
    assert "does not answer" in refusal(cli, tmp_path)
    (tmp_path / "view.json").unlink()
    assert "has no view: begin one with --view" in refusal(cli, tmp_path)
    lock.release()
    for status, said in (("completed", "is over: completed"), ("running", "was broken off")):
        (tmp_path / "report.json").write_text(json.dumps({"status": status}))
        assert said in refusal(cli, tmp_path)
    (tmp_path / "view.json").write_text('{"address": "http://127.0.0.1:9/#token=x"}')
    assert "was broken off" in refusal(cli, tmp_path), "a killed run leaves its address"


def refusal(cli, folder):
    code, _, err = cli("ctl", folder, "state")
    assert code == 2
    return err


def test_a_newcomer_sees_beads_arms_the_run_and_the_stage_follows(tmp_path):
    process = running.start("demo", "--live", "--out", tmp_path / "out")
    try:
        address = views.shown(process, tmp_path / "out")["address"]
        with browsers.tab(tmp_path / "profile") as tab:
            tab.size(1280, 900)
            tab.open(address)
            tab.until("document.querySelector('#rules').innerText.includes('fired')")
            tab.click("#mode")
            tab.until("document.querySelector('#modes').open")
            assert "stage x: -500 to 500" in tab.of("document.querySelector('#may-move').textContent")
            tab.click("[data-mode=armed]")
            tab.until("document.querySelector('#commands').innerText.includes(' sent')")
            tab.screenshot(tmp_path / "demo.png")
            tab.click("#stop")
            tab.until("document.querySelector('#message').textContent.includes('The run is over: interrupted')")
    finally:
        process.kill()
        print(*process.communicate())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["safety"]["writes"]["stage"] > 0
    assert report["detections"] > 0
