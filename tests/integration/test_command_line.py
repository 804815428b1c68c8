"""The command line, from what a user types to exit code and files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from running import ONNXRUNTIME, start, wait_for_frames

MOVIE = "sim:receptor?snr=5&density=300&frames=12&size=96&seed=11"
LONG = "sim:vesicle?density=100&frames=5000&size=128"


@pytest.fixture
def one_line_error(cli, tmp_path):
    """Run what must fail; returns its one line."""

    def call(*arguments):
        code, _, err = cli(*arguments)
        assert code == 2
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("streamtrack: ")
        assert not (tmp_path / "out").exists(), "nothing may be written for a run that could not begin"
        return lines[0]

    return call


def read_report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def spots(n_frames=6, height=64, width=80, dtype=np.uint16):
    """Two Gaussian spots on a background, one of them moving by a pixel a frame."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(3)
    movie = np.empty((n_frames, height, width), np.float64)
    for t in range(n_frames):
        signal = sum(150 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2.8) for cy, cx in ((20, 20), (40, 30 + t)))
        movie[t] = rng.poisson(40 + signal)
    return movie.astype(dtype)


def test_a_simulated_movie_is_tracked_and_scored(cli, tmp_path):
    code, out, _ = cli("track", MOVIE, "--out", tmp_path / "out")
    assert code == 0
    assert "completed: 12 frames" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("detections.parquet", "tracks.parquet", "tracks.csv", "frames.parquet"),
        *("report.json", "overview.png"),
    }
    detections = pd.read_parquet(tmp_path / "out" / "detections.parquet")
    assert list(detections.columns) == ["frame", "y", "x", "score", "sigma", "mass"]
    tracks = pd.read_csv(tmp_path / "out" / "tracks.csv")
    assert {"frame", "particle", "y", "x", "mass"} <= set(tracks.columns)
    assert len(tracks) <= len(detections)
    report = read_report(tmp_path / "out")
    assert report["status"] == "completed"
    assert report["frames"]["processed"] == 12
    assert report["config"]["source"]["seed"] == 11

    code, out, _ = cli("evaluate", tmp_path / "out", "--out", tmp_path / "scores.json")
    assert code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [each["gate_px"] for each in scores["detections"]] == [5, 2]
    assert scores["detections"][0]["f1"] > 0.9
    assert scores["links"]["recall"] > 0.7


def test_replaying_gives_the_same_bytes(cli, tmp_path):
    for name in ("a", "b"):
        assert cli("track", MOVIE, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "a" / "tracks.csv").read_bytes() == (tmp_path / "b" / "tracks.csv").read_bytes()


def test_the_same_movie_in_any_container_gives_the_same_tracks(cli, tmp_path):
    movie = spots()
    tifffile.imwrite(tmp_path / "movie.tif", movie, metadata={"axes": "TYX"}, imagej=True)
    zarr.create_array(tmp_path / "v3.zarr", data=movie, chunks=(1, 64, 80))
    zarr.create_array(tmp_path / "v2.zarr", data=movie, chunks=(4, 32, 80), zarr_format=2)
    tables = []
    for name in ("movie.tif", "v3.zarr", "v2.zarr"):
        assert cli("track", tmp_path / name, "--out", tmp_path / f"{name}.out")[0] == 0
        tables.append((tmp_path / f"{name}.out" / "tracks.csv").read_bytes())
    assert len(tables[0].splitlines()) > 6
    assert tables[0] == tables[1] == tables[2]


