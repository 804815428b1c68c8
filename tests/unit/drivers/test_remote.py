import json
import os
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import zarr
from movie_server import served

from streamtrack.errors import SourceError
from streamtrack.types import Frame, LostFrame
from streamtrack_drivers import remote
from streamtrack_drivers.zarr_movie import ZarrSource

pytest.importorskip("obstore", reason="needs the extra remote")

N, SIDE = 12, 32
PIXELS = np.random.default_rng(5).integers(1, 60000, (N, SIDE, SIDE)).astype("u2")


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    monkeypatch.setattr(remote, "SILENCE_S", 1)
    (tmp_path / "data").mkdir()
    with served(tmp_path / "data") as one:
        yield one


def written(server, name="m.zarr", pixels=PIXELS, **how):
    """Write a movie, one frame a chunk, and return its address."""
    array = zarr.create_array(
        server.folder / name, shape=pixels.shape, dtype=pixels.dtype, chunks=(1, SIDE, SIDE), **how
    )
    array[:] = pixels
    return f"{server.url}/{name}"


def frames_of(address, **settings):
    with closing(ZarrSource(path=address, **settings)) as source:
        return list(source.frames())


def assert_whole(items, indices=range(N)):
    assert [item.index for item in items] == list(indices)
    for item in items:
        assert isinstance(item, Frame), item
        np.testing.assert_array_equal(item.pixels, PIXELS[item.index])


@pytest.mark.parametrize(
    "how",
    [
        {"zarr_format": 2},
        {"zarr_format": 3},
        {"zarr_format": 3, "compressors": None},
        {"zarr_format": 3, "shards": (4, SIDE, SIDE)},
        {"zarr_format": 3, "shards": (1, SIDE, SIDE)},
    ],
    ids=str,
)
def test_each_frame_of_a_movie_on_a_web_server_comes_once_in_order_as_it_was_written(server, how):
    assert_whole(frames_of(written(server, **how)))
    assert_whole(frames_of(f"{server.url}/m.zarr/", frames="3:7"), range(3, 7))


