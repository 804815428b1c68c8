"""The page around the pictures: what the run says of itself, and how it looks. Every text in it is escaped."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from streamtrack.plain import plain

_MOST_RANGES = 100
_SETTINGS = {"config": "Settings", "engine": "Engine", "linker": "Linker", "measures": "Measures", "rules": "Rules"}
_SETTINGS |= {"source": "Movie", "outputs": "Outputs", "versions": "Versions", "machine": "Machine"}

STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --text: #1b1f24; --soft: #5a6470; --line: #d5dae0;
  --s1: #0072B2; --s2: #B85C00; --s3: #00785A; --bad: #A33B00; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1e2328; --text: #e8ebee; --soft: #a3adb8;
  --line: #39414a; --s1: #56B4E9; --s2: #E69F00; --s3: #2FC79A; --bad: #F0905A; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem clamp(0.75rem, 3vw, 2.5rem) 4rem; max-width: 84rem; background: var(--back);
  color: var(--text); font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 0.7rem; font-size: 1.1rem; border-bottom: 1px solid var(--line); padding-bottom: 0.3rem; }
section > div { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.pictures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
section > div > :is(dl, p, table, details, .wide) { grid-column: 1 / -1; }
figure { margin: 0; padding: 0.8rem; background: var(--card); border-radius: 0.5rem; min-width: 0; }
figcaption { margin-bottom: 0.5rem; color: var(--soft); font-size: 0.85rem; }
figcaption b { display: block; color: var(--text); font-size: 0.95rem; }
.facts { display: flex; flex-wrap: wrap; gap: 0.7rem; margin: 0; }
.facts div { background: var(--card); border-radius: 0.5rem; padding: 0.5rem 0.9rem; }
.facts dt { color: var(--soft); font-size: 0.8rem; } .facts dd { margin: 0; font-weight: 600; }
.status { margin: 0.3rem 0 0; color: var(--soft); } .status b { color: var(--text); }
.status.bad, .status.bad b { color: var(--bad); }
.none { color: var(--soft); }
svg.picture, img.picture { display: block; width: 100%; height: auto; max-height: 80vh; border-radius: 0.25rem; }
img.picture { object-fit: contain; } svg.chart { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 12px; font-family: inherit; }
svg .grid { stroke: var(--line); stroke-width: 0.7; } svg :is(.axis, .tick) { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
svg .line.s1 { stroke: var(--s1); } svg .line.s2 { stroke: var(--s2); stroke-dasharray: 6 3; }
svg .line.s3 { stroke: var(--s3); stroke-dasharray: 2 2.5; }
svg .s1:is(.bars, .points) { fill: var(--s1); } svg .s2:is(.bars, .points) { fill: var(--s2); }
svg .s3:is(.bars, .points) { fill: var(--s3); }
.found circle { fill: none; stroke: #E69F00; stroke-width: 1.6; vector-effect: non-scaling-stroke; }
.tracks polyline { fill: none; stroke-width: 1.4; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.bar line { stroke: #fff; } .bar text { fill: #fff; text-anchor: middle; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; }
pre { margin: 0.5rem 0 0; padding: 0.8rem; background: var(--card); border-radius: 0.5rem; overflow-x: auto;
  font-size: 0.82rem; } summary { cursor: pointer; }
@media print { figure { break-inside: avoid; } }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing is loaded and nothing runs, whatever a name of a file would have it do."""


def page(title: str, sections: str, report: Mapping[str, Any] | None) -> str:
    """Return the page.

    Parameters
    ----------
    title, sections
        HTML.
    report
        The run's; None before it is known.
    """
    body = f"<header><h1>{title}</h1>{_status(report)}</header><main>{sections}{_of_run(report)}</main>"
    return document(title, body)


def document(title: str, body: str, *, maker: str = "streamtrack", style: str = "", script: str = "") -> str:
    """Return a whole page, which loads nothing, and of whose scripts only ``script`` may run.

    Parameters
    ----------
    title, body
        HTML.
    maker
        Says in the file who wrote it.
    style
        Besides `STYLE`.
    script
        JavaScript.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy, run = (f"{POLICY}; script-src 'sha256-{digest}'", f"<script>{script}</script>") if script else (POLICY, "")
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} - streamtrack</title>'
        f'<meta name="generator" content="{maker}"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>'
    )
    return f"{head}<body>{body}{run}</body></html>\n"


def _status(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return '<p class="status">the run had not come to its end when this was written</p>'
    said = f"{report['started']}, {report['duration_s']:.1f} s, streamtrack {report['versions'].get('streamtrack', '')}"
    lost = report["frames"]["lost"]
    said += f"; {lost:,} frame{'s' * (lost != 1)} lost" if lost else ""
    status = str(report["status"])
    kind = "status" if status == "completed" else "status bad"
    error = f'<p class="status bad">{escape(str(report["error"]))}</p>' if report.get("error") else ""
    return f'<p class="{kind}"><b>{escape(status)}</b> {escape(said)}</p>{error}'


def _of_run(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return ""
    parts = {
        "What was lost": "".join(_lost(report)),
        "Speed": _speed(report),
        "Settings and versions": "".join(_settings(report)),
    }
    if report["remarks"]:
        said = "".join(f"<li>{escape(str(each))}</li>" for each in report["remarks"])
        parts = {"Remarks": f'<ul class="wide">{said}</ul>', **parts}
    return "".join(f"<section><h2>{name}</h2><div>{each}</div></section>" for name, each in parts.items())


def _lost(report: Mapping[str, Any]) -> Iterator[str]:
    frames = report["frames"]
    if not frames["lost"]:
        yield "<p>No frame was lost.</p>"
    else:
        causes = sorted(frames["lost_by_cause"].items(), key=lambda item: -item[1])
        yield table_of(("cause", "frames"), causes)
        ranges = [(f"{each['first']} to {each['last']}", each["cause"]) for each in frames["lost_frames"]]
        left_out = len(ranges) - _MOST_RANGES + (frames["lost_ranges_left_out"] or 0)
        more = f"<p>and {left_out:,} more: report.json</p>" if left_out > 0 else ""
        yield f"<details><summary>Which</summary>{table_of(('frames', 'cause'), ranges[:_MOST_RANGES])}{more}</details>"
    sinks = report["outputs"].get("sinks", {})
    dropped = [(name, each["dropped"], each["error"] or "") for name, each in sinks.items()]
    if any(n or error for _, n, error in dropped):
        yield table_of(("sink", "results it missed", "error"), dropped)


def _speed(report: Mapping[str, Any]) -> str:
    rows = [
        (stage, *(f"{known[share]:.3f}" for share in ("p50", "p95", "p99", "max")), known["n"])
        for stage, known in report["latency_ms"].items()
        if known.get("n")
    ]
    rate = f"<p>{report['frames_per_second']:,.4g} frames per second of work.</p>"
    return rate + table_of(("step", "median (ms)", "95 %", "99 %", "longest", "frames"), rows)


def _settings(report: Mapping[str, Any]) -> Iterator[str]:
    for key, name in _SETTINGS.items():
        if report.get(key):
            text = json.dumps(plain(report[key]), indent=2, ensure_ascii=False)
            opened = " open" if key == "config" else ""
            yield f"<details{opened}><summary>{name}</summary><pre>{escape(text)}</pre></details>"


def table_of(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; numbers stand on the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    kind = ' class="n"' if isinstance(value, int | float) else ""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return f"<td{kind}>{escape(text)}</td>"
