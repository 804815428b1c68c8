import json
from functools import partial

import pytest

from streamtrack.bench import measuring
from streamtrack.bench.files import write
from streamtrack.bench.measuring import RunLength


@pytest.fixture
def bench(monkeypatch, cli):
    """Run ``streamtrack bench``, of which ``--quick`` is quicker still; returns exit code, stdout, stderr."""
    monkeypatch.setattr(measuring, "QUICK", RunLength(seconds=0.2, least_frames=15, warm_up_frames=5))
    return partial(cli, "bench")


def test_one_command_measures_and_shows(bench, tmp_path):
    movie = "sim:vesicle?size=48&frames=6&density=500"
    code, out, err = bench(movie, "--quick", "--fps", 200, "--out", tmp_path / "a" / "b")
    assert code == 0, err
    for text in ("engine: detect", "run: queue", "cold start", "memory", "dropped", "camera at 200 frames/s"):
        assert text in out
    record = json.loads((tmp_path / "a" / "b" / "bench.json").read_text(encoding="utf-8"))
    assert record["movie"]["name"] == movie
    assert (tmp_path / "a" / "b" / "bench.png").exists()


def test_two_records_are_compared(bench, measured, tmp_path):
    write(measured[0], tmp_path)
    code, out, _ = bench("--compare", tmp_path / "bench.json", tmp_path / "bench.json")
    assert code == 0
    assert "engine, back to back: detect" in out
    assert "not the same" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fps", "0"], "fps = 0"),
        (["sim:virus"], "virus"),
        (["nowhere.zarr"], "nowhere.zarr"),
        (["--backend", "abacus", "sim:vesicle?size=48&frames=6"], "abacus"),
        (["--compare", "nowhere.json", "nowhere.json"], "nowhere.json"),
    ],
)
def test_a_mistake_is_one_line(bench, tmp_path, arguments, said):
    code, _, err = bench(*arguments, "--quick", "--out", tmp_path / "out")
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("streamtrack: ")
    assert said in last
    assert "Traceback" not in err


def test_an_earlier_record_stays_unless_told(bench, measured, tmp_path, monkeypatch):
    monkeypatch.setattr("streamtrack.bench.record.run_plan", lambda plan, tell: measured[0])
    earlier = tmp_path / "bench.npz"
    earlier.write_bytes(b"of last week")
    code, _, err = bench("--quick", "--out", tmp_path)
    assert code == 2
    assert err == f"streamtrack: {earlier} is there already; name another one with --out, or add --overwrite\n"
    assert earlier.read_bytes() == b"of last week"
    code, _, err = bench("sim:vesicle?size=48&frames=6", "--quick", "--out", tmp_path, "--overwrite")
    assert code == 0, err
    assert earlier.read_bytes() != b"of last week"


def test_a_folder_that_is_a_file_is_refused(bench, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench("--out", tmp_path / "file")
    assert code == 2
    assert "give --out another folder" in err
