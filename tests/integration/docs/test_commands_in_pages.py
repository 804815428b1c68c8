"""Whoever types what stands in the pages finds that it works, in PowerShell 5.1 and cmd, too."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from streamtrack import registry
from streamtrack.cli import make_app

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("engines/**/*.md")])
COMMAND = re.compile(r"(?:streamtrack|python|pip) .+")


def commands(page):
    """Return the lines of a page that are to be typed: in a fence, or indented as code."""
    found, fenced = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if (fenced or line.startswith("    ")) and COMMAND.fullmatch(line.strip()):
            found.append(line.strip())
    return found


TYPED = sorted({command for page in PAGES for command in commands(page)})
OWN = [command for command in TYPED if command.startswith("streamtrack ")]


def test_commands_are_found_in_the_pages():
    assert "python -m pip install ." in TYPED
    assert len(OWN) > 8


@pytest.mark.parametrize("command", TYPED)
def test_a_command_means_the_same_in_every_shell(command):
    assert not re.search(r"&&|'|[\\^`]$|[#;|<>$%*]", command)


@pytest.mark.parametrize("command", OWN)
def test_streamtrack_knows_the_command_and_its_options(command):
    _, name, *words = shlex.split(command)
    if name == "--version":
        return
    known = typer.main.get_command(make_app()).commands
    assert name in known
    options = {option for parameter in _parameters(name, known[name]) for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options


def _parameters(name, command):
    if name not in registry.names("commands"):
        return command.params
    plugin = typer.Typer()
    plugin.command()(registry.load("commands", name))
    return typer.main.get_command(plugin).params


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target
