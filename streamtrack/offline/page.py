"""The page of a batch: ``report.html``, which compares its movies. Every text in it is escaped."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import ConfigError, SinkError
from streamtrack.offline.glance import Glance, glance
from streamtrack.offline.manifest import DONE
from streamtrack.offline.rows import MovieRow
from streamtrack.plain import plain, without_secrets
from streamtrack.report import REPORT_NAME, read_report
from streamtrack.sinks.files import replacing, sink_errors
from streamtrack.sinks.overview import OVERVIEW
from streamtrack.sinks.page.html import document, table_of
from streamtrack.sinks.page.sink import PAGE

MAKER = "streamtrack batch"
_HEAD_BYTES = 4096
_MOST_PICTURES_BYTES = 4_000_000
"""Of all pictures, so that the page of thousands of movies can be opened, too."""
_WORST_FIRST = ("failed", "interrupted", "waiting", "running", "incomplete", "completed")
_CURVE = 150, 34
_STYLE = """
table.movies { width: 100%; } table.movies th { white-space: nowrap; }
table.movies td { vertical-align: middle; padding-block: 0.35rem; }
table.movies td:first-child { overflow-wrap: anywhere; min-width: 9rem; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--s1); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
td small { display: block; color: var(--soft); } td.bad { color: var(--bad); } a { color: var(--s1); }
img.tracks { display: block; max-width: 7rem; max-height: 5rem; border-radius: 0.25rem; }
svg.curve { display: block; width: 9.5rem; height: 2.2rem; }
"""
_SCRIPT = """
for (const head of document.querySelectorAll("table.movies th button")) head.addEventListener("click", () => {
  const cell = head.parentElement, body = cell.closest("table").tBodies[0], at = cell.cellIndex;
  const up = cell.getAttribute("aria-sort") !== "ascending";
  for (const each of cell.parentElement.cells) each.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[at].dataset.v, number = text => text === "" ? NaN : Number(text);
  const texts = cell.dataset.text !== undefined;
  const compare = (a, b) => {
    if (texts) return key(a).localeCompare(key(b), undefined, { numeric: true });
    const [x, y] = [number(key(a)), number(key(b))];
    return Number.isNaN(x) || Number.isNaN(y) ? (Number.isNaN(x) - Number.isNaN(y)) * (up ? 1 : -1) : x - y;
  };
  [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)).forEach(row => body.append(row));
});
"""
_EXPLAINED = (
    "Track length, speed and D (diffusion coefficient) are medians over the confirmed tracks. Against time: detections "
    "in a frame and, dashed, tracks that are followed, with the most of them. A click on a column's name sorts."
)
_TEXTS = ("movie",)
_COLUMNS = (
    *("movie", "picture", "status", "frames", "lost", "detections", "tracks", "track length", "speed", "D"),
    *("particles against time", "s"),
)
_UNSORTED = ("picture", "particles against time")


@dataclass(frozen=True, slots=True, eq=False)
class _Movie:
    """A movie, what its report says, and what its tables do."""

    row: MovieRow
    report: Mapping[str, Any]
    seen: Glance | None
    trouble: str


def check_page(folder: Path) -> None:
    """Raise ConfigError where the page's name is taken by what no batch wrote."""
    path = folder / PAGE
    with suppress(FileNotFoundError, NotADirectoryError):
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except (IsADirectoryError, PermissionError):
            head = b"another's"
        if head and f'content="{MAKER}"'.encode() not in head:
            raise ConfigError(f"{path} was not written by a batch: move it away, or choose another --out")


def write_page(folder: Path, rows: Sequence[MovieRow], settings: Mapping[str, Any]) -> None:
    """Write the page of a batch.

    Parameters
    ----------
    folder
        That of the batch.
    rows
        All movies to be shown.
    settings
        Of all of them.

    Raises
    ------
    SinkError
        It cannot be written.
    """
    movies = sorted((_looked_at(row) for row in rows), key=lambda movie: _WORST_FIRST.index(movie.row.status))
    title = escape(folder.absolute().name or str(folder))
    parts = {
        "Overview": _facts(movies),
        "What failed, and what was lost": "".join(_troubles(movies)),
        "Movies": f'<p class="wide">{_EXPLAINED}</p>{_table(movies, folder)}',
        "Settings": f"<details><summary>Of all movies</summary><pre>{escape(_json(settings))}</pre></details>",
    }
    sections = "".join(f"<section><h2>{name}</h2><div>{part}</div></section>" for name, part in parts.items())
    text = document(
        title, f"<header><h1>{title}</h1></header><main>{sections}</main>", maker=MAKER, style=_STYLE, script=_SCRIPT
    )
    with replacing(folder / PAGE) as partial, sink_errors(folder / PAGE):
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _looked_at(row: MovieRow) -> _Movie:
    try:
        report = read_report(row.folder)
    except ConfigError:
        return _Movie(row, {}, None, "")
    if row.status not in DONE:
        return _Movie(row, {}, None, "")
    try:
        height, width = report["source"]["shape"]
        return _Movie(row, report, glance(row.folder, (int(height), int(width))), "")
    except (SinkError, KeyError, TypeError, ValueError) as error:
        return _Movie(row, report, None, str(error))


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(without_secrets(plain(settings), paths=False), indent=2, ensure_ascii=False)


