import numpy as np
import pandas as pd
import pytest
from linked_movies import DIVISION, dividing

from streamtrack.errors import ConfigError
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.nearest import NearestLinker
from streamtrack.linking.relinking import relink
from streamtrack.metrics.ptc import fill_gaps, score_ptc

SHAPE = (512, 512)
LEAST_GAIN = {"brownian": 0.001, "directed": 0.002, "switching": 0.002}


def table(*rows, **columns):
    return pd.DataFrame(rows, columns=["frame", "y", "x"]).astype({"frame": int}).assign(**columns)


def line(frames, y):
    return [(t, y, 5.0) for t in frames]


def as_table(movie, particle=None):
    frame = np.repeat(np.arange(len(movie)), [len(d) for d, _ in movie])
    y, x = (np.concatenate([getattr(d, name) for d, _ in movie]).astype(float) for name in ("y", "x"))
    columns = pd.DataFrame({"frame": frame, "y": y, "x": x})
    return columns if particle is None else columns.assign(particle=particle)


def online(linker, movie):
    """Link as a run does, revisions included."""
    linker.prepare(SHAPE)
    ids = []
    for t, (detections, _) in enumerate(movie):
        update = linker.update(detections, t, float(t))
        ids.append(update.particle.copy())
        revised = update.revised
        for frame, place, particle in zip(revised.frame_index, revised.detection, revised.particle, strict=True):
            ids[frame][place] = particle
    return as_table(movie, np.concatenate(ids))


def alpha(movie, tracks):
    truth = as_table(movie, np.concatenate([identity for _, identity in movie]))
    long = tracks.groupby("particle")["frame"].transform("size") >= 3
    return score_ptc(fill_gaps(truth[truth.particle >= 0]), fill_gaps(tracks[long])).alpha


@pytest.mark.parametrize("motion", ["brownian", "directed", "switching"])
def test_what_is_linked_anew_is_better_than_what_was_linked_online(simulate, motion):
    """On average: of single tracks the online linker may be right by luck."""
    movies = [simulate(motion, n=100, frames=50, seed=seed) for seed in (1, 2, 3)]
    again = np.mean([alpha(movie, relink(as_table(movie).assign(score=1.0), SHAPE)) for movie in movies])
    assert again >= np.mean([alpha(movie, online(ImmLinker(), movie)) for movie in movies]) + LEAST_GAIN[motion]
    assert again > np.mean([alpha(movie, online(NearestLinker(), movie)) for movie in movies])


@pytest.mark.parametrize("step_px", [0.5, 2.0, 6.0])
def test_the_step_is_found(simulate, step_px):
    rows = as_table(simulate("brownian", n=100, frames=50, step_px=step_px))
    assert relink(rows, SHAPE).attrs["step_px"] == pytest.approx(step_px, rel=0.1)


def test_relink_keeps_what_is_known_of_detections_and_drops_what_was_of_tracks():
    rows = table(*line(range(9), 3.0), *line(range(9), 17.0), (4, 10.0, 15.0), sigma=0.2, score=0.9, mass=300.0)
    old = rows.assign(mass=np.arange(19.0), particle=7, existence=0.5, vy=1.0, vx=1.0, diffusion=1.0, directed=0.1)
    old.attrs["pixel_size_um"] = 0.1
    new = relink(old)
    assert list(new.columns) == ["frame", "particle", "y", "x", "sigma", "score", "mass"]
    assert new.frame.tolist() == np.repeat(range(9), 2).tolist()
    assert new.particle.tolist() == [0, 1] * 9
    assert new.mass.tolist() == np.column_stack((range(9), range(9, 18))).ravel().tolist()
    assert new.attrs["pixel_size_um"] == 0.1


def test_scores_decide_what_is_false():
    rows = table(*line(range(20), 3.0), *line(range(8, 12), 17.0))
    assert relink(rows).particle.nunique() == 2
    assert relink(rows.assign(score=[0.95] * 20 + [0.05] * 4)).particle.nunique() == 1


def test_rows_in_any_order_and_positions_beside_the_origin_give_the_same():
    rows = table(*line(range(12), 3.0), *line(range(12), 17.0))
    moved = rows.assign(y=rows.y + 1000.0, x=rows.x - 50.0)
    assert relink(rows[::-1]).particle.tolist() == relink(moved).particle.tolist() == [0, 1] * 12


def test_a_long_pause_costs_nothing():
    rows = table(*line([0, 1, 2, 3, 10**6, 10**6 + 1, 10**6 + 2, 10**6 + 3], 3.0))
    assert relink(rows).particle.tolist() == [0] * 4 + [1] * 4


def test_nothing_to_link():
    assert relink(table()).empty
    assert relink(table((0, 1.0, 1.0))).empty


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match=r"lacks the column\(s\) x; it has frame, y"):
        relink(table((0, 1.0, 1.0)).drop(columns="x"))
    with pytest.raises(ConfigError, match="not finite"):
        relink(table((0, np.nan, 1.0)))


@pytest.mark.parametrize("has_masses", [True, False])
def test_divisions_are_found_and_tracks_end_there(has_masses):
    movie = list(dividing(apart_px=14.0))
    rows = as_table([(found, None) for found in movie]).assign(sigma=0.3, score=0.95)
    if has_masses:
        rows["mass"] = np.concatenate([found.mass for found in movie])
    tracks = relink(rows, (300, 300), divisions=True)
    daughters = tracks[tracks.parent >= 0]
    assert daughters.frame.min() == DIVISION
    assert daughters.groupby("particle").parent.nunique().eq(1).all()
    assert daughters.drop_duplicates("particle").parent.value_counts().tolist() == [2] * 4
    assert tracks[tracks.particle.isin(daughters.parent)].frame.max() == DIVISION - 1
    assert len(tracks) == len(rows)