def test_demo_tracks_and_scores(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        code, out, _ = cli("demo", MOVIE)
        assert code == 0
        assert "F1" in out
        assert "overview.png" in out
    assert (tmp_path / "streamtrack-demo" / "overview.png").stat().st_size > 10_000


def test_a_run_from_a_toml_file_which_arguments_override(cli, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        '[source]\nkind = "sim"\nscenario = "vesicle"\nframes = 30\nsize = 64\n'
        '[engine]\nkind = "denodet"\nthreshold = 0.6\n[linker]\nkind = "trackpy"\nsearch_range = 6.0\n'
        '[[sinks]]\nkind = "tables"\n'
    )
    assert cli("track", "--config", config, "--out", tmp_path / "out", "--threshold", "0.7")[0] == 0
    report = read_report(tmp_path / "out")
    assert report["frames"]["processed"] == 30
    assert report["config"]["engine"]["threshold"] == 0.7
    assert report["config"]["linker"] | {"kind": "trackpy", "search_range": 6.0} == report["config"]["linker"]
    assert not (tmp_path / "out" / "overview.png").exists()


def test_nan_and_infinite_pixels_are_masked_and_counted(cli, tmp_path):
    movie = spots(dtype=np.float32)
    movie[2, 5, 5:9] = np.nan
    movie[4, 0, 0] = np.inf
    zarr.create_array(tmp_path / "m.zarr", data=movie, chunks=(1, 64, 80))
    code, out, _ = cli("track", tmp_path / "m.zarr", "--out", tmp_path / "out")
    assert code == 0
    assert "5 pixels in 2 frames masked: NaN, infinite" in out
    assert read_report(tmp_path / "out")["frames"]["masked_pixels"] == 5
    assert np.isfinite(pd.read_parquet(tmp_path / "out" / "detections.parquet")).all(axis=None)


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_chunk_loses_its_frame_only_and_exit_code_3_says_so(cli, tmp_path, damage):
    zarr.create_array(tmp_path / "m.zarr", data=spots(), chunks=(1, 64, 80))
    chunk = tmp_path / "m.zarr" / "c" / "3" / "0" / "0"
    chunk.unlink() if damage == "missing" else chunk.write_bytes(chunk.read_bytes()[:40])
    code, out, _ = cli("track", tmp_path / "m.zarr", "--out", tmp_path / "out")
    assert code == 3
    assert "incomplete: 5 frames" in out
    report = read_report(tmp_path / "out")
    assert report["status"] == "incomplete"
    (lost,) = report["frames"]["lost_frames"]
    assert (lost["first"], lost["last"]) == (3, 3)
    assert "chunk" in lost["cause"]
    assert 3 not in set(pd.read_parquet(tmp_path / "out" / "detections.parquet")["frame"])


def test_a_movie_full_of_holes_does_not_flood_the_screen(cli, tmp_path):
    zarr.create_array(tmp_path / "m.zarr", data=spots(20), chunks=(1, 64, 80))
    for index in range(1, 20, 2):
        (tmp_path / "m.zarr" / "c" / str(index) / "0" / "0").unlink()
    code, out, _ = cli("track", tmp_path / "m.zarr", "--out", tmp_path / "out")
    assert code == 3
    assert len(out.splitlines()) < 10
    assert "lost 10 frames: missing chunk" in out
    assert len(read_report(tmp_path / "out")["frames"]["lost_frames"]) == 10


def write_group(path):
    group = zarr.create_group(path)
    group.create_array("labels", shape=(4,), dtype="int32")


def write_array(path, shape, dtype, **options):
    zarr.create_array(path, shape=shape, dtype=dtype, chunks=shape if 0 not in shape else (1,) * len(shape), **options)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda path: None, (), "no such file or folder"),
        (lambda path: path.mkdir(), (), "zarr"),
        (write_group, (), "labels"),
        (lambda path: write_array(path, (2, 3, 4, 40, 40), "uint8"), (), "--axes"),
        (
            lambda path: write_array(path, (2, 3, 40, 40), "uint8", dimension_names=("t", "c", "y", "x")),
            (),
            "--channel",
        ),
        (lambda path: write_array(path, (3, 40, 40), "complex64"), (), "complex64"),
        (lambda path: write_array(path, (3, 40, 40), "bool"), (), "bool"),
        (lambda path: write_array(path, (3, 31, 64), "uint8"), (), "32"),
        (lambda path: write_array(path, (0, 64, 64), "uint8"), (), "empty"),
        (lambda path: write_array(path, (3, 64, 64), "uint8"), ("--level", "2"), "level"),
        (lambda path: write_array(path, (3, 64, 64), "uint8"), ("--frames", "a:b"), "A:B"),
        (lambda path: write_array(path, (3, 64, 64), "uint8"), ("--linker", "imn"), "did you mean 'imm'"),
        (lambda path: write_array(path, (3, 64, 64), "uint8"), ("--threshold", "high"), None),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, one_line_error, tmp_path, make, arguments, message):
    path = tmp_path / "movie.zarr"
    make(path)
    command = ("track", path, "--out", tmp_path / "out", *arguments)
    if message is None:
        assert cli(*command)[0] == 2
    else:
        assert message in one_line_error(*command)


def test_a_file_that_is_no_movie(one_line_error, tmp_path):
    (tmp_path / "notes.tif").write_text("these are notes")
    assert "notes.tif" in one_line_error("track", tmp_path / "notes.tif", "--out", tmp_path / "out")
    (tmp_path / "notes.txt").write_text("these are notes")
    assert "notes.txt" in one_line_error("track", tmp_path / "notes.txt", "--out", tmp_path / "out")


