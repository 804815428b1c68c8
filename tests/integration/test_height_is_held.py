"""The focus follows a particle that rises, by its height in each image: a simulated camera with a cylindrical lens."""

import time

import numpy as np
import pyarrow.parquet as pq

from streamtrack.config import RunConfig
from streamtrack.psf import STANDARD
from streamtrack.session import Session
from streamtrack.simulation.astigmatic import depth_frame
from streamtrack.testing.microscope import SimulatedMicroscope
from streamtrack.types import Frame, SourceInfo

FRAMES, SHAPE, FRAME_S = 60, (96, 96), 0.03
RISE_UM = 0.02
"""In each frame, and as much at random."""


class Camera:
    """Shows a particle in the middle and three that rise with it, as seen from where the focus drive is."""

    info = SourceInfo("lens", SHAPE, "uint16", None, pixel_size_um=0.1, frame_interval_s=FRAME_S)

    def __init__(self, microscope, frames):
        self.microscope, self.n_frames, self.heights, self.seen = microscope, frames, [], 0

    def on_progress(self, progress):
        self.seen = progress.processed

    def frames(self):
        rng, true_um = np.random.default_rng(5), 0.0
        y, x = np.array([[48.0, 20, 75, 22], [47.0, 24, 70, 72]])
        for index in range(self.n_frames):
            true_um += RISE_UM + rng.normal(0, RISE_UM)
            self.heights.append(true_um - self.microscope.focus_um())
            pixels = depth_frame(rng, y, x, np.full(4, self.heights[-1]), 8.0, SHAPE)
            yield Frame(index, pixels, time.monotonic_ns(), index * FRAME_S)
            end = time.monotonic() + 5
            while self.seen <= index and time.monotonic() < end:  # the computer may be busy
                time.sleep(0.002)
            time.sleep(FRAME_S)

    def close(self):
        pass


def run(tmp_path, mode, frames, z_um=(-5, 5)):
    """Return the report, how high the particle was above the focus in each frame, the microscope, and its tracks."""
    (tmp_path / "psf.toml").write_text(STANDARD.toml(), encoding="utf-8")
    config = RunConfig.model_validate(
        {
            "engine": {"kind": "denodet", "psf": "psf.toml", "threads": 1},
            "triggers": [
                {
                    **{"kind": "nearest", "hold": True, "confirmed": False, "max_per_minute": 10_000},
                    **{"do": "focus", "action": {"centre": True}, "valid_ms": 5000},
                }
            ],
            "actuators": {"focus": {"kind": "focus", "max_move_um": 0.3}},
            "safety": {"z_um": z_um},
            "sinks": [{"kind": "tables"}],
            "mode": mode,
        }
    ).from_file(tmp_path / "run.toml")
    microscope = SimulatedMicroscope(exposure_ms=1)
    camera = Camera(microscope, frames)
    report = Session(config, tmp_path / "out", source=camera, microscope=microscope).run(camera.on_progress)
    assert report["error"] is None
    table = pq.read_table(tmp_path / "out" / "tracks.parquet").to_pandas()
    return report, np.array(camera.heights), microscope, table


def test_a_particle_that_rises_stays_in_focus(tmp_path):
    report, heights, microscope, table = run(tmp_path, "armed", FRAMES)
    assert microscope.focus_um() > 0.7 * FRAMES * RISE_UM
    assert np.abs(heights).max() < 0.3
    assert float(np.sqrt(np.mean(heights[5:] ** 2))) < 0.12
    assert table.groupby("particle").size().max() >= FRAMES - 5, "its track goes on"
    assert report["outputs"]["actuators"]["focus"]["failed"] == 0


def test_nothing_moves_unless_it_is_armed_and_never_beyond_the_limits(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    report, heights, microscope, _ = run(tmp_path / "a", "observe", 25)
    assert heights[-1] > 0.25
    assert not microscope.calls
    assert report["outputs"]["actuators"]["focus"]["recorded"] > 12
    _, _, microscope, _ = run(tmp_path / "b", "armed", 25, (-0.2, 0.2))
    assert 0 < microscope.focus_um() <= 0.2
