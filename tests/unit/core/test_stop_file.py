import os
import threading
import time

import pytest

from streamtrack.errors import ConfigError
from streamtrack.interrupts import Stop
from streamtrack.stop_file import ANSWER_NAME, StopFile, answer, ask_to_stop, made_safe, unsafe
from streamtrack.waiting import set_within

SAFETY = {"shutters": {"Lamp": "closed", "Laser": "MicroscopeError: no answer"}, "moves": "halted"}


@pytest.mark.parametrize("name", ["stop", "Stop", "stop.txt", "STOP.docx"])
@pytest.mark.parametrize("make", ["touch", "mkdir"])
def test_anything_of_that_name_stops_the_run(tmp_path, name, make):
    with Stop() as stop, StopFile(tmp_path, stop, dict):
        getattr(tmp_path / name, make)()
        assert set_within(stop.requested, 30)


def test_what_lay_there_before_stops_nothing_until_it_is_touched_again(tmp_path):
    for name in ("stop", "stop.txt", "stopping", "nonstop.txt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    with Stop() as stop, StopFile(tmp_path, stop, dict):
        time.sleep(0.3)
        assert not stop.requested.is_set()
        ask_to_stop(tmp_path)
        assert set_within(stop.requested, 30)


def test_the_run_answers_when_the_microscope_is_safe_and_clears_the_request_away(tmp_path):
    ask_to_stop(tmp_path / ".")
    safe = threading.Event()
    with Stop() as stop:
        stop.on_request(lambda: set_within(safe, 30))
        with StopFile(tmp_path, stop, lambda: SAFETY):
            time.sleep(0.1)
            ask_to_stop(tmp_path)
            assert set_within(stop.requested, 30)
            time.sleep(0.2)
            assert answer(tmp_path) is None, "it is not safe yet"
            safe.set()
            give_up_s = time.monotonic() + 30
            while answer(tmp_path) is None and time.monotonic() < give_up_s:
                time.sleep(0.02)
            assert answer(tmp_path) == SAFETY
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_users_that_stopped_the_run_is_left_to_the_user(tmp_path):
    with Stop() as stop, StopFile(tmp_path, stop, dict):
        (tmp_path / "stop").write_text("because the cells died")
        assert set_within(stop.requested, 30)
    assert (tmp_path / "stop").exists()


@pytest.mark.parametrize("error", [OSError(22, "Invalid argument"), PermissionError(13, "denied"), ValueError("?")])
def test_an_error_of_the_folder_does_not_end_the_looking(tmp_path, monkeypatch, error):
    healthy, looks = os.scandir, []

    def scandir(path):
        looks.append(path)
        if len(looks) < 4:
            raise error
        return healthy(path)

    with Stop() as stop, StopFile(tmp_path, stop, dict):
        monkeypatch.setattr(os, "scandir", scandir)
        (tmp_path / "stop").touch()
        assert set_within(stop.requested, 30)


def test_a_folder_that_hangs_keeps_nothing_from_being_made_safe(tmp_path, monkeypatch):
    over, safe = threading.Event(), threading.Event()
    begun_s = time.monotonic()
    with Stop() as stop:
        stop.on_request(safe.set)
        with StopFile(tmp_path, stop, dict):
            monkeypatch.setattr(os, "scandir", lambda path: over.wait(30))
            time.sleep(0.2)
            stop.request()
            assert set_within(safe, 30)
    assert time.monotonic() - begun_s < 20
    over.set()


def test_a_request_that_cannot_be_left_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="cannot write into"):
        ask_to_stop(tmp_path / "nowhere")


def test_half_an_answer_is_none(tmp_path):
    (tmp_path / ANSWER_NAME).write_text('{"shutters": {')
    assert answer(tmp_path) is None


def test_what_was_made_safe_is_said_in_words():
    assert made_safe(SAFETY) == "stopped, shutter 'Lamp' closed, stage halted"
    assert unsafe(SAFETY) == ["shutter 'Laser' could not be closed: MicroscopeError: no answer"]
    assert unsafe({"moves": "MicroscopeError: gone"}) == ["the stage could not be halted: MicroscopeError: gone"]
    assert (made_safe({}), unsafe({})) == ("stopped", [])
