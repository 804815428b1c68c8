import os
import sys

import pytest
import typer

from streamtrack import cli
from streamtrack.cli import COMMANDS, make_app
from streamtrack.errors import ConfigError


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("size = 0 is out of range"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        UnicodeEncodeError("cp1252", "Ω", 0, 1, "character maps to <undefined>"),
        OSError(36, "File name too long"),
        PermissionError(13, "Permission denied", "out"),
    ],
)
def test_what_a_user_can_do_something_about_is_one_line(monkeypatch, capsys, error):
    def command(**how):
        raise error

    monkeypatch.setattr(cli, "make_app", lambda asked: command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said, errors = capsys.readouterr()
    assert said == ""
    assert errors.startswith("streamtrack: ")
    assert len(errors.splitlines()) == 1


def test_brackets_in_a_file_s_name_are_no_pattern_on_windows(monkeypatch):
    seen = {}
    monkeypatch.setattr(cli, "make_app", lambda asked: seen.update)
    cli.main()
    assert seen == {"windows_expand_args": False}


def test_a_bug_shows_where_it_is(monkeypatch):
    def command(**how):
        raise AssertionError("a bug")

    monkeypatch.setattr(cli, "make_app", lambda asked: command)
    with pytest.raises(AssertionError):
        cli.main()


def test_a_command_that_is_asked_for_is_loaded_alone():
    assert [command.callback.__name__ for command in make_app("stop").registered_commands] == ["stop"]
    everything = typer.main.get_command(make_app()).commands
    assert {*COMMANDS, "train", "export"} <= set(everything)


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe of POSIX")
def test_output_to_a_reader_that_is_gone_is_no_failure(monkeypatch):

    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        cli.saying.say("stopped", "interrupted")
        patch.setattr(sys, "stderr", gone)
        cli.saying.say_error("the shutter could not be closed", alarm=True)


def test_a_path_that_ends_in_a_backslash_and_a_quote_is_explained_on_windows(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "argv", ["streamtrack", "track", 'D:\\my data\\movie.zarr" --out run'])
    with pytest.raises(SystemExit):
        cli.main()
    assert r"leave out the \ before the closing one" in capsys.readouterr().err
