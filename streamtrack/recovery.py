"""Results out of what a run left whose process died: tables, picture and report."""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamtrack.errors import ConfigError, SinkError
from streamtrack.files import remove_file
from streamtrack.plain import plain
from streamtrack.report import read_report, versions, write_report
from streamtrack.run_folder import ENDED, KEPT_NAMES, MARK, UNFINISHED_NAME, RunFolder
from streamtrack.sinks import denoised, raw
from streamtrack.sinks.frame_table import FRAMES, make_frames
from streamtrack.sinks.making import TABLES, Recovered
from streamtrack.sinks.making import recover as recover_tables
from streamtrack.sinks.overview import OVERVIEW, draw_tables
from streamtrack.sinks.row_groups import batches_of
from streamtrack.sinks.stream import Extent
from streamtrack.sinks.summary import SUMMARIES, summarise
from streamtrack.types import SourceInfo, Stream

DIED = "not known: the process died"
UNREADABLE = f"in what cannot be read of {UNFINISHED_NAME}"


def recover(folder: Path) -> dict[str, Any]:
    """Make what can be made of a run that was broken off: all that was tracked but the last second.

    The stream of its rows is enough; a report and tables that are there already are taken into account.

    Returns
    -------
    dict
        The report, which is also in ``report.json``.

    Raises
    ------
    ConfigError
        If there is nothing to recover, or the run lives.
    SinkError
        If nothing can be read or written.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; give the one that 'track' wrote")
    run_folder = RunFolder(folder)
    run_folder.lock()
    try:
        return _recover(folder)
    finally:
        run_folder.release()


def _recover(folder: Path) -> dict[str, Any]:
    report = _report_of(folder)
    status = report.get("status")
    if status in ENDED:
        return _completed(folder, report)
    if (folder / UNFINISHED_NAME).exists():
        recovered = recover_tables(folder)
    elif status == "running":
        recovered = _from_tables(folder, report)
        with suppress(SinkError):
            make_frames(folder)
    else:
        what = f"the run in it has {status}" if status else "it holds no run"
        raise ConfigError(f"{folder}: {what}, and no {UNFINISHED_NAME} is there; there is nothing to recover")
    report = _said(report, recovered)
    report |= _of_streams(folder, recovered.source)
    if any((folder / name).exists() for name in KEPT_NAMES):
        report["remarks"].append("an earlier run may have searched more frames: 'streamtrack track --resume' goes on")
    report["remarks"] += [*_summarised(folder, report), *_drawn(folder, report, recovered), *_of_movies(folder)]
    try:
        write_report(folder, report)
    except OSError as error:
        raise SinkError(
            f"cannot write into {folder}: {error.strerror or error}; make room and recover again"
        ) from error
    return report


def _completed(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Return the report of a run whose tables are complete; a stream that could not be deleted then is deleted now."""
    if not (folder / UNFINISHED_NAME).exists():
        raise ConfigError(f"the run in {folder} has ended ({report['status']}); there is nothing to recover")
    if not report.get("recovered", {}).get("unread_bytes"):
        with suppress(OSError):
            remove_file(folder / UNFINISHED_NAME)
    return report


def _report_of(folder: Path) -> dict[str, Any]:
    try:
        return read_report(folder)
    except ConfigError:
        return {}


def _from_tables(folder: Path, report: Mapping[str, Any]) -> Recovered:
    """Return what the tables of a run hold that was killed after they were complete; nothing where there are none."""
    source = SourceInfo.from_json(report["source"])
    if not all((folder / name).is_file() for name in TABLES):
        return Recovered(source, Extent(), 0)
    try:
        with pq.ParquetFile(folder / TABLES[0]) as file:
            n_rows = file.metadata.num_rows
            metadata = file.schema_arrow.metadata or {}
            extent = Extent(n_frames=int(metadata.get(b"frames", 0)))
    except (OSError, ValueError) as error:
        raise SinkError(f"cannot read {folder / TABLES[0]}: {error}") from error
    return Recovered(source, extent, n_rows)


