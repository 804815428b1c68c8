"""``streamtrack check`` on Micro-Manager's own core with its demo devices."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymmcore", reason="needs the extra micromanager")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

from streamtrack.cli.check import check
from streamtrack.errors import ConfigError, MicroscopeError
from streamtrack_drivers.micromanager.core import MicroManager

EXAMPLES = Path(__file__).parents[2] / "examples"
RUN = """
mode = "armed"
[microscope]
kind = "micromanager"
config = "MMConfig_demo.cfg"
stage_um_per_px = [1.0, -1.0]
[source]
kind = "micromanager"
exposure_ms = 77
[[triggers]]
kind = "nearest"
do = "stage"
action = { centre = true }
[actuators.stage]
kind = "stage"
[safety]
x_um = [5, 500]
y_um = [-500, 500]
properties = ["LED.State"]
presets = ["Channel"]
light = ["LED.State"]
max_dose_ms = 2000
close_shutter = "White Light Shutter"
"""


@pytest.fixture
def run(tmp_path):
    """Write a run's file, with changes, and return its path."""

    def write(*changes, text=RUN):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def writes(monkeypatch):
    """Note every write to the microscope."""
    seen = []
    for name in (
        "set_property",
        "set_preset",
        "set_shutter",
        "set_exposure_ms",
        "move_stage_um",
        "move_focus_um",
        "autofocus",
        "set_continuous_focus",
        "halt",
    ):
        monkeypatch.setattr(MicroManager, name, lambda *arguments, name=name: seen.append((name, *arguments[1:])))
    return seen


def rows(text):
    """Return what is printed, with single spaces."""
    return [re.sub(" +", " ", line.strip()) for line in text.splitlines()]


def test_limits_are_shown_beside_how_it_is_now_and_nothing_is_set(run, writes, capsys):
    check(run())
    printed = rows(capsys.readouterr().out)
    assert printed[0].endswith("run.toml: mode armed")
    for row in (
        "x_um 5 to 500 0 (outside)",
        "y_um -500 to 500 0",
        "z_um none: does not change 0",
        "exposure_ms none: does not change 10",
        "property LED.State 0",
        "preset Channel DAPI",
        "light LED.State",
        "max_dose_ms 2000",
        "close_shutter White Light Shutter",
        "um per px [[1.0, 0.0], [0.0, -1.0]]",
        "nearest: stage {'centre': True}; at most 600 a minute, 0 s apart",
    ):
        assert row in printed
    assert printed[-1] == "nothing is amiss: the run may begin"
    assert writes == []


def test_a_list_of_places_needs_the_direction_of_the_stage(run, writes, capsys):
    wants = ("[safety]", '[[sinks]]\nkind = "position_list"\n[safety]')
    noting = ('do = "stage"\naction = { centre = true }', 'do = "position_list"')
    check(run(wants, noting))
    assert "nearest: position_list; at most 600 a minute, 0 s apart" in rows(capsys.readouterr().out)
    with pytest.raises(ConfigError, match=r"a list of positions cannot be made: .* was never measured"):
        check(run(wants, noting, ("stage_um_per_px = [1.0, -1.0]\n", "")))
    assert writes == []


