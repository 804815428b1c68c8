"""A run that is over is looked at frame by frame, from its folder, in the browser."""

import json
import re
import shutil
import signal
import sys

import browsers
import numpy as np
import pandas as pd
import pytest
import running
import zarr

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.run_lock import RunLock
from streamtrack.session import Session

views = pytest.importorskip("views", reason="needs the extra 'view'")

from streamtrack.cli.replay import Replay  # noqa: E402
from streamtrack.view.wire import Message  # noqa: E402

RUN = """
[source]
kind = "sim"
scenario = "vesicle"
snr = 4
density = 300
frames = 30
size = 96
[engine]
kind = "denodet"
backend = "onnxruntime"
[[triggers]]
kind = "region"
name = "cell"
do = "raw"
x_px = [20, 60]
[[sinks]]
kind = "tables"
[[sinks]]
kind = "raw"
[[sinks]]
kind = "denoised"
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended")
    (folder / "run.toml").write_text(RUN, encoding="utf-8")
    process = running.start("track", "--config", folder / "run.toml", "--out", folder / "out")
    out, err = process.communicate(timeout=running.WAIT_S)
    assert process.returncode == 0, out + err
    return folder / "out"


def picture(replay, frame, after=-1, denoised=False, stream=0):
    question = {"ask": "picture", "stream": stream, "after": after, "denoised": denoised, "frame": frame}
    said, parts = replay.answer(Message(question, []))
    return said.get("picture"), parts


def test_each_frame_has_its_image_particles_tracks_and_tails(ended):
    replay, results = Replay(ended), streamtrack.read(ended)
    raw = zarr.open_array(ended / "raw.ome.zarr" / "0", mode="r")
    assert (replay.about["n_frames"], replay.about["images"], replay.about["replay"]) == (30, ["raw", "denoised"], True)
    for frame in (0, 12, 29, 5):
        head, (image, here, particles, values, places, ids, denoised) = picture(replay, frame, denoised=True)
        assert head["index"] == frame
        np.testing.assert_array_equal(image, raw[frame])
        assert (denoised.dtype, denoised.shape) == ("float32", image.shape)
        found = results.detections[results.detections.frame == frame]
        np.testing.assert_allclose(np.sort(here[0]), np.sort(found.y))
        tracked = results.tracks[results.tracks.frame == frame]
        assert set(particles[particles >= 0]) == set(tracked.particle)
        scores = values[head["columns"].index("score")]
        np.testing.assert_allclose(np.sort(scores), np.sort(found.score), rtol=1e-6)
        before = results.tracks[results.tracks.frame <= frame]
        assert (len(ids), places.shape, sum(n for _, n in head["frames"])) == (
            len(before),
            (2, len(before)),
            len(before),
        )
    assert picture(replay, 5, after=5, denoised=True)[0] is None, "it is there already"
    assert picture(replay, 1000)[0]["index"] == 29
    state = replay.answer(Message({"ask": "state"}, []))[0]["state"]
    assert (state["frames"]["processed"], state["regions"][0]["rule"]) == (30, "cell")
    assert "nothing can be changed" in replay.answer(Message({"do": "stop"}, []))[0]["error"]


def test_regions_are_where_they_were_in_the_frame_that_is_shown(ended, tmp_path):
    report = json.loads((ended / "report.json").read_text())
    report["changes"] = [
        {"change": "region", "rule": "cell", "fate": "done", "frame": 10, "after": {"x_px": [50, 70]}},
        {"change": "region", "rule": "cell", "fate": "refused", "frame": 12, "wanted": "x"},
    ]
    for path in ended.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "report.json").write_text(json.dumps(report))
    replay = Replay(tmp_path)
    sides = []
    for frame in (9, 20):
        _, (image, *_) = picture(replay, frame)
        assert not image.any(), "no movie was kept: black"
        sides.append(replay.answer(Message({"ask": "state"}, []))[0]["state"]["regions"][0]["x_px"])
    assert sides == [[20, 60], [50, 70]]
    assert replay.about["images"] == []


def test_what_is_damaged_or_of_somebody_else_is_not_in_the_way(ended, tmp_path):
    shutil.copytree(ended, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "raw.ome.zarr" / "0").rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(path.read_bytes()[:40])
    replay, whole = Replay(tmp_path), Replay(ended)
    _, parts = picture(replay, 12)
    assert not parts[0].any()
    np.testing.assert_array_equal(parts[1], picture(whole, 12)[1][1])
    assert "cannot read frame 12" in replay.answer(Message({"ask": "state"}, []))[0]["state"]["trouble"]
    assert whole.answer(Message({"ask": "state"}, []))[0]["state"]["trouble"] == ""
    group = zarr.open_group(tmp_path / "raw.ome.zarr")
    del group.attrs["streamtrack"]
    assert Replay(tmp_path).about["images"] == ["denoised"]
    tracks = pd.read_parquet(tmp_path / "tracks.parquet")
    tracks.assign(frame=tracks["frame"] + 10**12).to_parquet(tmp_path / "tracks.parquet")
    assert Replay(tmp_path).about["n_frames"] > 10**12
    tracks.drop(columns="particle").to_parquet(tmp_path / "tracks.parquet")
    with pytest.raises(ConfigError, match="has no column particle"):
        Replay(tmp_path)


def test_of_several_streams_each_has_its_own_images_and_tracks(tmp_path):
    movies = [
        streamtrack.simulate("vesicle", snr=5, density=300, frames=8, size=64, seed=seed).movie for seed in (3, 4)
    ]
    group = zarr.create_group(tmp_path / "two.ome.zarr")
    group.create_array("0", data=np.stack(movies, axis=1), chunks=(1, 1, 64, 64))
    axes = [{"name": name} for name in "tcyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 4}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    config = {
        "source": {"kind": "zarr", "path": str(tmp_path / "two.ome.zarr"), "channel": "all"},
        "engine": {"kind": "denodet", "backend": "onnxruntime"},
        "sinks": [{"kind": "tables"}, {"kind": "raw"}],
    }
    report = Session(RunConfig.model_validate(config), tmp_path / "out").run()
    replay, tracks = Replay(tmp_path / "out"), streamtrack.read(tmp_path / "out").tracks
    assert report["status"] == "completed"
    for stream in (0, 1):
        _, (image, _, particles, *_) = picture(replay, 5, stream=stream)
        np.testing.assert_array_equal(image, movies[stream][5])
        assert set(particles[particles >= 0]) == set(tracks[(tracks.t == 5) & (tracks.c == stream)].particle)


def test_in_a_browser_the_slider_shows_each_frame_and_the_token_leaves_the_address(ended, tmp_path):
    process = running.start("view", ended)
    try:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        token = address.partition("#token=")[2]
        with browsers.tab(tmp_path / "profile") as tab:
            tab.size(1280, 900)
            tab.open(address)
            tab.until("document.querySelectorAll('#colour option').length > 5")
            assert token not in tab.of("location.href")
            entries = tab.call("Page.getNavigationHistory")["entries"]
            assert not [entry["url"] for entry in entries if token in entry["url"]], "nor is it behind the back button"
            tab.of(
                "(t => { t.value = 12; t.dispatchEvent(new Event('input')) })(document.querySelector('#frame-wanted'))"
            )
            tab.until("import('./state.js').then(({ shown }) => shown.picture.index === 12)")
            slider, old = (
                "document.querySelector('#frame-wanted')",
                "showState({ stream: 0, denoised: false, frame: 7 })",
            )
            panels = "import('./panels.js').then(({ showState }) => "
            tab.until("import('./state.js').then(({ shown }) => shown.asked === null)")
            assert tab.of(f"{panels}{{ {old}; return {slider}.value }})") == "7", "another page went there"
            go = f"{slider}.value = 12; {slider}.dispatchEvent(new Event('input'))"
            assert tab.of(f"{panels}{{ {go}; {old}; return {slider}.value }})") == "12", "it was said before"
            tab.press("ArrowRight")
            tab.until("import('./state.js').then(({ shown }) => shown.picture.index === 13)")
            assert tab.of("document.querySelector('#stop').hidden && document.querySelector('#marking').hidden")
            tab.screenshot(tmp_path / "ended.png")
            tab.call("Page.reload")
            tab.until("import('./state.js').then(({ shown }) => shown.picture?.index === 13)")
            assert tab.of("document.querySelector('#message').hidden")
            tab.size(800, 1100)
            assert tab.of("document.documentElement.scrollWidth <= 800"), "it fits a tablet"
            tab.open(address.replace(token, "of-another-run"))
            tab.until("document.querySelector('#message').textContent.includes('not this run')")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_it_and_leaves_the_folder_as_it_was(ended):
    before = sorted(path.name for path in ended.iterdir())
    process = running.start("view", ended)
    assert "view at http" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "Traceback" not in process.communicate()[1]
    assert sorted(path.name for path in ended.iterdir()) == before


def test_what_cannot_be_shown_is_one_line(cli, ended, tmp_path):
    code, _, err = cli("view", tmp_path)
    assert code == 2
    assert "holds no readable report.json" in err
    (tmp_path / "report.json").write_bytes((ended / "report.json").read_bytes())
    with pytest.raises(ConfigError, match="the run's sink 'tables' writes it"):
        Replay(tmp_path)
    lock = RunLock(tmp_path)
    lock.take()
    try:
        assert "has no view: begin one with --view" in cli("view", tmp_path)[2]
        (tmp_path / "view.json").write_text('{"address": "http://127.0.0.1:9/#token=x"}')
        code, out, _ = cli("view", tmp_path)
        assert (code, "its view is at http://127.0.0.1:9/#token=x" in out) == (0, True)
    finally:
        lock.release()
