"""``streamtrack plugins`` and ``--version``, through the real entry point."""

import subprocess
import sys
from pathlib import Path

import pytest

from streamtrack.cli.plugins import KINDS, markdown, settings
from streamtrack.registry import load, names


def streamtrack(*arguments):
    code = "from importlib.metadata import entry_points; entry_points(name='streamtrack')['streamtrack'].load()()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, encoding="utf-8"
    )


def test_the_version_is_printed():
    said = streamtrack("--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("streamtrack 0.")


def test_every_kind_is_listed_with_its_plugins():
    said = streamtrack("plugins").stdout
    for kind in KINDS:
        assert all(name in said for name in names(kind))


def test_the_settings_of_one_are_shown_with_type_default_and_meaning():
    said = streamtrack("plugins", "triggers", "region").stdout
    assert 'on = "enters"   ("enters" or "leaves")' in said
    assert "margin_px = 1.0   (number of at least 0)" in said
    assert "A track has left only when it is farther out than this" in said


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [(["sorces"], "did you mean 'sources'"), (["triggers", "regin"], "did you mean 'region'")],
)
def test_a_misspelt_name_is_one_line(arguments, cure):
    said = streamtrack("plugins", *arguments)
    assert said.returncode == 2
    assert cure in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in names(kind)])
def test_every_setting_is_explained(kind, name):
    for setting in settings(load(kind, name)):
        assert setting.text, f"{kind} {name}: {setting.name} is missing in the docstring"


def test_the_page_of_settings_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "settings.md"
    assert page.read_text(encoding="utf-8") == markdown(), "run: python docs/make_settings.py"


def test_engines_are_listed_with_weights_and_f1_and_measured_when_asked():
    said = streamtrack("plugins", "engines").stdout
    assert "weights denodet-local, 0.5 MB" in said
    assert said.count("F1 .9") >= 2
    assert "ms for a frame" not in said
    assert "ms for a frame of 512x512 px here (back end" in streamtrack("plugins", "engines", "--time").stdout
    wrong = streamtrack("plugins", "sinks", "--time")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
