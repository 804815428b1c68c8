"""Runs that are broken off and go on."""

import streamtrack
from streamtrack.config import RunConfig

ENGINE = {"kind": "denodet", "backend": "onnxruntime", "threads": 1}
SIZE = 96
TABLES = ("tracks.csv", "tracks.parquet", "detections.parquet")


def simulated(n_frames, seed=3):
    """Return a movie, shape (T, 96, 96)."""
    return streamtrack.simulate("receptor", frames=n_frames, size=SIZE, seed=seed).movie


def config(movie, **settings):
    """Return the configuration of a run of a zarr, with other settings on top."""
    tables = {"source": {"kind": "zarr", "path": movie}, "engine": ENGINE, "measures": [{"kind": "intensity"}]}
    return RunConfig.model_validate({**tables, **settings})


def searched_before(report):
    """Return how many frames a resumed run did not have to search."""
    said = [line for line in report["remarks"] if line.startswith("resumed: an earlier run had searched")]
    return int(said[0].split()[6]) if said else 0
