"""An acquisition of several positions, channels and planes, tracked while it runs, each by itself."""

import json

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("mm_test_adapters")
pytest.importorskip("pymmcore_plus")

import useq
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.mda import MDAEngine

from streamtrack.config import RunConfig
from streamtrack_drivers.micromanager.mda import MdaTap
from streamtrack_drivers.micromanager.tap import Tap

N_TIMES, HEIGHT, WIDTH = 6, 96, 128


def beads(p, c, z):
    """Beads of a stream: how many, and where, is its own."""
    places = np.stack(np.divmod(np.arange(20), 5)) * 22 + 14
    return places[:, (np.arange(3 + 4 * p + c + 2 * z) * 3 + c + 5 * z) % 20].T.astype(float)


def image(t, p, c, z):
    angle = c + 2 * z + 3 * p
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    expected = np.full((HEIGHT, WIDTH), 200.0)
    for cy, cx in beads(p, c, z) + 0.4 * t * np.array([np.cos(angle), np.sin(angle)]):
        expected += 1500 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2.9)
    return np.random.default_rng([t, p, c, z]).poisson(expected).astype(np.uint16)


class BeadsUnderTheCamera(MDAEngine):
    """The engine of pymmcore-plus, with beads in what the camera saw."""

    def exec_event(self, event):
        for _, *rest in super().exec_event(event):
            at = event.index
            yield (image(at["t"], at.get("p", 0), at["c"], at.get("z", 0)), *rest)


@pytest.fixture
def core():
    core = CMMCorePlus()
    core.loadSystemConfiguration()
    for name, value in {"OnCameraCCDXSize": WIDTH, "OnCameraCCDYSize": HEIGHT, "PixelType": "16bit"}.items():
        core.setProperty("Camera", name, value)
    core.setExposure(5.0)
    core.mda.set_engine(BeadsUnderTheCamera(core, use_hardware_sequencing=False))
    yield core
    core.mda.cancel()
    core.unloadAllDevices()


def assert_no_track_crosses(folder):
    tracks = pd.read_parquet(folder / "tracks.parquet")
    assert (tracks.groupby("particle")[["c", "z", "p"]].nunique() == 1).all(axis=None)
    for (p, c, z), rows in tracks.groupby(["p", "c", "z"]):
        places = beads(p, c, z)
        assert rows["particle"].nunique() == len(places)
        assert (rows.groupby("particle")["t"].nunique() == N_TIMES).all()
        start = rows[rows["t"] == 0]
        assert all((np.hypot(start.y - y, start.x - x) < 1).sum() == 1 for y, x in places)
    return tracks.groupby(["p", "c", "z"]).ngroups


@pytest.mark.parametrize(("axis_order", "n_planes"), [("tpcz", 1), ("tpcz", 3), ("ptcz", 3), ("tpzc", 3)])
def test_an_acquisition_of_positions_channels_and_planes(tmp_path, core, axis_order, n_planes):
    plan = useq.MDASequence(
        axis_order=axis_order,
        channels=["DAPI", "FITC"],
        stage_positions=[(0, 0, 0), (50, 0, 0)],
        z_plan={"range": 2.0, "step": 1.0} if n_planes == 3 else None,
        time_plan={"interval": 0, "loops": N_TIMES},
    )
    config = RunConfig.model_validate({"ingest": {"policy": "block"}})
    with MdaTap(config, tmp_path / "out", core=core, only="all", queue_frames=200) as tap:
        core.run_mda(plan, block=True)
    assert tap.report["status"] == "completed", tap.report["frames"]
    assert tap.report["frames"]["processed"] == 4 * n_planes * N_TIMES
    assert assert_no_track_crosses(tmp_path / "out") == 4 * n_planes
    said = [(each["position"], each["channel_name"]) for each in tap.report["streams"]]
    assert {name.split()[0] for _, name in said} == {"DAPI", "FITC"}
    if n_planes == 3:
        memory = [each["engine_memory_bytes"] for each in tap.report["streams"]]
        assert memory == [3 * HEIGHT * WIDTH * 2] * 12


def test_an_image_without_a_time_follows_its_own_stream(tmp_path):
    config = RunConfig.model_validate({"ingest": {"policy": "block"}})
    with Tap(config, tmp_path / "out", shape=(HEIGHT, WIDTH), only="all", queue_frames=200) as tap:
        for t in range(N_TIMES):
            for c, name in enumerate(("DAPI", "GFP")):
                tap(image(t, 0, c, 0), {"Channel": name, "ImageNumber": str(2 * t + c)})
    assert tap.report["status"] == "completed"
    assert assert_no_track_crosses(tmp_path / "out") == 2
    assert json.loads((tmp_path / "out" / "report.json").read_text())["source"]["streams"] == []


def test_two_cameras_are_two_channels(tmp_path):
    config = RunConfig.model_validate({"ingest": {"policy": "block"}})
    with Tap(config, tmp_path / "out", shape=(HEIGHT, WIDTH), only="all", queue_frames=200) as tap:
        for t in range(N_TIMES):
            for c, camera in enumerate(("Left", "Right")):
                tap(image(t, 0, c, 0), {"Axes": {"time": t}, "Camera": camera})
    assert assert_no_track_crosses(tmp_path / "out") == 2
