"""The page of a run in a real browser: it shows its pictures, is dark where that is wanted, and runs nothing."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import run_pages
from PIL import Image

from streamtrack.offline import page as page_of_batch

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
QUIET = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


@pytest.fixture
def browser(tmp_path):
    """Open a page headless; returns what it printed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs a browser (chromium)")
    as_root = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []

    def show(page, *options):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [program, *QUIET, *as_root, profile, *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")

    return show


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return run_pages.write(folder, name=run_pages.HOSTILE, told=run_pages.report(), shape=(128, 192))


@pytest.mark.parametrize("width", [420, 1300])
def test_it_shows_its_pictures(browser, page, tmp_path, width):
    shot = tmp_path / "shot.png"
    browser(page, f"--screenshot={shot}", f"--window-size={width},3000")
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape[1] == width
    assert pixels[2, 2].tolist() == [255, 255, 255]
    greys = (np.ptp(pixels.astype(int), axis=2) < 12).reshape(-1)
    assert len(np.unique(pixels.reshape(-1, 3)[greys], axis=0)) > 100, "the images did not load"
    for colour in ((0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)):  # circles and tracks; charts
        assert (np.abs(pixels.astype(int) - colour).max(axis=2) < 8).any()


def test_it_is_dark_where_that_is_wanted(browser, page, tmp_path):
    shot = tmp_path / "shot.png"
    browser(page, f"--screenshot={shot}", "--window-size=900,900", "--force-dark-mode")
    assert np.asarray(Image.open(shot).convert("RGB"))[2, 2].max() < 60


def test_no_name_of_a_file_runs_anything(browser, page):
    dom = browser(page, "--dump-dom").stdout
    assert "<script" not in dom
    assert dom.partition("<title>")[2].startswith("&lt;/style&gt;&lt;/pre&gt;&lt;script&gt;")
    assert dom.count("<img") == 1
    assert dom.rstrip().endswith("</html>")


def test_a_batch_shows_its_movies_and_runs_nothing_but_the_sorting(browser, tmp_path, monkeypatch):
    tracks = next(at for at, name in enumerate(page_of_batch._COLUMNS) if name == "detections")
    twice = f"for (const _ of 'ab') document.querySelectorAll('table.movies th')[{tracks}].firstChild.click();"
    monkeypatch.setattr(page_of_batch, "_SCRIPT", page_of_batch._SCRIPT + twice)
    page = run_pages.write_batch(tmp_path / "batch")
    dom = browser(page, "--dump-dom").stdout
    assert "owned" not in dom.partition("<title>")[2].partition("</title>")[0]
    assert dom.count("<img") == 3
    assert 'aria-sort="descending"' in dom
    body = dom.partition("<tbody>")[2] if "movies" not in dom else dom.partition('class="movies"')[2]
    order = [body.index(f'data-v="{number} &lt;') for number in range(4)]
    assert sorted(order) == order[::-1], "most detections first"
    shot = tmp_path / "shot.png"
    browser(page, f"--screenshot={shot}", "--window-size=1300,1200")
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    for colour in ((0x14, 0x17, 0x1A), (0x00, 0x72, 0xB2), (0xA3, 0x3B, 0x00)):  # pictures, curves, what failed
        assert (np.abs(pixels - colour).max(axis=2) < 8).any()
