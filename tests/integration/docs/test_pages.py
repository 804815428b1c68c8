"""What the pages quote is what streamtrack says, and runs as it stands there."""

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import streamtrack
from streamtrack.config import RunConfig, validate
from streamtrack.session import Session

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def rows(page, heading):
    """Return the first cell of each row of the table under a heading."""
    section = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_every_page_is_in_the_sites_menu_and_every_decision_in_their_list(page):
    name = page.relative_to(DOCS).as_posix()
    assert re.search(rf"[ ]{re.escape(name)}$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    if name.startswith("decisions/0"):
        assert f"]({page.name})" in (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")


def test_every_card_of_weights_is_in_the_sites_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    cards = [card.relative_to(ROOT).as_posix() for card in (ROOT / "engines").rglob("weights/*.md")]
    assert len(cards) > 5
    assert [card for card in cards if f" repository/{card}\n" not in menu] == []


@pytest.fixture(scope="module")
def texts():
    """Every text in the source code; an f-string's values are left out."""
    files = [path for package in ("streamtrack", "drivers", "engines") for path in (ROOT / package).rglob("*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("line", rows("troubleshooting.md", "What a line means"))
def test_a_line_that_the_page_explains_is_one_that_streamtrack_prints(line, texts):
    assert any(line in text for text in texts)


def runs(page):
    return [
        tomllib.loads(table) for table in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]


def test_the_settings_of_the_first_movie_track_a_movie():
    (settings,) = runs(DOCS / "first_movie.md")
    validate(RunConfig, settings, "the page")
    del settings["source"]
    movie = np.random.default_rng(0).poisson(100, (3, 64, 64)).astype("uint16")
    assert streamtrack.track(movie, **settings).report["status"] == "completed"


@pytest.mark.parametrize("settings", runs(DOCS / "microscope.md"), ids=["watch", "decide"])
def test_a_run_on_the_microscope_runs_on_the_demo_devices(settings, tmp_path):
    settings["source"] |= {"frames": 3}
    settings["mode"] = "rehearse"
    settings["ingest"] = {"policy": "block"}
    report = Session(validate(RunConfig, settings, "the page"), tmp_path).run()
    assert (report["status"], report["frames"]["processed"]) == ("completed", 3), report["error"]
