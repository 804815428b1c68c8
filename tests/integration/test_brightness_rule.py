"""A laser on brightness: what the rule sees in a simulated movie of blinking particles is what the simulation did."""

import json
from functools import cache

import numpy as np
import pytest
import zarr

import streamtrack
from streamtrack.simulation.camera import CHALLENGE_CAMERA
from streamtrack.simulation.render import add_spots, amplitude_from_snr, round_spot

FRAMES = 60
SIZE_PX = 128
SIGMA_PX = 1.15
BACKGROUND = 16.0
# Not farther apart: the network takes a spot much brighter than the others of its frame for two on top of each other.
DIM, BRIGHT = (float(amplitude_from_snr(snr, BACKGROUND)) for snr in (9.0, 12.0))
LIGHT = 2 * np.pi * SIGMA_PX**2
"""Of a particle, in units of its height."""


@cache
def blinking(seed=3):
    """Return a movie (T, H, W), uint16, its particles' places (N, 2), and in which frames each is bright (T, N)."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(np.arange(20, SIZE_PX, 22), np.arange(20, SIZE_PX, 22)), -1).reshape(-1, 2)
    places = places + rng.uniform(-0.5, 0.5, places.shape)
    bright = np.zeros((FRAMES, len(places)), bool)
    for frame in range(8, FRAMES):  # tracks are confirmed by then
        flips = rng.random(len(places)) < 0.12
        bright[frame] = bright[frame - 1] ^ flips
    movie = np.empty((FRAMES, SIZE_PX, SIZE_PX), np.uint16)
    for frame in range(FRAMES):
        clean = np.full((SIZE_PX, SIZE_PX), BACKGROUND, np.float32)
        height = np.where(bright[frame], BRIGHT, DIM)
        add_spots(clean, *places.T, height, np.zeros(len(places)), round_spot(SIGMA_PX))
        movie[frame] = CHALLENGE_CAMERA.expose(rng, clean)
    return movie, places, bright


def fired(folder, places):
    """Return frame and particle (its place in ``places``) of each command of a run."""
    lines = [json.loads(line) for line in (folder / "commands.jsonl").read_text(encoding="utf-8").splitlines()]
    events = [(line["frame"], line["event"]) for line in lines]
    return sorted((frame, np.hypot(*(places - (e["y"], e["x"])).T).argmin().item()) for frame, e in events)


@pytest.mark.parametrize(("column", "measures"), [("mass", []), ("intensity", ["intensity"])])
def test_the_rule_fires_when_a_particle_turns_bright(tmp_path, column, measures):
    movie, places, bright = blinking()
    between = LIGHT * (DIM + BRIGHT) / 2
    rule = {"kind": "value", "column": column, "above": between, "release": 0.8 * between, "do": "tables"}
    streamtrack.track(movie, tmp_path, measures=measures, triggers=[rule], progress=False)
    frame, particle = np.nonzero(bright[1:] & ~bright[:-1])
    turned = set(zip((frame + 1).tolist(), particle.tolist(), strict=True))
    seen = fired(tmp_path, places)
    assert len(turned) > 50
    assert len(turned - set(seen)) <= 0.05 * len(turned), "missed"
    assert len(seen) - len(turned & set(seen)) <= 0.05 * len(turned), "seen where nothing turned bright, or twice"


def test_a_column_that_nobody_measures_is_said_by_check_and_before_the_run(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.save(str(tmp_path / "movie.zarr"), blinking()[0][:3])
    (tmp_path / "run.toml").write_text(
        """
        source = { kind = "zarr", path = "movie.zarr" }
        measures = [{ kind = "intensity" }]
        [[triggers]]
        kind = "value"
        column = "intensty"
        above = 800
        do = "tables"
        """,
        encoding="utf-8",
    )
    for command in ("check", "track"):
        given = ["--config", "run.toml", "--out", "out"] if command == "track" else ["run.toml"]
        code, _, errors = cli(command, *given)
        assert code == 2, errors
        assert "trigger 'value': nothing measures a column 'intensty'; did you mean 'intensity'?" in errors
        assert "known: of each track mass, score, sigma, intensity" in errors
