"""Where the engine measures z, it is a third axis of linking."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from linked_movies import link, links, prepared

from streamtrack.columns import let_see_depth, measured_by
from streamtrack.errors import ConfigError, LinkerError
from streamtrack.linking.imm import ImmLinker
from streamtrack.linking.relinking import relink
from streamtrack.testing.linkers import detections_at
from streamtrack.types import Column, Detections, SourceInfo

PIXEL_UM, SIGMA_UM, FRAMES = 0.1, 0.03, 40


def turning(measured=1.0, seed=2):
    """Return pairs of particles that come near each other and turn round, .8 um apart along z, and true identities.

    In y, x they seem to have crossed. Of a share of the detections z is measured.
    """
    rng = np.random.default_rng(seed)
    corner = np.stack(np.meshgrid([100.0, 250.0, 400.0], [100.0, 250.0, 400.0]), -1).reshape(-1, 1, 2)
    movie = []
    for t in range(FRAMES):
        off = np.array([[0.0, 1.0], [0.0, -1.0]]) * (0.3 + abs(t - 20))
        yx = (corner + off).reshape(-1, 2) + rng.normal(0, 0.3, (18, 2))
        z = np.tile([-0.4, 0.4], 9) + rng.normal(0, SIGMA_UM, 18)
        z[rng.random(18) >= measured] = np.nan
        order = rng.permutation(18)
        extra = {"z_um": z[order].astype(np.float32), "sigma_z_um": np.full(18, SIGMA_UM, np.float32)}
        movie.append((replace(detections_at(yx[order]), extra=extra), order))
    return movie


def seeing(**settings):
    linker = ImmLinker(**settings)
    linker.see_depth(PIXEL_UM)
    linker.prepare((512, 512))
    return linker


def kept(ids, movie):
    """Return the share of particles that have one id from the beginning to the end."""
    first, last = (dict(zip(movie[t][1].tolist(), ids[t].tolist(), strict=True)) for t in (3, -1))
    return np.mean([first[each] == last[each] for each in first])


def table_of(movie):
    columns = {name: np.concatenate([getattr(d, name) for d, _ in movie]) for name in ("y", "x", "score", "sigma")}
    columns |= {name: np.concatenate([d.extra[name] for d, _ in movie]) for name in ("z_um", "sigma_z_um")}
    table = pd.DataFrame({"frame": np.repeat(np.arange(len(movie)), [len(d) for d, _ in movie]), **columns})
    return table.assign(true=np.concatenate([identity for _, identity in movie]))


@pytest.mark.parametrize("measured", [1.0, 0.7])
def test_particles_that_seem_to_cross_keep_their_ids_by_their_z(measured):
    movie = turning(measured)
    assert kept(link(prepared(), movie), movie) < 0.2
    assert kept(link(seeing(), movie), movie) == 1.0


def test_relink_keeps_them_too_where_it_knows_what_a_pixel_is():
    table = table_of(turning(0.7))
    assert "z_smoothed_um" not in relink(table, (512, 512))
    table.attrs["pixel_size_um"] = PIXEL_UM
    tracks = relink(table, (512, 512))
    assert tracks["particle"].nunique() == 18
    ends = tracks.groupby("particle")["true"].agg(["first", "last"])
    assert (ends["first"] == ends["last"]).all()
    true = np.where(tracks["true"] % 2, 0.4, -0.4)
    smoothed, measured = ((tracks[name] - true).abs().median() for name in ("z_smoothed_um", "z_um"))
    assert smoothed < 0.8 * measured


def test_without_any_z_nothing_changes():
    movie = turning(0.0)
    for one, other in zip(link(seeing(), movie), link(prepared(), movie), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_the_tracks_say_is_nearer_than_what_was_measured():
    linker, movie = seeing(), turning()
    updates = [linker.update(found, t, float(t)) for t, (found, _) in enumerate(movie)]
    error = {
        name: np.std([z - np.where(order % 2, 0.4, -0.4) for z, (_, order) in zip(seen, movie[10:], strict=True)])
        for name, seen in {
            "tracks": [update.z_um for update in updates[10:]],
            "engine": [found.extra["z_um"] for found, _ in movie[10:]],
        }.items()
    }
    assert error["tracks"] < 0.95 * error["engine"]
    assert updates[-1].z_um.dtype == np.float32
    assert linker.columns == (Column("z_smoothed_um", "um"),)
    assert prepared().update(movie[0][0], 0, 0.0).z_um is None


def test_a_movie_goes_on_from_a_saved_state_which_is_none_without_z():
    movie, linker, other = turning(0.7), seeing(), seeing()
    link(linker, movie[:20])
    other.restore({name: np.array(each) for name, each in linker.state().items()})
    for t in range(20, FRAMES):
        one, again = (each.update(movie[t][0], t, float(t)) for each in (linker, other))
        np.testing.assert_array_equal(one.particle, again.particle)
        np.testing.assert_array_equal(one.z_um, again.z_um)
    with pytest.raises(LinkerError, match="start anew"):
        prepared().restore(linker.state())


class Engine:
    """Says z."""

    columns = (Column("z_um", "um"), Column("sigma_z_um", "um"))


def test_the_linker_is_told_where_engine_and_source_know_enough():
    for engine, pixel_um, sees in ((Engine(), 0.1, True), (Engine(), None, False), (object(), 0.1, False)):
        linker = ImmLinker()
        let_see_depth(linker, engine, pixel_um)
        assert (linker.columns != ()) == sees
    source = SourceInfo("a", (8, 8), "uint16", pixel_size_um=0.1)
    let_see_depth(linker := ImmLinker(), Engine(), 0.1)
    assert [each.name for each in measured_by(source, Engine(), linker, {}).columns] == [
        *("z_um", "sigma_z_um", "z_smoothed_um")
    ]
    with pytest.raises(ConfigError, match="'z_um'; rename one"):
        measured_by(replace(source, z_um=3.0), Engine(), linker, {})


def test_half_as_many_links_are_wrong_where_particles_are_crowded():
    """Brownian in three axes."""
    rng = np.random.default_rng(8)
    place = np.concatenate((rng.uniform(0, 200, (150, 2)), rng.uniform(-15, 15, (150, 1))), axis=1)
    movie = []
    for _ in range(25):
        place = place + rng.normal(0, 2.0, place.shape)
        seen = place + rng.normal(0, 0.3, place.shape)
        order = rng.permutation(150)
        z = (seen[order, 2] * PIXEL_UM).astype(np.float32)
        found = detections_at(seen[order, :2])
        extra = {"z_um": z, "sigma_z_um": np.full(150, SIGMA_UM, np.float32)}
        movie.append((Detections(found.y, found.x, found.score, found.mass, found.sigma, extra), order))
    true = links([identity for _, identity in movie])
    right = [len(true & links(link(linker, movie))) / len(true) for linker in (prepared(), seeing())]
    assert 1 - right[1] < 0.5 * (1 - right[0])
