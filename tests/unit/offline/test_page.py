"""The page of a batch: what it says of movies, and of what it cannot read."""

import re
from urllib.parse import unquote

import pytest
import run_pages

from streamtrack.errors import ConfigError
from streamtrack.offline.page import check_page, write_page
from streamtrack.offline.rows import MovieRow


def test_movies_with_links_that_hold_and_texts_that_are_escaped(tmp_path):
    text = run_pages.write_batch(tmp_path / "batch").read_text(encoding="utf-8")
    assert "<script>document.title" not in text
    assert "<img src=x" not in text
    assert "secret" not in text
    links = re.findall(r'href="([^"]+)"', text)
    assert [(tmp_path / "batch" / unquote(link)).is_file() for link in links] == [True] * 4
    assert text.index("&quot;document.title=&#x27;owned&#x27;&quot;") < text.index('class="movies"'), (
        "the failure first"
    )
    assert text.count("<polyline") == 2 * 3


def test_two_hundred_movies_take_few_megabytes(tmp_path):
    page = run_pages.write_batch(tmp_path / "batch", 3)
    row = page.stat().st_size - run_pages.write_batch(tmp_path / "smaller", 2).stat().st_size
    assert 200 * row < 5_000_000


def test_tables_that_are_gone_or_damaged_are_said(tmp_path):
    page = run_pages.write_batch(tmp_path / "batch")
    rows = [MovieRow(f"m{n}", tmp_path / "batch" / f"movie {n}#?", 12, "completed") for n in range(3)]
    (rows[0].folder / "frames.parquet").write_bytes(b"PAR1 no")
    (rows[1].folder / "tracks.parquet").unlink()
    (rows[2].folder / "report.json").unlink()
    write_page(page.parent, [*rows, MovieRow("m3", tmp_path / "nowhere", None, "waiting")], {})
    text = page.read_text(encoding="utf-8")
    assert text.count("cannot be read") == 2
    assert "waiting" in text


@pytest.mark.parametrize("content", [b"<html>mine</html>", b"x", None])
def test_a_page_of_anothers_is_not_written_over(tmp_path, content):
    path = tmp_path / "report.html"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match="was not written by a batch"):
        check_page(tmp_path)


def test_a_page_of_ours_or_none_is_no_trouble(tmp_path):
    check_page(tmp_path)
    check_page(tmp_path / "nowhere")
    check_page(run_pages.write_batch(tmp_path / "batch", 1).parent)