def ome_zarr(folder: Path, pixels=PIXELS):
    group = zarr.open_group(folder, mode="w")
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, SIDE, SIDE))[:] = pixels
    axes = [{"name": "t", "unit": "second"}, *({"name": name, "unit": "micrometer"} for name in "yx")]
    scale = {"type": "scale", "scale": [0.5, 0.1, 0.1]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def test_ome_zarr_is_read_with_its_scale(server):
    ome_zarr(server.folder / "m.ome.zarr")
    with closing(ZarrSource(path=f"{server.url}/m.ome.zarr")) as source:
        assert (source.info.pixel_size_um, source.info.frame_interval_s) == (0.1, 0.5)
        assert source.info.name == f"{server.url}/m.ome.zarr"
        assert_whole(list(source.frames()))


def test_a_plate_and_a_group_with_consolidated_metadata_tell_a_web_server_s_reader_what_is_in_them(server):
    plate = zarr.open_group(server.folder / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}
    for well in ("A/1", "B/2"):
        plate.require_group(well).attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
        ome_zarr(server.folder / "plate.zarr" / well / "0", PIXELS if well == "B/2" else PIXELS[::-1])
    assert_whole(frames_of(f"{server.url}/plate.zarr", position="B/2/0"))
    assert_whole(frames_of(f"{server.url}/plate.zarr", position=1))
    with pytest.raises(SourceError, match=r"holds 2 images: choose one with --position.*A/1/0 .*B/2/0"):
        frames_of(f"{server.url}/plate.zarr")
    raw = zarr.open_group(server.folder / "raw.zarr", mode="w")
    raw.attrs["bioformats2raw.layout"] = 3
    raw.create_group("OME").attrs["ome"] = {"series": ["0"]}
    ome_zarr(server.folder / "raw.zarr" / "0")
    assert_whole(frames_of(f"{server.url}/raw.zarr"))
    zarr.open_group(server.folder / "group.zarr", mode="w")
    written(server, "group.zarr/cell")
    with pytest.raises(SourceError, match=r"is a group, and a web server does not list .*: add the path of an image"):
        frames_of(f"{server.url}/group.zarr")
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(server.folder / "group.zarr")
    assert_whole(frames_of(f"{server.url}/group.zarr"))


def test_a_server_that_gives_no_parts_of_files_is_read_where_no_part_is_needed(server):
    server.ranges = False
    assert_whole(frames_of(written(server)))
    with pytest.raises(SourceError, match=r"frame 0 cannot be had: .*it gives no parts of files, which shards need"):
        frames_of(written(server, "s.zarr", shards=(4, SIDE, SIDE)))


def test_a_chunk_that_is_not_there_is_a_lost_frame_and_nothing_else_is(server):
    address = written(server)
    (server.folder / "m.zarr/c/5/0/0").unlink()
    items = frames_of(address)
    assert isinstance(items[5], LostFrame)
    assert items[5].cause == "missing chunk: the frame, or a part of it, was never written or is lost"
    assert_whole(items[:5] + items[6:], [*range(5), *range(6, N)])


@pytest.mark.parametrize("trouble", [500, 503, 429, "drop", "half", "long", "stall", "silent"])
def test_what_goes_wrong_a_few_times_is_asked_for_again(server, trouble):
    address = written(server)
    server.trouble = lambda key, n_before: trouble if n_before < 1 + ("c/3" in key) else None
    assert_whole(frames_of(address))


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (403, "it answers 403 Forbidden: if it needs a password, put it into"),
        (401, "it answers 401 Unauthorized: if it needs a password"),
        (500, r", 4 times: it answers 500 Internal Server Error"),
        (429, r", 4 times: it answers 429 Too Many Requests"),
        (418, "read: it answers 418"),
        ("drop", r", 4 times: the connection broke off"),
        ("half", r", 4 times: the connection broke off"),
        ("long", r", 4 times: the connection broke off"),
        ("stall", r", 4 times: no answer in time"),
        ("silent", r", 4 times: no answer in time"),
        ("chunked", "read: it does not say how long its files are"),
        ("redirect:file:///etc/passwd", "it answers 302 Found: give the new address"),
    ],
)
def test_a_frame_that_cannot_be_had_ends_the_movie_in_one_line_after_those_before_it(server, trouble, said):
    address = written(server)
    server.trouble = lambda key, n_before: trouble if key.startswith("m.zarr/c/7/") else None
    items = []
    with closing(ZarrSource(path=address)) as source:
        with pytest.raises(SourceError, match=said) as failure:
            items.extend(source.frames())
        assert_whole(items, range(7))
    assert str(failure.value).startswith(f"{address}: frame 7 cannot be had: its server cannot be read")
    assert "--resume" in str(failure.value)
    assert "hush" not in str(failure.value)
    server.trouble = lambda key, n_before: trouble
    with pytest.raises(SourceError, match=said) as failure:
        frames_of(address)
    assert "\n" not in str(failure.value)


def test_a_length_that_is_too_small_is_a_damaged_chunk_and_no_frame(server):
    address = written(server, compressors=None)
    server.trouble = lambda key, n_before: "short" if key.startswith("m.zarr/c/7/") else None
    items = frames_of(address)
    assert items[7].cause == f"unreadable chunk: c/7/0/0 has {SIDE * SIDE} of {2 * SIDE * SIDE} bytes of pixels"


def test_more_bytes_than_a_chunk_can_have_are_not_fetched(server):
    address = written(server)
    (server.folder / "m.zarr/c/7/0/0").write_bytes(bytes(2**24))
    (server.folder / "m.zarr/c/8/0/0").write_bytes(b"")
    items = frames_of(address)
    assert items[7].cause.startswith("unreadable chunk: c/7/0/0 takes more than ")
    assert isinstance(items[8], LostFrame)
    server.ranges = False
    items = frames_of(address)
    assert items[7].cause.startswith("unreadable chunk: c/7/0/0 has 16777216 bytes, more than it can need")
    assert isinstance(items[8], LostFrame)