def test_pulses_and_the_autofocus_are_shown_too_and_nothing_is_set(run, writes, capsys):
    allowed = 'presets = ["Channel"]\npulse_ms = [1, 20]\nautofocus = true\nz_um = [-5, 5]'
    pulse = '[actuators.flash]\nkind = "pulse"\ndevice = "LED"\nfire = "State"\non = 1\noff = 0\n[safety]'
    rules = '[[triggers]]\nname = "n"\nkind = "appears"\ndo = "flash"\naction = { pulse_ms = 10 }\n'
    rules += '[[triggers]]\nkind = "disappears"\ndo = "focus"\naction = { full = true }\n'
    focus = '[actuators.focus]\nkind = "autofocus"\n'
    check(run(('presets = ["Channel"]', allowed), ("[safety]", rules + focus + pulse)))
    printed = rows(capsys.readouterr().out)
    for row in (
        "pulse_ms 1 to 20",
        "autofocus may search the focus focus is not held",
        "n: flash {'pulse_ms': 10}; at most 600 a minute, 0 s apart",
        "disappears: focus {'full': True}; at most 600 a minute, 0 s apart",
    ):
        assert row in printed
    assert printed[-1] == "nothing is amiss: the run may begin"
    assert writes == []
    with pytest.raises(ConfigError, match=r"pulse_ms = 10 is outside safety\.pulse_ms"):
        check(run(('presets = ["Channel"]', allowed), ("[safety]", rules + focus + pulse), ("[1, 20]", "[1, 9]")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("LED.State", "LED.Stat"),
            "safety.properties: there is no property 'Stat' of LED; did you mean 'State'?; safety.",
        ),
        (("y_um = [-500, 500]\n", ""), "actuator 'stage': there are no limits safety.y_um"),
        (("stage_um_per_px = [1.0, -1.0]\n", ""), "never measured: run 'streamtrack calibrate stage"),
        (("stage_um_per_px = [1.0, -1.0]", "stage_um_per_px = [1.0, nan]"), "is no finite number"),
        (
            ("exposure_ms = 77", "exposure = 77"),
            "source 'micromanager': unknown key 'exposure'; did you mean 'exposure_ms'?",
        ),
        (
            ('kind = "nearest"', 'kind = "nearest"\nhodl = true'),
            "trigger 'nearest': unknown key 'hodl'; did you mean 'hold'",
        ),
        (("centre", "center"), "action = {'center': True} is not understood"),
        (('do = "stage"', 'do = "stag"'), "no actuator or sink is called 'stag'; did you mean 'stage'?"),
        (("close_shutter", "close_shuter"), "unknown key 'safety.close_shuter'; did you mean 'close_shutter'?"),
    ],
)
def test_what_is_amiss_is_one_line(run, writes, change, said):
    with pytest.raises(ConfigError) as caught:
        check(run(change))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert writes == []


def test_what_only_an_armed_run_needs_is_not_asked_of_one_that_observes(run, capsys):
    path = run(("y_um = [-500, 500]\n", ""))
    check(path, "observe")
    assert capsys.readouterr().out.splitlines()[-1].endswith("--mode armed checks the limits, too")
    with pytest.raises(ConfigError, match=r"safety\.y_um"):
        check(path, "rehearse")


def test_functions_are_named_and_not_loaded(run, tmp_path, capsys):
    (tmp_path / "rules_of_somebody.py").write_text("raise SystemExit('loaded')")
    rule = (
        '[[triggers]]\nkind = "python"\nfunction = "rules_of_somebody:f"\ndo = "tables"\n[[triggers]]\nkind = "nearest"'
    )
    check(run(('[[triggers]]\nkind = "nearest"', rule)))
    assert f"rules_of_somebody:f ({tmp_path / 'rules_of_somebody.py'})" in rows(capsys.readouterr().out)
    assert "rules_of_somebody" not in sys.modules
    (tmp_path / "rules_of_somebody.py").unlink()
    with pytest.raises(ConfigError, match=r"there is no module rules_of_somebody; put rules_of_somebody\.py beside"):
        check(run(('[[triggers]]\nkind = "nearest"', rule)))


def test_a_run_on_a_movie_checks_triggers_against_it(run, capsys):
    movie = '[source]\nkind = "sim"\nscenario = "vesicle"\nsize = 64\n'
    movie += '[[triggers]]\nkind = "region"\nx_px = [{}, 600]\ndo = "tables"'
    check(run(text=movie.format(50)))
    assert capsys.readouterr().out.splitlines()[-1].startswith("nothing is amiss")
    with pytest.raises(ConfigError, match="trigger 'region'"):
        check(run(text=movie.format(500)))


def test_a_microscope_that_is_not_there_is_one_line(run):
    with pytest.raises(MicroscopeError, match="no Micro-Manager answers on port 1"):
        check(run(text='[microscope]\nkind = "pycromanager"\nport = 1\n'))


def test_exit_codes(run):
    for path, code in ((EXAMPLES / "second_colour.toml", 0), (run(("LED.State", "LED.Stat")), 2)):
        command = [sys.executable, "-m", "streamtrack", "check", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