def _said(report: Mapping[str, Any], recovered: Recovered) -> dict[str, Any]:
    """Return the report, with the counts of what was recovered."""
    extent = recovered.extent
    frames = report.get("frames", {"expected": recovered.source.n_frames})
    span = extent.last - extent.first + 1 if extent.first is not None and extent.last is not None else 0
    n_in = max(frames.get("in", 0), span, extent.n_frames + extent.lost_frames)
    causes = dict(frames.get("lost_by_cause", {}))
    causes[UNREADABLE] = extent.lost_frames
    causes[DIED] = max(n_in - extent.n_frames - sum(causes.values()), 0)
    lost = {"lost": n_in - extent.n_frames, "lost_by_cause": {cause: n for cause, n in causes.items() if n}}
    earlier = f"{report['error']}; " if report.get("error") else "the process died; "
    return {
        "source": plain(asdict(recovered.source)),
        "latency_ms": {},
        "versions": versions(),
        **report,
        "status": "interrupted",
        "error": f"{earlier}what it left was recovered",
        "remarks": [each for each in report.get("remarks", []) if UNFINISHED_NAME not in each] + _unreadable(extent),
        "frames": {
            "lost_frames": [],
            "lost_ranges_left_out": 0,
            **frames,
            "in": n_in,
            "processed": extent.n_frames,
            **lost,
        },
        "recovered": {"unread_bytes": extent.lost_bytes, "unread_frames": extent.lost_frames},
        "detections": recovered.n_detections,
    }


def _of_streams(folder: Path, source: SourceInfo) -> dict[str, Any]:
    """Return what became of each stream, by the tables; nothing of a movie that is one, or without these."""
    if source.streams is None or not all((folder / name).is_file() for name in (FRAMES, TABLES[0])):
        return {}
    names = {str(replace(each, position_name="", channel_name="")): each for each in source.streams}
    processed, detections = (_per_stream(folder / name) for name in (FRAMES, TABLES[0]))
    streams = []
    for place, n_frames in sorted(processed.items(), key=lambda item: str(item[0])):
        p, c, z = place
        stream = Stream(p or 0, c or 0, z)
        stream = names.get(str(stream), stream)
        streams.append({**asdict(stream), "processed": n_frames, "detections": detections[place]})
    return {"streams": streams}


def _per_stream(path: Path) -> Counter[tuple[int | None, ...]]:
    """Return how many rows a table has of each stream: position, channel, z plane."""
    counts: Counter[tuple[int | None, ...]] = Counter()
    with pq.ParquetFile(path) as file:
        for batch in batches_of(file, ["p", "c", "z"]):
            rows = pa.Table.from_batches([batch]).group_by(["p", "c", "z"]).aggregate([([], "count_all")])
            counts.update({(p, c, z): n for p, c, z, n in zip(*rows.to_pydict().values(), strict=True)})
    return counts


def _of_movies(folder: Path) -> list[str]:
    """Return which recorded movies were not finished: the last second of their frames may not be in them."""
    remarks, named = [], [folder / sink.MOVIE for sink in (raw, denoised)]
    in_folders = [path for sink in (raw, denoised) for path in sorted((folder / sink.STREAMS).glob("*.ome.zarr"))]
    for path in [*named, *in_folders]:
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            said = json.loads((path / "zarr.json").read_bytes())["attributes"][MARK]
            n_frames = json.loads((path / "0" / "zarr.json").read_bytes())["shape"][0]
            if not said["complete"]:
                name = path.relative_to(folder).as_posix()
                last = said["first_frame"] + n_frames - 1
                until = f"ends with frame {last}" if n_frames else "holds no frame"
                remarks.append(f"{name} {until}: what came within the last second before the process died is not in it")
    return remarks


def _unreadable(extent: Extent) -> list[str]:
    if not extent.lost_bytes:
        return []
    frames = f"{extent.lost_frames} frames" if extent.lost_frames else "an unknown number of frames"
    return [f"{extent.lost_bytes} bytes of {UNFINISHED_NAME}, {frames}, could not be read; the file is kept"]


def _summarised(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Summarise the tracks, if the run would have; return what went wrong."""
    if SUMMARIES[0] not in report.get("files", ()):
        return []
    try:
        summarise(folder)
    except SinkError as error:  # the tables are what counts
        return [f"{SUMMARIES[0]} could not be made: {error}"]
    return []


def _drawn(folder: Path, report: Mapping[str, Any], recovered: Recovered) -> list[str]:
    """Draw the picture, if the run would have; return what went wrong."""
    if OVERVIEW not in report.get("files", [OVERVIEW]) or not (folder / TABLES[1]).is_file():
        return []
    try:
        draw_tables(folder, recovered.source, report["frames"]["processed"], report["frames"]["lost"])
    except Exception as error:  # the tables are what counts
        return [f"{OVERVIEW} could not be drawn: {error}"]
    return []
