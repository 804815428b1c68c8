import sys

import numpy as np
import pytest

from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError
from streamtrack.testing.triggers import SOURCE, frame_at, tracks_at
from streamtrack.triggers.python import PythonTrigger, functions_of
from streamtrack.types import Event

LAB = """
from streamtrack.types import Event

answer = None
asked = []

def decide(frame, tracks):
    asked.append((frame.index, tracks.particle.tolist()))
    return answer

limit = 5
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab's own file in the folder where streamtrack is started."""
    (tmp_path / "own_rules_of_a_lab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield lambda: sys.modules["own_rules_of_a_lab"]
    sys.modules.pop("own_rules_of_a_lab", None)


def made():
    trigger = PythonTrigger(function="own_rules_of_a_lab:decide")
    trigger.prepare(SOURCE)
    return trigger


def test_the_function_sees_the_frame_and_the_tracks(lab):
    assert made().check(frame_at(4), tracks_at({7: (1, 2)})) == ()
    assert lab().asked == [(4, [7])]


@pytest.mark.parametrize(
    ("answer", "n_events"),
    [
        (None, 0),
        (False, 0),
        (True, 1),
        (np.bool_(True), 1),
        (np.bool_(False), 0),
        (Event(particle=3), 1),
        ([], 0),
        ([Event(), Event(particle=4)], 2),
        (iter([Event()]), 1),
    ],
)
def test_every_kind_of_answer(lab, answer, n_events):
    trigger = made()
    lab().answer = answer
    events = trigger.check(frame_at(0), tracks_at({}))
    assert [type(each) for each in events] == [Event] * n_events


def test_an_answer_that_is_none_of_these_is_an_error(lab):
    trigger = made()
    lab().answer = 5
    with pytest.raises(TypeError):
        trigger.check(frame_at(0), tracks_at({}))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("own_rules_of_a_lab", r'it must be "module:function"'),
        (":decide", "module:function"),
        ("own_rules_of_a_lab:", "module:function"),
        ("no_such_module_here:decide", "there is no module no_such_module_here; put no_such_module_here.py beside"),
        ("own_rules_of_a_lab:decyde", "has nothing of that name where a function 'decyde' should be"),
        ("own_rules_of_a_lab:limit", "has a int where"),
        ("broken_rules:decide", "cannot import broken_rules: ZeroDivisionError"),
        ("leaving_rules:decide", "cannot import leaving_rules: SystemExit: enough"),
        ("..relative:decide", "module:function"),
        ("own_rules_of_a_lab.sub:decide", "cannot import own_rules_of_a_lab.sub: ModuleNotFoundError"),
    ],
)
def test_a_function_that_is_not_there_is_refused(lab, tmp_path, function, said):
    (tmp_path / "broken_rules.py").write_text("1 / 0")
    (tmp_path / "leaving_rules.py").write_text("raise SystemExit('enough')")
    with pytest.raises(ConfigError, match=said) as caught:
        PythonTrigger(function=function).prepare(SOURCE)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_of_the_lab_does_not_take_the_place_of_an_installed_module(lab, tmp_path):
    (tmp_path / "wave.py").write_text("def decide(frame, tracks): return True")
    with pytest.raises(ConfigError, match="wave has nothing of that name"):
        PythonTrigger(function="wave:decide").prepare(SOURCE)


def test_a_module_in_the_current_folder_is_not_taken_for_one_beside_the_runs_file(lab, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for paths in (sys.path, ["", *sys.path], [str(tmp_path), *sys.path]):
        sys.path[:] = paths
        with pytest.raises(ConfigError, match=r"there is no module own_rules_of_a_lab; put .* into .*elsewhere"):
            PythonTrigger(function="own_rules_of_a_lab:decide", config_folder=tmp_path / "elsewhere")


def test_a_module_beside_the_runs_file_goes_before_one_in_the_current_folder(lab, tmp_path):
    own = tmp_path / "elsewhere"
    own.mkdir()
    (own / "own_rules_of_a_lab.py").write_text("def decide(frame, tracks): return True")
    sys.path.insert(0, str(tmp_path))  # as 'python -m streamtrack' does
    trigger = PythonTrigger(function="own_rules_of_a_lab:decide", config_folder=own)
    trigger.prepare(SOURCE)
    [event] = trigger.check(frame_at(0), tracks_at({}))
    assert event.particle == -1
    assert lab().__file__ == str(own / "own_rules_of_a_lab.py")
    assert sys.path[0] == str(tmp_path)


def test_what_a_run_is_going_to_load_is_named_and_nothing_of_it_is_imported(lab, tmp_path):
    rules = [
        {"kind": "python", "function": name, "do": "tables", "name": name}
        for name in ("own_rules_of_a_lab:f", "json:loads")
    ]
    config = RunConfig.model_validate({"triggers": [*rules, {"kind": "appears", "do": "tables"}]})
    named = functions_of(config.from_file(tmp_path / "run.toml"))
    assert named[0] == f"own_rules_of_a_lab:f ({tmp_path / 'own_rules_of_a_lab.py'})"
    assert named[1].startswith("json:loads (")
    assert "own_rules_of_a_lab" not in sys.modules
    with pytest.raises(ConfigError, match="there is no module own_rules_of_a_lab"):
        functions_of(config.from_file(tmp_path / "elsewhere" / "run.toml"))