def _facts(movies: Sequence[_Movie]) -> str:
    status = Counter(movie.row.status for movie in movies)
    facts = {"movies": len(movies), **{name: status[name] for name in _WORST_FIRST if status[name]}}
    facts["frames"] = sum(movie.row.frames for movie in movies)
    facts["frames lost"] = sum(movie.row.lost for movie in movies)
    facts["detections"] = sum(movie.row.detections for movie in movies)
    facts["confirmed tracks"] = sum(movie.seen.n_tracks for movie in movies if movie.seen)
    each = (f"<div><dt>{escape(name)}</dt><dd>{n:,}</dd></div>" for name, n in facts.items())
    return f'<dl class="facts">{"".join(each)}</dl>'


def _troubles(movies: Sequence[_Movie]) -> Iterator[str]:
    said = [(movie.row.movie, movie.row.status, movie.row.error or movie.trouble) for movie in movies]
    failed = [each for each, movie in zip(said, movies, strict=True) if each[2] or movie.row.status not in DONE]
    lost = [(movie.row.movie, cause, n) for movie in movies for cause, n in _causes(movie)]
    if failed:
        yield table_of(("movie", "status", "reason"), failed)
    if lost:
        yield table_of(("movie", "why frames were lost", "frames"), lost)
    if not failed and not lost:
        yield "<p>Nothing.</p>"


def _causes(movie: _Movie) -> list[tuple[str, int]]:
    causes = movie.report.get("frames", {}).get("lost_by_cause", {})
    return [(str(cause), int(n)) for cause, n in sorted(causes.items(), key=lambda item: -item[1])]


def _table(movies: Sequence[_Movie], folder: Path) -> str:
    head = "".join(_head(name) for name in _COLUMNS)
    n_bytes, rows = 0, []
    for movie in movies:
        n_bytes += len(movie.seen.picture) if movie.seen else 0
        rows.append(f"<tr>{''.join(_cells(movie, folder, n_bytes < _MOST_PICTURES_BYTES))}</tr>")
    table = f'<table class="movies"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll wide">{table}</div>'


def _head(name: str) -> str:
    if name in _UNSORTED:
        return f"<th>{escape(name)}</th>"
    kind = " data-text" if name in _TEXTS else ' class="n"' if name != "status" else ""
    return f'<th{kind}><button type="button">{escape(name)}</button></th>'


def _cells(movie: _Movie, folder: Path, pictured: bool) -> Iterator[str]:
    row, seen = movie.row, movie.seen
    yield f'<td data-v="{escape(row.movie)}">{_linked(row, folder)}<small>{escape(_source(movie))}</small></td>'
    yield f"<td>{_shown(row, folder, seen.picture) if seen and pictured else ''}</td>"
    kind = "" if row.status == "completed" else ' class="bad"'
    yield f'<td{kind} data-v="{_WORST_FIRST.index(row.status)}">{escape(row.status)}</td>'
    yield _number(row.frames)
    yield _number(row.lost, bad=row.lost > 0)
    yield _number(row.detections)
    if seen:
        yield _number(seen.n_tracks)
        yield _number(seen.length, "detections")
        yield _number(seen.speed, f"{seen.length_unit}/{seen.time_unit}")
        yield _number(seen.diffusion, f"{seen.length_unit}²/{seen.time_unit}")
        yield f"<td>{_curve(seen.found, seen.followed, row.movie)}</td>"
    else:
        yield '<td data-v=""></td>' * 4 + "<td></td>"
    yield _number(round(row.seconds, 1))


def _number(value: float, unit: str = "", *, bad: bool = False) -> str:
    if not math.isfinite(value):
        return '<td data-v=""></td>'
    text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    small = f"<small>{escape(unit)}</small>" if unit else ""
    return f'<td class="n{" bad" * bad}" data-v="{value:.9g}">{text}{small}</td>'


def _source(movie: _Movie) -> str:
    source = movie.report.get("source", {})
    return str(source.get("name", "")) if isinstance(source, Mapping) else ""


def _linked(row: MovieRow, folder: Path) -> str:
    """Return the movie's name, with a link to its own page; without one, to its report."""
    there = next((name for name in (PAGE, REPORT_NAME) if (row.folder / name).is_file()), None)
    name = escape(row.movie)
    return name if there is None else f'<a href="{_address(row.folder / there, folder)}">{name}</a>'


def _shown(row: MovieRow, folder: Path, picture: str) -> str:
    image = f'<img class="tracks" src="{picture}" alt="tracks of {escape(row.movie)}">'
    overview = row.folder / OVERVIEW
    return f'<a href="{_address(overview, folder)}">{image}</a>' if overview.is_file() else image


def _address(path: Path, folder: Path) -> str:
    return escape("./" + quote(path.relative_to(folder).as_posix()))


def _curve(found: NDArray[np.float64], followed: NDArray[np.float64], name: str) -> str:
    """Return detections and followed tracks in a frame against time, the most of them written beside."""
    width, height = _CURVE
    most = max(found.max(initial=0.0), followed.max(initial=0.0))
    across = np.linspace(1, width - 31, max(len(found), 1))
    lines = []
    for number, values in enumerate((found, followed), 1):
        places = zip(across.tolist(), ((height - 2) - (height - 4) * values / (most or 1.0)).tolist(), strict=False)
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f'<polyline class="line s{number}" points="{line}"/>')
    said = f"detections and followed tracks in each frame of {name}, {most:.3g} at most"
    lines.append(f'<line class="axis" x1="0" x2="{width - 30}" y1="{height - 1}" y2="{height - 1}"/>')
    lines.append(f'<text x="{width - 28}" y="12">{most:.3g}</text>')
    box = f'viewBox="0 0 {width} {height}"'
    return f'<svg class="curve" role="img" aria-label="{escape(said)}" {box}>{"".join(lines)}</svg>'
