"""Places of tracks to come back to, on Micro-Manager's own core: beads of its demo camera move with its stage."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from demo_beads import SIZE_PX, UM_PER_PX, core_with_beads

from streamtrack.config import RunConfig
from streamtrack.session import Session

RUN = {
    "source": {"kind": "micromanager", "frames": 30},
    "triggers": [{"kind": "appears", "after_frames": 0, "do": "position_list"}],
    "sinks": [{"kind": "tables"}, {"kind": "position_list"}],
}
KILLED = """
import sys, time
from contextlib import closing
from pathlib import Path
sys.path.insert(0, {helpers!r})
from demo_beads import UM_PER_PX, core_with_beads
from streamtrack.config import RunConfig
from streamtrack.session import Session
from streamtrack_drivers.micromanager import MicroManager

core = next(core_with_beads(density=30, exposure_ms=20))
run = RunConfig.model_validate({{**{run!r}, "source": {{"kind": "micromanager"}}}})
with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
    Session(run, Path(sys.argv[1]), microscope=microscope).run(lambda progress: print(progress.processed, flush=True))
"""


@pytest.fixture
def core():
    yield from core_with_beads(density=30, exposure_ms=20)


def listed(folder):
    content = json.loads((folder / "positions.pos").read_text(encoding="utf-8"))
    return [
        {
            "label": each["Label"]["scalar"],
            **{part["Device"]["scalar"]: part["Position_um"]["array"] for part in each["DevicePositions"]["array"]},
        }
        for each in content["map"]["StagePositions"]["array"]
    ]


@pytest.mark.parametrize("mode", ["observe", "rehearse", "armed"])
def test_who_goes_there_has_the_bead_in_the_middle(core, tmp_path, mode):
    from streamtrack_drivers.micromanager import MicroManager

    core.setXYPosition(12, -7)
    core.waitForDevice("XY")
    run = RunConfig.model_validate({**RUN, "mode": mode})
    with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
        report = Session(run, tmp_path / "out", microscope=microscope).run()
    assert report["error"] is None
    places = listed(tmp_path / "out")
    assert len(places) > 5
    assert f"{len(places)} positions are in positions.pos" in report["remarks"]
    table = pd.read_csv(tmp_path / "out" / "positions.csv")
    np.testing.assert_allclose(table[["stage_x_um", "stage_y_um"]], [place["XY"] for place in places])
    assert (table.focus_um == core.getPosition("Z")).all()
    assert table.particle.is_unique
    log = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    assert {line["fate"] for line in log} == {"marked"}
    assert core.getXYPosition() == pytest.approx((12, -7), abs=0.1), "nothing has moved"
    middle = SIZE_PX // 2
    for place in places[:4]:
        core.setXYPosition(*place["XY"])
        core.waitForDevice("XY")
        core.snapImage()
        image = core.getImage().astype(float)
        near = image[middle - 4 : middle + 4, middle - 4 : middle + 4]
        assert near.max() > 0.5 * image.max(), place


def test_a_run_that_only_reads_a_movie_has_no_stage(tmp_path):
    run = RunConfig.model_validate({**RUN, "source": {"kind": "sim", "scenario": "vesicle"}})
    with pytest.raises(Exception, match=r"needs a microscope: add a \[microscope\] table"):
        Session(run, tmp_path / "out")


def test_after_kill_9_both_files_are_whole(tmp_path):
    helpers = str(Path(__file__).parents[1] / "helpers")
    script = KILLED.format(helpers=helpers, run=RUN)
    for at in (3, 8):
        folder = tmp_path / str(at)
        with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) >= at and (folder / "positions.pos").exists():
                    child.kill()
                    break
        places, table = listed(folder), pd.read_csv(folder / "positions.csv")
        assert places
        assert len(places) <= len(table) <= len(places) + 1
        assert table.label.tolist()[: len(places)] == [place["label"] for place in places]
        assert (folder / "positions.csv").read_bytes().endswith(b"\n")