def test_metadata_that_are_huge_or_come_byte_by_byte_are_one_line(server, monkeypatch):
    address = written(server)
    monkeypatch.setattr(remote, "MOST_METADATA", 10)
    with pytest.raises(SourceError, match=r"zarr.json has \d+ bytes, more than it can need"):
        frames_of(address)
    monkeypatch.setattr(remote, "LONGEST_S", 0.3)
    server.trouble = lambda key, n_before: "silent"
    with pytest.raises(SourceError, match=r"its metadata did not come within 0.3 s"):
        frames_of(address)


def test_a_page_for_everything_is_no_movie_and_no_frame(server):
    address = written(server, compressors=None)
    page = b"<!doctype html><html>Welcome</html>" * 100
    for index in (4, 5):
        (server.folder / f"m.zarr/c/{index}/0/0").write_bytes(page)
    items = frames_of(address)
    assert [item.index for item in items if isinstance(item, LostFrame)] == [4, 5]
    (server.folder / "m.zarr/zarr.json").write_bytes(page)
    with pytest.raises(SourceError, match="cannot be opened as zarr") as failure:
        frames_of(address)
    assert len(str(failure.value)) < 400


def test_names_are_taken_as_they_are(server, monkeypatch):
    for name in ("a b.zarr", "é+&=.zarr", "50%.zarr"):
        written(server, f"bucket/{name}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert_whole(frames_of(f"s3://bucket/{name}"))
        assert_whole(frames_of(f"{server.url}/bucket/{quote(name)}"))
    assert_whole(frames_of(f"{server.url}/bucket/a b.zarr"))
    assert_whole(frames_of(f"HTTP{server.url.removeprefix('http')}/bucket/a b.zarr"))


def test_a_movie_that_is_moved_to_another_place_by_its_server_is_read_there(server):
    address = written(server)
    (server.folder / "m.zarr").rename(server.folder / "moved.zarr")
    server.trouble = lambda key, n_before: (
        f"redirect:{server.url}/{key.replace('m.zarr', 'moved.zarr')}" if key.startswith("m.zarr") else None
    )
    assert_whole(frames_of(address))
    server.trouble = lambda key, n_before: f"redirect:{server.url}/{key}"  # for ever
    with pytest.raises(SourceError, match="its server cannot be read"):
        frames_of(address)


def test_a_password_of_netrc_goes_to_its_server_and_to_no_other(server, tmp_path):
    address = written(server)
    server.needs = ("me", "hush")
    with pytest.raises(SourceError, match="it answers 401"):
        frames_of(address)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\n")
    assert_whole(frames_of(address))
    with served(server.folder) as other:
        server.trouble = lambda key, n_before: f"redirect:{other.url.replace('127.0.0.1', 'localhost')}/{key}"
        assert_whole(frames_of(address))
        assert other.headers
        assert not any("authorization" in map(str.lower, headers) for _, headers in other.headers)
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me passw hush\n")
    with pytest.raises(SourceError, match="cannot be read, where passwords of web servers are looked up") as failure:
        frames_of(address)
    assert "hush" not in str(failure.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://me:hush@127.0.0.1:1/m.zarr", "no user or password is taken from an address"),
        ("s3://me:hush@bucket/m.zarr", "no user or password is taken from an address: set AWS_ACCESS_KEY_ID"),
        ("https://127.0.0.1:1/m.zarr?sig=hush", r"addresses with \? or # are not read"),
        ("https://127.0.0.1:1/m.zarr#hush", r"addresses with \? or # are not read"),
        ("https://127.0.0.1:port/m.zarr", "is no address"),
        ("https://[/m.zarr", "is no address"),
        ("https:///m.zarr", "is no address"),
        ("ftp://host/m.zarr", "is no address that is read"),
        ("file:///etc/m.zarr", "is no address that is read"),
        ("https://host/m.zarr.zip", "zip files are read from a disk only"),
        ("http://127.0.0.1:9/m.zarr", "4 times: connection refused"),
        ("http://nohost.invalid/m.zarr", "4 times: no computer of that name is known"),
    ],
)
def test_an_address_that_is_not_read_is_one_line_without_what_may_be_secret(server, address, said):
    with pytest.raises(SourceError, match=said) as failure:
        ZarrSource(path=address)
    assert "hush" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_what_is_not_zarr_or_is_to_be_followed_is_one_line(server):
    with pytest.raises(SourceError, match="no zarr array or group here"):
        frames_of(f"{server.url}/nothing.zarr")
    (server.folder / "page.zarr").mkdir()
    (server.folder / "page.zarr/zarr.json").write_text("<html>")
    with pytest.raises(SourceError, match="cannot be opened as zarr"):
        frames_of(f"{server.url}/page.zarr")
    with pytest.raises(SourceError, match="only a movie on a disk can be followed"):
        frames_of(written(server), follow=5)