def test_unknown_keys_and_plugins_are_named_with_the_nearest(one_line_error, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('[source]\nkind = "sim"\nscenario = "vesicle"\n[linkr]\nkind = "imm"\n')
    assert "'linkr'; did you mean 'linker'" in one_line_error("track", "--config", config, "--out", tmp_path / "out")
    config.write_text('[source]\nkind = "sim"\nscenario = "vesicle"\n[engine]\nkind = "denodet"\ntreshold = 0.5\n')
    assert "did you mean 'threshold'" in one_line_error("track", "--config", config, "--out", tmp_path / "out")
    assert "vesicle" in one_line_error("track", "sim:vesicl", "--out", tmp_path / "out")
    assert "'snt'; did you mean 'snr'" in one_line_error("track", "sim:vesicle?snt=4", "--out", tmp_path / "out")
    assert "name a movie" in one_line_error("track", "--out", tmp_path / "out")


def test_results_are_kept_unless_overwrite_is_given(cli, tmp_path):
    assert cli("track", MOVIE, "--out", tmp_path)[0] == 0
    before = (tmp_path / "tracks.csv").read_bytes()
    code, _, err = cli("track", MOVIE, "--out", tmp_path)
    assert code == 2
    assert "--overwrite" in err
    assert (tmp_path / "tracks.csv").read_bytes() == before
    assert cli("track", MOVIE, "--out", tmp_path, "--overwrite")[0] == 0


def test_evaluate_says_what_it_cannot_read(one_line_error, cli, tmp_path):
    assert "report.json" in one_line_error("evaluate", tmp_path)
    assert cli("track", MOVIE, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "truth.csv").write_text("frame,x\n0,1\n")
    assert "y" in one_line_error("evaluate", tmp_path / "run", tmp_path / "truth.csv")
    assert "none.csv" in one_line_error("evaluate", tmp_path / "run", tmp_path / "none.csv")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['streamtrack', '--help']\n"
        "try:\n    from streamtrack.cli import main; main()\nexcept SystemExit: pass\n"
        "heavy = {'dask', 'matplotlib', 'numba', 'onnxruntime', 'pandas', 'pyarrow', 'scipy', 'torch', 'zarr'}\n"
        "assert not (slow := (heavy | {'streamtrack_drivers', 'streamtrack_engines'}) & set(sys.modules)), slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "track" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="a console Ctrl-C cannot be sent to one child process on Windows")
def test_ctrl_c_writes_what_is_decided(tmp_path):
    out = tmp_path / "out"
    with start("track", LONG, *ONNXRUNTIME, "--out", out) as child:
        wait_for_frames(out, child)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    report = read_report(out)
    assert report["status"] == "interrupted"
    processed = report["frames"]["processed"]
    assert 0 < processed < 5000
    assert pd.read_parquet(out / "detections.parquet")["frame"].max() == processed - 1
    assert not list(out.glob("*.partial*"))


def test_a_killed_run_is_recovered(cli, tmp_path):
    out = tmp_path / "out"
    with start("track", LONG, *ONNXRUNTIME, "--out", out) as child:
        wait_for_frames(out, child, at_least=20)
        child.kill()
    assert read_report(out)["status"] == "running"
    assert not (out / "tracks.csv").exists(), "nothing half-written passes for a result"
    code, _, err = cli("track", LONG, "--out", out)
    assert code == 2
    assert "streamtrack recover" in err
    code, printed, _ = cli("recover", out)
    assert code == 0
    assert read_report(out)["status"] == "interrupted"
    assert f"recovered {len(pd.read_parquet(out / 'detections.parquet'))} detections" in printed
    assert len(pd.read_csv(out / "tracks.csv")) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are for Linux only")
def test_names_that_are_no_text_are_escaped_or_refused(cli, tmp_path):
    movie = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.zarr"))
    zarr.create_array(movie, data=spots(), chunks=(1, 64, 80))
    assert cli("track", movie, "--out", tmp_path / "out")[0] == 0
    assert read_report(tmp_path / "out")["source"]["name"] == str(tmp_path / r"\udcff.zarr")
    code, _, error = cli("track", movie, "--out", tmp_path / "\udcff")
    assert code == 2
    assert r"\udcff is not in UTF-8: give --out another" in error


def test_a_name_that_a_pipe_on_windows_cannot_take_is_written_all_the_same():
    """Nothing is lost for it after a complete run."""
    script = "from streamtrack import cli; cli.make_app = lambda asked: lambda **how: print('Ω.zarr'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout.split() == [rb"\u03a9.zarr"]
