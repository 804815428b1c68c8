"""One bead is followed by its id through 50 moves of the stage, on Micro-Manager's own core and its demo devices."""

import json
from contextlib import closing

import pyarrow.parquet as pq
import pytest
from demo_beads import SIZE_PX, UM_PER_PX, core_with_beads

from streamtrack.config import RunConfig
from streamtrack.session import Session

EXPOSURE_MS = 20.0
MOVES = 50
SETTLE_MS = 80.0
"""On a busy computer the demo camera hands an image over that late."""

FOLLOW = '''
import numpy as np
from streamtrack.types import Event

MIDDLE = (SIZE - 1) / 2
rng = np.random.default_rng(5)
followed, first, aims = [], [], []


def follow(frame, tracks):
    """Bring one bead to one place after another; nothing but its id says which it is."""
    if not followed and len(tracks):
        y, x = tracks.y, tracks.x
        near = np.hypot(y - y[:, None], x - x[:, None]) < 10  # overlapping ones are now two, now one
        alone = near.sum(axis=0) == 1
        followed.append(tracks.particle[np.where(alone, np.hypot(y - MIDDLE, x - MIDDLE), np.inf).argmin()])
    row = np.flatnonzero(tracks.particle == followed[0]) if followed else ()
    if not len(row):
        return None
    here = np.array((tracks.y[row[0]], tracks.x[row[0]]))
    if not aims or np.hypot(*(here - aims[-1])) < 1.5:
        first.append(here)
        aims.append(first[0] + rng.integers(-45, 46, 2))  # whole pixels: between them the engine may find a bead twice
    y, x = here - aims[-1] + MIDDLE  # what 'centre' brings to the middle
    return Event(int(followed[0]), float(y), float(x))
'''


@pytest.fixture
def core():
    yield from core_with_beads(density=30, exposure_ms=EXPOSURE_MS)


@pytest.mark.timing  # frames have to arrive within the time to settle
def test_a_bead_is_followed_by_its_id_through_50_moves(core, tmp_path):
    """Told of its own moves, the run never takes another bead for it, in a field of beads that all look the same."""
    from streamtrack_drivers.micromanager import MicroManager

    (tmp_path / "follow.py").write_text(FOLLOW.replace("SIZE", str(SIZE_PX)))
    run = {
        "source": {"kind": "micromanager", "frames": 2000},
        "triggers": [
            {
                "kind": "python",
                "function": "follow:follow",
                "confirmed": False,
                "max_per_minute": 100_000,
                "do": "stage",
                "action": {"centre": True},
            }
        ],
        "actuators": {"stage": {"kind": "stage", "settle_ms": SETTLE_MS}},
        "safety": {"x_um": (-3000, 3000), "y_um": (-3000, 3000)},
        "sinks": [{"kind": "tables"}],
        "mode": "armed",
    }
    config = RunConfig.model_validate(run).from_file(tmp_path / "run.toml")

    def enough(progress):
        if session.snapshot()["actuators"]["stage"]["sent"] > MOVES:
            session.stop()

    with closing(MicroManager.around(core, stage_um_per_px=[UM_PER_PX, UM_PER_PX])) as microscope:
        session = Session(config, tmp_path / "out", microscope=microscope)
        report = session.run(enough)
    assert report["error"] is None
    log = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text().splitlines()]
    sent = [line for line in log if line["fate"] == "sent"]
    assert len(sent) >= MOVES
    (followed,) = {line["event"]["particle"] for line in log}
    tracks = pq.read_table(tmp_path / "out" / "tracks.parquet").to_pandas()
    frames = pq.read_table(tmp_path / "out" / "frames.parquet").to_pandas()
    seen = tracks[tracks.particle == followed].merge(frames, on="frame").dropna(subset="stage_x_um")
    assert len(seen.drop_duplicates(["stage_x_um", "stage_y_um"])) > 0.8 * MOVES
    for axis in "yx":  # in the sample it stays where it is, whichever frame shows it
        place_um = seen[f"stage_{axis}_um"] + UM_PER_PX * seen[axis]
        assert abs(place_um - place_um.median()).max() < 1
