import json

import numpy as np
import pytest

from benchmarks.linking import motions
from benchmarks.linking.linkers import NEEDS, Ranges, link_motile, missing
from benchmarks.linking.motions import BESIDE, FAMILIES, N, link, movie_of
from benchmarks.linking.trials import score, settled_ids
from benchmarks.shared.particles import SHAPE
from streamtrack.linking.imm import ImmLinker
from streamtrack.types import Detections


@pytest.mark.parametrize("name", FAMILIES)
def test_true_identities_are_the_best_that_a_linker_can_do(name):
    movie = movie_of(name, seed=5, frames=25)
    assert (movie.simulated.truth.groupby("frame")["particle"].nunique() == N).all()
    best = score(movie.simulated, movie.identities)["alpha"]
    ours = score(movie.simulated, settled_ids(list(link(movie.simulated.detections))))["alpha"]
    assert ours <= best + 0.02
    assert best > 0.7


@pytest.mark.parametrize("name", FAMILIES)
def test_a_linker_saved_in_the_middle_goes_on_as_if_nothing_had_happened(name):
    detections = movie_of(name, seed=6, frames=60).simulated.detections
    one, other = ImmLinker(), ImmLinker()
    one.prepare(SHAPE)
    for index, found in enumerate(detections):
        if index == 31:
            other.restore(one.state())
        update = one.update(found, index, float(index))
        if index >= 31:
            again = other.update(found, index, float(index))
            assert np.array_equal(update.particle, again.particle)
            assert np.array_equal(update.existence, again.existence)
            assert np.array_equal(update.revised.particle, again.revised.particle)
    assert one.info == other.info


def test_particles_of_a_field_that_jumps_jump_together():
    movie = movie_of("one jump of 30 px", seed=5, frames=52)
    table = movie.simulated.truth.pivot(index="particle", columns="frame", values=["y", "x"])
    moved = np.stack([(table[axis][50] - table[axis][49]).dropna().to_numpy() for axis in "yx"])
    assert np.median(moved, axis=1) == pytest.approx(movie.shifts[50], abs=0.5)
    assert np.hypot(*movie.shifts[50]) == pytest.approx(30.0)


def test_motile_links_by_the_least_cost_closes_gaps_and_never_divides():
    if missing("motile"):
        pytest.skip(missing("motile"))
    places = [[[50, 50], [50, 60]], [[50, 52], [50, 57]], [[50, 50]], [[50, 50], [50, 57]], []]
    frames = [_detections_at(each) for each in places]
    ids = link_motile(frames, Ranges(8.0, 1))
    assert [len(each) for each in ids] == [len(each) for each in places]
    assert all(len(set(each)) == len(each) for each in ids)
    assert [each[0] for each in ids[:4]] == [ids[0][0]] * 4
    assert ids[0][1] == ids[1][1] == ids[3][1]
    for linked in (link_motile(frames, Ranges(8.0, 0)), link_motile(frames, Ranges(8.0, 1), gap_cost=2.0)):
        assert linked[0][1] == linked[1][1] != linked[3][1]


def _detections_at(yx):
    y, x = np.reshape(yx, (-1, 2)).T.astype(np.float32)
    ones = np.ones_like(y)
    return Detections(y, x, ones, ones, ones)


def test_a_row_says_that_motile_did_not_come_to_an_end(monkeypatch):
    def never(detections, ranges, gap_cost):
        raise TimeoutError

    monkeypatch.setattr(motions, "link_motile", never)
    row = BESIDE["motile"]([movie_of("directed 15 px", seed=5, frames=5)])
    assert row == {"failed": "not solved in time with any settings"}


def test_motile_is_tuned_on_the_first_movie_with_what_it_solves(monkeypatch):
    movies = [movie_of("blinking 1 to 3", seed, frames=12) for seed in (5, 6)]
    tried = []

    def only_one_is_right(detections, ranges, gap_cost):
        which = next(k for k, movie in enumerate(movies) if movie.simulated.detections is detections)
        tried.append(which)
        if ranges.search_range == 30.0:
            raise TimeoutError
        right = (ranges, gap_cost) == (Ranges(8.0, 3), 0.03)
        begun = ranges == Ranges(8.0, 3) and gap_cost == 0.01
        return [ids if right else np.where(ids % (4 if begun else 2), ids, -1) for ids in movies[which].identities]

    monkeypatch.setattr(motions, "link_motile", only_one_is_right)
    row = BESIDE["motile"](movies)
    assert (row["search_range"], row["memory"], row["gap_cost"], row["unsolved"]) == (8.0, 3, 0.03, 3)
    assert row["alpha"] == BESIDE["truth"](movies)["alpha"]
    assert tried.count(1) == 1


def test_figures_of_one_method_are_added_to_those_of_the_others(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(motions, "FAMILIES", {"directed 15 px": FAMILIES["directed 15 px"]})
    monkeypatch.setattr(motions, "FRAMES", 5)
    monkeypatch.setitem(BESIDE, "laptrack", lambda movies: {"alpha": 0.5, "jsc_theta": 0.25})
    monkeypatch.delitem(NEEDS, "laptrack")
    file = tmp_path / "motions.json"
    others = {"command": "all", "seeds": [motions.SEED], "rows": [{"family": "directed 15 px", "imm": {"alpha": 0.9}}]}
    file.write_text(json.dumps(others))
    arguments = ["motions", "--quick", "--methods", "laptrack", "--out", str(file)]
    monkeypatch.setattr("sys.argv", arguments)
    motions.main()
    record = json.loads(file.read_text())
    assert record["command"] == "all"
    assert record["added"][0]["command"] == (
        "python -m benchmarks.linking.motions --quick --methods laptrack --out motions.json"
    )
    assert record["rows"] == [others["rows"][0] | {"laptrack": {"alpha": 0.5, "jsc_theta": 0.25}}]
    monkeypatch.setattr("sys.argv", [each for each in arguments if each != "--quick"])
    with pytest.raises(SystemExit, match="figures of other movies"):
        motions.main()
    monkeypatch.setitem(NEEDS, "laptrack", "no_such_package")
    with pytest.raises(SystemExit):
        motions.main()
    assert "no_such_package is not installed" in capsys.readouterr().err
    assert json.loads(file.read_text()) == record
