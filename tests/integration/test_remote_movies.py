"""Runs of movies on a server: the tables of the same movie on a disk, whatever the server does."""

import json
import shutil

import pytest
import zarr
from movie_server import served
from resumed_runs import ENGINE, SIZE, TABLES, searched_before, simulated

import streamtrack
from streamtrack.config import RunConfig
from streamtrack.session import Session
from streamtrack_drivers import remote

pytest.importorskip("obstore", reason="needs the extra remote")

N_FRAMES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movies")
    zarr.create_array(folder / "movie.zarr", data=simulated(N_FRAMES), chunks=(1, SIZE, SIZE))
    return folder


@pytest.fixture(scope="module")
def local(folder):
    return streamtrack.track(folder / "movie.zarr", engine=ENGINE, progress=False)


@pytest.fixture
def server(folder, monkeypatch):
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with served(folder) as server:
        yield server


def written_in(folder):
    """All that is in the files of a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_tables_are_those_of_the_movie_on_a_disk_and_an_outage_is_resumed(server, local, tmp_path):
    address = f"{server.url}/movie.zarr"
    whole = streamtrack.track(address, tmp_path / "whole", engine=ENGINE, progress=False)
    assert whole.report["source"]["name"] == address
    for table in ("tracks", "detections"):
        assert getattr(whole, table).equals(getattr(local, table))

    config = RunConfig(source={"kind": "zarr", "path": address}, engine=ENGINE)
    server.trouble = lambda key, n_before: 503 if key.startswith("movie.zarr/c/20/") else None
    report = Session(config, tmp_path / "out").run()
    assert report["status"] == "failed"
    assert report["frames"]["processed"] == 20
    assert report["error"].startswith(
        f"{address}: frame 20 cannot be had: its server cannot be read, 4 times: it answers"
    )
    server.trouble = lambda key, n_before: None
    report = Session(config, tmp_path / "out", resume=True).run()
    assert report["status"] == "completed"
    assert searched_before(report) >= 18
    for name in TABLES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("part", ["me:hush@", "?sig=hush"])
def test_what_is_secret_in_an_address_is_in_no_file_and_no_line(server, tmp_path, capfd, part):
    host = f"127.0.0.1:{server.server_port}"
    secret = f"http://{part}{host}/movie.zarr" if "@" in part else f"http://{host}/movie.zarr{part}"
    config = tmp_path / "run.toml"
    config.write_text(f'[source]\nkind = "zarr"\npath = "{secret}"\n')
    for number, arguments in enumerate((["track", secret], ["track", "--config", str(config)], ["batch", secret])):
        out = tmp_path / str(number)
        assert run_command([*arguments, "--out", str(out)]) == 2
        assert b"hush" not in written_in(out)
    said = capfd.readouterr()
    assert "from an address" in said.err or "are not read" in said.err
    assert "hush" not in said.err + said.out


def run_command(arguments):
    from streamtrack.__main__ import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["streamtrack", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code


def test_a_key_of_s3_is_in_no_file(server, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    (tmp_path / "run.toml").write_text('[[sinks]]\nkind = "tables"\n[[sinks]]\nkind = "report"\n')
    shutil.copytree(server.folder / "movie.zarr", server.folder / "bucket" / "movie.zarr", dirs_exist_ok=True)
    arguments = [
        "track",
        "s3://bucket/movie.zarr",
        "--config",
        str(tmp_path / "run.toml"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run_command(arguments) == 0
    server.trouble = lambda key, n_before: 403
    assert run_command([*arguments[:-1], str(tmp_path / "refused")]) == 2
    said = capfd.readouterr()
    everything = written_in(tmp_path / "out") + written_in(tmp_path / "refused") + (said.out + said.err).encode()
    assert b"s3://bucket/movie.zarr" in everything
    assert b"hush" not in everything
    assert b"lab-key" not in everything


def test_a_batch_names_folders_after_the_last_part_of_an_address_and_knows_the_movie_again(server, local, tmp_path):
    pytest.importorskip("streamtrack.offline.cluster", reason="needs the extra 'offline'")
    address = f"{server.url}/movie.zarr"
    settings = {"engine": ENGINE, "progress": False, "block": 8, "workers": 1}
    results = streamtrack.batch([address], tmp_path / "out", **settings)
    assert list(results) == ["movie"]
    assert results["movie"].tracks.equals(local.tracks)
    manifest = json.loads((tmp_path / "out" / "batch.json").read_text(encoding="utf-8"))
    assert manifest["movies"]["movie"] == {"kind": "zarr", "path": address, "position": 0}
    assert all(row.skipped for row in streamtrack.batch([address], tmp_path / "out", **settings).rows)


def test_a_run_of_a_server_that_has_gone_silent_is_stopped_at_once(server, tmp_path):
    address = f"{server.url}/movie.zarr"
    server.trouble = lambda key, n_before: "silent" if key.startswith("movie.zarr/c/10/") else None
    config = RunConfig(source={"kind": "zarr", "path": address}, engine=ENGINE)
    session = Session(config, tmp_path / "out")
    report = session.run(lambda progress: progress.processed == 10 and session.stop())
    assert report["status"] == "interrupted"
    assert report["frames"]["processed"] == 10
