"""A measurement of a tiny movie, made once."""

import json

import pytest

from streamtrack.bench.measuring import RunLength
from streamtrack.bench.record import Plan, run_plan

MOVIE = "sim:vesicle?size=64&density=500&frames=8&snr=7"


@pytest.fixture(scope="session")
def measured():
    """64 x 64 px, 30 frames or 0.3 s a measurement, a camera at 50 frames/s."""
    plan = Plan(MOVIE, {"kind": "denodet", "threads": 1, "backend": "onnxruntime"}, 50.0, RunLength(0.3, 30, 5))
    heard = []
    result = run_plan(plan, heard.append)
    return result, heard


@pytest.fixture
def record(measured):
    """The record as it comes out of its file."""
    return json.loads(json.dumps(measured[0].record, default=str, allow_nan=False))
