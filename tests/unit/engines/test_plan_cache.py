import errno
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from streamtrack.errors import EngineError
from streamtrack_engines.backends.plan_cache import PlanCache, PlanKey, default_folder

KEY = PlanKey(
    weights_sha256="ab" * 32,
    input_shape=(1, 3, 512, 512, 2),
    outputs=("detections",),
    options="as ever",
    library="tensorrt 11.4.0.106",
    gpu="RTX A4000, compute capability 8.6",
    driver="CUDA 13.0",
    system="Linux x86_64",
)
PLAN = bytes(range(256)) * 40  # with line feeds in it


@pytest.fixture
def cache(tmp_path):
    return PlanCache(tmp_path / "new" / "plans")


def only_file(cache):
    (path,) = cache.folder.iterdir()
    return path


def test_a_plan_comes_back_as_it_was(cache):
    assert cache.load(KEY) is None
    cache.store(KEY, PLAN)
    assert cache.load(KEY) == PLAN
    cache.store(KEY, PLAN[::-1])
    assert cache.load(KEY) == PLAN[::-1]
    assert only_file(cache).name == KEY.file_name


def test_the_file_says_what_it_is(cache):
    cache.store(KEY, PLAN)
    magic, manifest, _ = only_file(cache).read_bytes().split(b"\n", 2)
    assert magic == b"streamtrack plan 1"
    assert json.loads(manifest)["gpu"] == KEY.gpu
    assert json.loads(manifest)["plan_bytes"] == len(PLAN)


@pytest.mark.parametrize("name", [field.name for field in fields(PlanKey)])
def test_each_part_of_the_key_counts(cache, name):
    other = replace(KEY, **{name: (1, 3, 512, 640, 2) if name == "input_shape" else "another"})
    cache.store(KEY, PLAN)
    assert cache.load(other) is None
    only_file(cache).rename(cache.folder / other.file_name)  # as if someone had copied it to fit
    with pytest.raises(EngineError, match=f"built for another {name}"):
        cache.load(other)


@pytest.mark.parametrize("n", [0, 1, 19, 200, -1])
def test_a_plan_cut_off_anywhere_is_refused(cache, n):
    cache.store(KEY, PLAN)
    path = only_file(cache)
    path.write_bytes(path.read_bytes()[:n])
    with pytest.raises(EngineError, match="damaged"):
        cache.load(KEY)


def test_each_flipped_bit_is_found(cache):
    cache.store(KEY, PLAN)
    path = only_file(cache)
    content = path.read_bytes()
    for place in (0, 5, 18, len(content) - len(PLAN), len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(EngineError, match="damaged"):
            cache.load(KEY)


@pytest.mark.parametrize("manifest", [b"[]", b"{", b"{}", b"7", b"\xff\xfe", b"null"])
def test_a_foreign_manifest_is_refused(cache, manifest):
    cache.store(KEY, PLAN)
    only_file(cache).write_bytes(b"streamtrack plan 1\n" + manifest + b"\n" + PLAN)
    with pytest.raises(EngineError, match=r"damaged|built for another"):
        cache.load(KEY)


def test_a_full_disk_leaves_what_was_there(cache, monkeypatch):
    cache.store(KEY, PLAN)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineError, match=r"cannot be kept in .*No space left on device.*: make the folder writable"):
        cache.store(KEY, PLAN[::-1])
    assert cache.load(KEY) == PLAN
    assert only_file(cache)


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "plans").write_text("")
    with pytest.raises(EngineError, match="cannot be kept in"):
        PlanCache(tmp_path / "plans").store(KEY, PLAN)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such rights on Windows")
def test_the_folder_is_the_users_own(cache):
    cache.store(KEY, PLAN)
    assert cache.folder.stat().st_mode & 0o077 == 0


def test_many_may_write_and_read_at_once(cache):
    """Whoever reads finds nothing or a whole plan."""

    def write_and_read(n):
        plan = bytes([n]) * 100_000
        cache.store(KEY, plan)
        return cache.load(KEY)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(write_and_read, range(32)))
    assert all(len(plan) == 100_000 and len(set(plan)) == 1 for plan in found)
    assert only_file(cache)


@pytest.mark.parametrize(
    ("platform", "variable", "rest"),
    [
        ("win32", "LOCALAPPDATA", "streamtrack/plans"),
        ("linux", "XDG_CACHE_HOME", "streamtrack/plans"),
    ],
)
def test_default_folder_follows_the_platform(monkeypatch, tmp_path, platform, variable, rest):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert default_folder() == tmp_path / rest
    monkeypatch.delenv(variable)
    assert default_folder().is_relative_to(Path.home())


def test_default_folder_on_a_mac(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_folder() == Path.home() / "Library/Caches/streamtrack/plans"