def in_s3(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return "s3://bucket/lab/m.zarr"


def in_google_cloud(server, monkeypatch):
    # What emulators of it need in a key: where they are, and that there is nobody to ask for a token.
    key = {
        "gcs_base_url": server.url,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key))
    return "gs://bucket/lab/m.zarr"


@pytest.mark.parametrize("place", [in_s3, in_google_cloud])
def test_object_stores_are_read_and_tell_what_is_in_a_group(server, monkeypatch, place):
    address = place(server, monkeypatch)
    zarr.open_group(server.folder / "bucket/lab/m.zarr", mode="w")
    written(server, "bucket/lab/m.zarr/cell")
    assert_whole(frames_of(address))
    assert_whole(frames_of(f"{address}/cell"))
    server.trouble = lambda key, n_before: "half" if n_before < 1 else 500 if n_before < 2 else None
    assert_whole(frames_of(f"{address}/cell"))
    server.trouble = lambda key, n_before: 403
    with pytest.raises(SourceError, match=r"it answers 403 Forbidden: set (AWS|GOOGLE)_") as failure:
        frames_of(address)
    assert "hush" not in str(failure.value)


def test_s3_is_asked_with_the_keys_in_the_environment_and_without_any_where_there_are_none(server, monkeypatch):
    written(server, "bucket/m.zarr")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    assert_whole(frames_of("s3://bucket/m.zarr"))
    assert not any("authorization" in headers for _, headers in server.headers)
    server.headers.clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lab-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    assert_whole(frames_of("s3://bucket/m.zarr"))
    assert all("Credential=lab-key/" in headers["authorization"] for _, headers in server.headers)


def test_many_frames_are_asked_for_at_once_but_not_all(server):
    pixels = np.ones((300, SIDE, SIDE), "u2")
    address = written(server, "long.zarr", pixels)
    server.delay_s = 0.02
    with closing(ZarrSource(path=address)) as source:
        frames = source.frames()
        next(frames)
        time.sleep(0.5)
        asked = sum("/c/" in key for key in server.asked)
        assert 60 <= asked <= 66
        assert server.most_at_once >= 16
        assert len(list(frames)) == 299


def test_a_source_that_is_closed_does_not_wait_for_its_server(server):
    address = written(server)
    source = ZarrSource(path=address)
    server.trouble = lambda key, n_before: "silent" if key.startswith("m.zarr/c/2/") else None
    frames = source.frames()
    assert [next(frames).index, next(frames).index] == [0, 1]
    began_s = time.process_time()
    closing_it = threading.Timer(0.2, source.close)
    closing_it.start()
    assert list(frames) == []
    closing_it.join()
    assert time.process_time() - began_s < 1


def test_without_obstore_it_says_what_to_install(server, monkeypatch):
    address = written(server)
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(SourceError, match=r'needs obstore to be read over the network: pip install "\.\[remote\]"$'):
        frames_of(address)
