import ast
import os
import shutil
from pathlib import Path

import pytest

import streamtrack
import streamtrack_drivers
import streamtrack_engines
from streamtrack.files import move, patiently, remove_file, remove_tree, replace_file, write_durably

PACKAGES = [Path(package.__file__).parent for package in (streamtrack, streamtrack_drivers, streamtrack_engines)]
ALLOWED = {
    "streamtrack/files.py": "it is the one",
    "streamtrack/run_folder.py": "rmdir: of empty folders only",
}
"""Files that may delete or replace, with the reason."""


def changes_of_names(path):
    """Yield the calls in a file that delete, move or replace a file or folder, and texts with the system's newlines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        of, name, words = ast.unparse(node.func.value), node.func.attr, {word.arg for word in node.keywords}
        if (
            (of == "os" and name in ("replace", "rename", "renames", "remove", "unlink", "rmdir", "removedirs"))
            or (of == "shutil" and name in ("rmtree", "move"))
            or (name in ("replace", "rename") and len(node.args) == 1 and not words)  # of a path; of a text it has two
            or name in ("unlink", "rmdir", "rmtree")
            or (name == "write_text" and not {"encoding", "newline"} <= words)
        ):
            yield f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def test_nothing_else_deletes_or_replaces_files_nor_writes_texts_of_this_system_only():
    found = {
        path.relative_to(package.parent).as_posix(): list(changes_of_names(path))
        for package in PACKAGES
        for path in package.rglob("*.py")
        if "testing" not in path.parts
    }
    assert {name: calls for name, calls in found.items() if calls and name not in ALLOWED} == {}
    assert all(found[name] for name in ALLOWED), "nothing to allow any more"


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "new").write_text("new")
    (tmp_path / "final").write_text("an old one that is longer")
    return tmp_path / "new", tmp_path / "final"


def test_a_reader_that_lets_go_is_waited_for(pair, sharing_violation):
    new, final = pair
    sharing_violation("final", times=3)
    replace_file(new, final)
    assert final.read_text() == "new"
    sharing_violation("final", times=3)
    remove_file(final)
    assert list(final.parent.iterdir()) == []


@pytest.mark.parametrize("held", ["new", "final"])
def test_of_a_file_that_is_held_for_long_the_content_is_replaced(pair, sharing_violation, held):
    new, final = pair
    sharing_violation(held)
    replace_file(new, final)
    assert final.read_text() == "new"
    assert new.exists() == (held == "new"), "what nobody holds is cleared away"


def test_a_folder_with_a_held_file_stays_as_it_is(tmp_path, sharing_violation):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "held").write_text("mine")
    sharing_violation("held")
    with pytest.raises(PermissionError):
        move(tmp_path / "a", tmp_path / "c")
    with pytest.raises(PermissionError):
        remove_tree(tmp_path / "a")
    assert (tmp_path / "a" / "b" / "held").read_text() == "mine"


def test_what_is_not_there_is_removed_already(tmp_path):
    remove_file(tmp_path / "nothing")
    remove_tree(tmp_path / "nothing")


def test_another_error_is_raised_at_once(tmp_path):
    calls = []

    def fail():
        calls.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        patiently(fail)
    assert len(calls) == 1


def test_half_a_copy_never_stands_under_a_new_name(tmp_path, sharing_violation, monkeypatch):
    (tmp_path / "new").write_text("new")

    def half(source, to):
        Path(to).write_text("n")
        raise OSError(28, "No space left on device")

    sharing_violation("new")
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "new", tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_durable_writing_replaces_or_writes_in_place(tmp_path, sharing_violation):
    path = tmp_path / "report.json"
    write_durably(path, b"first")
    sharing_violation("report.json")
    write_durably(path, b"the second is longer")
    write_durably(path, b"third")
    assert path.read_bytes() == b"third"
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_full_disk_leaves_room_for_what_is_no_longer(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_durably(path, b"x" * 1000)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: full(0))
        write_durably(path, b"shorter")
        assert path.read_bytes() == b"shorter"
        with pytest.raises(OSError, match="No space"):
            write_durably(path, b"y" * 1000)
    assert path.read_bytes() == b"shorter"
