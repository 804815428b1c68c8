"""The stage follows a bead, on Micro-Manager's own core: its demo camera shows beads that move with the demo stage."""

import json
from contextlib import closing

import numpy as np
import pyarrow.parquet as pq
import pytest
from demo_beads import SIZE_PX, UM_PER_PX, core_with_beads

from streamtrack.config import RunConfig
from streamtrack.session import Session

MIDDLE_PX = (SIZE_PX - 1) / 2
EXPOSURE_MS = 50.0
FRAMES = 200
NUDGE_EVERY = 20
FIRST_OFFSET_UM = (24.0, 32.0)
"""40 px at the demo's 1 um per px."""


@pytest.fixture
def core():
    yield from core_with_beads(density=10, exposure_ms=EXPOSURE_MS)


def bead_off_the_middle(core):
    """Return dy, dx, px: from the middle of the image to the bead that is nearest to it."""
    core.snapImage()
    image = core.getImage().astype(float)
    spots = []
    y, x = np.indices(image.shape)
    while image.max() > 60:
        peak = np.unravel_index(image.argmax(), image.shape)
        near = np.hypot(y - peak[0], x - peak[1]) < 8
        weight = np.where(near, image, 0)
        spots.append(((weight * y).sum() / weight.sum(), (weight * x).sum() / weight.sum()))
        image[near] = 0
    away = np.array(spots) - MIDDLE_PX
    return away[np.hypot(*away.T).argmin()]


class Nudges:
    """Knocks the stage every so many frames, as an elbow would."""

    def __init__(self, core):
        self._core = core
        self._rng = np.random.default_rng(3)
        self.frames = []

    def __call__(self, progress):
        frame = progress.processed + progress.lost
        # Not at exact frames: on a busy computer any of them may be lost.
        if frame >= len(self.frames) * NUDGE_EVERY + NUDGE_EVERY and len(self.frames) < FRAMES // NUDGE_EVERY - 1:
            self.frames.append(frame)
            angle, length_um = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(5, 15)
            self._core.setRelativeXYPosition(length_um * np.cos(angle), length_um * np.sin(angle))


@pytest.mark.timing
def test_a_bead_is_brought_to_the_middle_and_held_there(core, tmp_path):
    from streamtrack_drivers.micromanager import MicroManager

    dy, dx = bead_off_the_middle(core)
    core.setXYPosition(dx + FIRST_OFFSET_UM[0], dy + FIRST_OFFSET_UM[1])
    core.waitForDevice("XY")
    assert np.hypot(*bead_off_the_middle(core)) == pytest.approx(np.hypot(*FIRST_OFFSET_UM), abs=1)
    config = RunConfig.model_validate(
        {
            "source": {"kind": "micromanager", "frames": FRAMES},
            # The default weights are unsure of beads without any noise.
            "engine": {"kind": "denodet", "weights": "denodet"},
            "triggers": [
                {
                    "kind": "nearest",
                    "max_distance_px": 60,
                    "at_least_px": 0.3,
                    "confirmed": False,
                    "max_per_minute": 10_000,
                    "do": "stage",
                    "action": {"centre": True},
                }
            ],
            "actuators": {"stage": {"kind": "stage"}},
            "safety": {"x_um": (-300, 300), "y_um": (-300, 300)},
            "sinks": [{"kind": "tables"}],
            "mode": "armed",
        }
    )
    nudges = Nudges(core)
    with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
        report = Session(config, tmp_path / "out", microscope=microscope).run(nudges)
    assert report["error"] is None
    found = pq.read_table(tmp_path / "out" / "detections.parquet").to_pandas()
    away_px = np.hypot(found.y - MIDDLE_PX, found.x - MIDDLE_PX).groupby(found.frame).min()
    assert away_px[0] == pytest.approx(40, abs=1)
    assert (away_px.loc[5 : NUDGE_EVERY - 1] < 1).all(), "40 px are made good within 5 frames"
    assert len(nudges.frames) == FRAMES // NUDGE_EVERY - 1
    seen = [away_px.loc[nudge : nudge + 4].max() > 4 for nudge in nudges.frames]
    assert sum(seen) > len(seen) / 2, "a nudge in the middle of one of the loop's own moves comes to nothing"
    for nudge in nudges.frames:
        assert (away_px.loc[nudge + 9 : nudge + NUDGE_EVERY - 1] < 1).all(), "every nudge is made good"
    log = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    sent = [line for line in log if line["fate"] == "sent"]
    assert len(sent) == report["outputs"]["actuators"]["stage"]["sent"] >= FRAMES // NUDGE_EVERY
    assert all(0 < line["grabbed_to_commanded_ms"] < line["grabbed_to_done_ms"] for line in sent)
