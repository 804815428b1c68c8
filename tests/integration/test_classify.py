"""The measure ``classify`` in a run, and what its packaged classifier is worth."""

import json

import numpy as np
import pytest

import streamtrack
from streamtrack.simulation.camera import Camera
from streamtrack.simulation.kinds import KINDS, kind_patches, random_look
from streamtrack.simulation.render import amplitude_from_snr
from streamtrack.types import Detections
from streamtrack_engines.classify.measure import Classify

BACKGROUND_E = 20.0
PLACES = {"vesicle": [(30, 30), (30, 98), (64, 64)], "comet": [(98, 30), (98, 98)]}
"""y, x of the particles of each kind, px."""


def movie(n_frames=25):
    """Return frames (T, 128, 128) of vesicles and comets that hardly move, SNR 6."""
    rng = np.random.default_rng(8)
    particles = [(random_look(rng, kind, 1.2), np.array(at, float)) for kind, all_ in PLACES.items() for at in all_]
    frames = np.empty((n_frames, 128, 128), np.uint16)
    for frame in frames:
        image_e = np.full(frame.shape, BACKGROUND_E, np.float32)
        for look, at in particles:
            at += rng.normal(0, 0.2, 2)
            look.add_to(image_e, *at, float(amplitude_from_snr(6.0, BACKGROUND_E)))
        frame[:] = Camera(offset_counts=100).expose(rng, image_e)
    return frames


def test_a_rule_for_comets_fires_at_comets_alone(tmp_path):
    rule = {
        "kind": "value",
        "column": "class_probability",
        "above": 0.6,
        "where": [{"column": "class", "is": "comet"}],
        "do": "raw",
    }
    found = streamtrack.track(
        movie(),
        tmp_path / "out",
        progress=False,
        measures=["classify"],
        triggers=[rule],
        sinks=[{"kind": "tables"}, {"kind": "raw"}],
    )
    log = [json.loads(line) for line in (tmp_path / "out" / "commands.jsonl").read_text("utf-8").splitlines()]
    fired_at = np.array([(line["event"]["y"], line["event"]["x"]) for line in log])
    for comet in PLACES["comet"]:
        assert np.any(np.hypot(*(fired_at - comet).T) < 6), "every comet"
    for vesicle in PLACES["vesicle"]:
        assert np.all(np.hypot(*(fired_at - vesicle).T) > 10), "and no vesicle"
    last = found.detections[found.detections["frame"] == 24]
    assert sorted(last["class"]) == [KINDS.index("vesicle")] * 3 + [KINDS.index("comet")] * 2


def balanced_accuracy(snr, n_frames):
    """Return the packaged classifier's, for particles of a seed that no training saw, from so many frames of each."""
    patches, kinds = kind_patches(np.random.default_rng(20_000_003), 1500, 41, (snr, snr), n_frames)
    measure = Classify(threads=1)
    measure.prepare((41, 41), "float32")
    middle = Detections(*[np.full(1, 20, np.float32) for _ in range(5)])
    seen = [[measure.measure(frame, middle, np.arange(1))[0] for frame in each] for each in patches]
    said = measure.values(np.mean(seen, axis=1))[:, 0]
    return np.mean([np.mean(said[kinds == kind] == kind) for kind in range(len(KINDS))])


@pytest.mark.parametrize(("n_frames", "least"), [(1, 0.95), (5, 0.99)])
def test_the_packaged_classifier_is_right_at_snr_4(n_frames, least):
    assert balanced_accuracy(4.0, n_frames) >= least
