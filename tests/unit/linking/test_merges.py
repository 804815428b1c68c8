"""Particles that merge are told from those that pass, by relink."""

import numpy as np
import pandas as pd
import pytest

from streamtrack.errors import ConfigError
from streamtrack.linking.relinking import relink

FRAMES, MEET, SHAPE = 50, 22, (300, 300)
SEEN_AS_ONE_PX = 4.0


def meeting(kind, seed=5):
    """Return detections of 16 particles, of which 6 are pairs that meet and stay, or pass, or of which one ends there.

    Two that are nearer to each other than 4 px are found as one, with the mass of both.
    """
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(40, 300, 60.0), [60.0, 150.0, 240.0]), -1).reshape(-1, 2)[:13]
    mass, others, rows = rng.uniform(80, 160, (2, 3)), rng.uniform(80, 160, 10), []
    for t in range(FRAMES):
        place = place + rng.normal(0, 0.3, place.shape)
        apart = {"stay": max(MEET - t, 0.0), "pass": MEET - t + 0.1, "end": 5.0}[kind]
        half = np.array([0.0, apart / 2])
        if kind == "end" and t >= MEET:
            yx, seen = place[:3] + half, mass[0]
        elif abs(apart) < SEEN_AS_ONE_PX:
            yx, seen = place[:3] + half * ((mass[0] - mass[1]) / mass.sum(0))[:, None], mass.sum(0)
        else:
            yx, seen = np.concatenate((place[:3] + half, place[:3] - half)), mass.ravel()
        yx, seen = np.concatenate((yx, place[3:])), np.append(seen, others)
        yx, seen = yx + rng.normal(0, 0.1, yx.shape), seen * rng.normal(1, 0.08, len(yx))
        rows.append(pd.DataFrame({"frame": t, "y": yx[:, 0], "x": yx[:, 1], "mass": seen}))
    return pd.concat(rows, ignore_index=True).assign(score=0.95, sigma=0.1)


def test_two_that_stay_together_end_and_what_they_become_begins():
    table = meeting("stay")
    tracks = relink(table, SHAPE, merges=True)
    spans = tracks.groupby("particle").agg({"frame": ["min", "max"], "merged_into": ["nunique", "first"]})
    spans.columns = ["first", "last", "n", "into"]
    before = spans[spans["into"] >= 0]
    after = spans.loc[before["into"].unique()]
    assert (spans["n"] == 1).all()
    assert len(before) == 6
    assert (before["into"].value_counts() == 2).all()
    assert (before["first"] == 0).all()
    assert (before["last"] == MEET - 4).all()
    assert (after["first"] == MEET - 3).all()
    assert (after["last"] == FRAMES - 1).all()
    assert len(tracks) == len(table)


@pytest.mark.parametrize("kind", ["pass", "end"])
def test_two_that_pass_or_of_which_one_ends_beside_the_other_do_not_merge(kind):
    assert (relink(meeting(kind), SHAPE, merges=True)["merged_into"] == -1).all()


def test_without_masses_nothing_merges():
    table = meeting("stay")
    assert (relink(table.assign(mass=0.0), SHAPE, merges=True)["merged_into"] == -1).all()
    with pytest.raises(ConfigError, match=r"lacks the column\(s\) mass"):
        relink(table.drop(columns="mass"), SHAPE, merges=True)


def test_merges_and_divisions_go_together():
    tracks = relink(meeting("stay"), SHAPE, merges=True, divisions=True)
    assert (tracks["parent"] == -1).all()
    assert tracks.loc[tracks["merged_into"] >= 0, "merged_into"].nunique() == 3
