"""A run that was broken off goes on: frames that it had searched are not searched again.

What the engine found in them stands in the rows that the run left, in the stream of a killed one or the tables of one
that was stopped. Linker, measures and rules go through these frames once more, which takes little beside the engine, so
that none of them has a state that had to be written down: what comes out is what one run would have given.
"""

import json
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from streamtrack import __version__
from streamtrack.calibrated import CALIBRATIONS
from streamtrack.clock import monotonic_ns
from streamtrack.errors import ConfigError, SinkError, foreign_errors
from streamtrack.files import move, remove_file
from streamtrack.plain import plain
from streamtrack.protocols import Engine, Remarking
from streamtrack.report import COMMANDS_NAME, REPORT_NAME, read_report
from streamtrack.run_folder import KEPT_NAMES, UNFINISHED_NAME
from streamtrack.search_area import SearchArea, mask_unseen
from streamtrack.sinks.frame_table import FRAMES, FRAMES_PARTIAL
from streamtrack.sinks.making import TABLES
from streamtrack.sinks.row_groups import batches_of
from streamtrack.sinks.stream import read_batches
from streamtrack.sinks.table_rows import split
from streamtrack.step import Detector, Found
from streamtrack.types import Detections, Frame, SourceInfo

_LEFT = (("arrows", UNFINISHED_NAME, FRAMES_PARTIAL), ("parquet", TABLES[0], FRAMES))
_COMPARED = ("source", "versions", "config", "engine")
"""Of a report, what has to be the same. One that 'streamtrack recover' had to write itself lacks some of it."""
_SAME, _SAME_PX, _SAME_MASS = 0.9, 0.1, 0.05
"""Share of a frame's detections that have to be found again, how near, and with what relative difference in mass:
wider than what a back end computes differently from time to time, and closer than another movie ever is."""
_USUAL = ("y", "x", "score", "mass", "sigma")


class Resumption:
    """What is known of the frames of an earlier run.

    Parameters
    ----------
    folder
        Of the run; this process holds its lock.

    Raises
    ------
    ConfigError
        It was complete, or cannot be gone on with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: Known | None = None
        self.report = _report_of(folder)
        status = self.report.get("status")
        if status in ("completed", "incomplete"):
            raise ConfigError(f"the run in {folder} is {status}: there is nothing to resume")
        if self.report.get("config", {}).get("mode") == "armed":
            raise ConfigError(f"the run in {folder} was armed: what it did to the microscope cannot be resumed")
        if changed := _changed(folder):
            raise ConfigError(
                f"the run in {folder} was changed while it ran ({changed}): resumed it would give other results; "
                "track again with --overwrite"
            )

    def check_frame(self, index: int, was: Detections, is_now: Detections) -> None:
        """Raise ConfigError where a frame does not show what the earlier run found in it."""
        if n_same(was, is_now) < _SAME * max(len(was), len(is_now)):
            raise ConfigError(
                f"the movie's frame {index} does not show what the run in {self._folder} found in it: "
                "resume with the movie as it was, or track again with --overwrite"
            )

    def check(self, info: SourceInfo, config: Mapping[str, Any], engine: Mapping[str, Any]) -> None:
        """Raise ConfigError where the run that goes on would not give the results of the earlier one."""
        if info.live or info.streams is not None or config.get("mode") == "armed":
            what = "is live" if info.live else "has several streams" if info.streams is not None else "would be armed"
            raise ConfigError(f"{info.name} {what}: only runs of one movie on disk are resumed")
        if not self.report:
            return
        for key in ("name", "shape", "dtype", "n_frames", *CALIBRATIONS):
            was, is_now = self.report["source"].get(key), plain(getattr(info, key))
            is_followed = key == "n_frames" and None in (was, is_now)
            if was != is_now and not is_followed:
                raise ConfigError(f"{self._folder} holds a run of a movie with {key} = {was}, not {is_now}")
        before = {"streamtrack": self.report["versions"].get("streamtrack"), **self.report["config"]}
        now = {"streamtrack": __version__, **plain(config)}
        before |= {f"engine's {key}": value for key, value in self.report["engine"].items() if isinstance(value, str)}
        now |= {f"engine's {key}": value for key, value in plain(engine).items() if isinstance(value, str)}
        was, is_now = dict(_flat(before)), dict(_flat(now))
        for key in sorted(was.keys() | is_now.keys()):
            is_compared = not key.startswith("ingest.") and key != "source.follow"
            if is_compared and was.get(key) != is_now.get(key):
                raise ConfigError(
                    f"{self._folder} holds a run with {key} = {was.get(key)}, not {is_now.get(key)}: "
                    "resume with the same settings, or track again with --overwrite"
                )

    def keep(self) -> None:
        """Give the rows of the earlier run names that no run writes; those of which there are more are kept.

        Raises ConfigError where such a name is taken by what no run wrote: those of ours are deleted in the end.
        """
        for name in KEPT_NAMES:
            if (self._folder / name).exists() and not _is_ours(self._folder / name):
                raise ConfigError(f"{self._folder / name} was not written by streamtrack: move it away")
        self._rename_rest()
        for ending, *names in _LEFT:
            left = [self._folder / name for name in names]
            if not all(map(_is_ours, left)):
                continue
            kept = self._kept()
            if kept is None or len(_frames(left[1])[0]) > len(_frames(kept[1])[0]):
                with foreign_errors(ConfigError, f"cannot write into {self._folder}"):
                    for path in kept or ():
                        remove_file(path)
                    for path, to in zip(left, self._named(ending), strict=True):
                        move(path, to)

    def known(self) -> "Known":
        """Return what is in the frames of the earlier run."""
        kept = self._kept()
        self._known = Known(None, None) if kept is None else Known(*kept)
        return self._known

    def _rename_rest(self) -> None:
        """Give the other rows of a run their name, too, where a kill came in between."""
        for ending, *names in _LEFT:
            renamed = list(zip((self._folder / name for name in names), self._named(ending), strict=True))
            for (done, done_to), (rest, to) in (renamed, reversed(renamed)):
                if done_to.is_file() and not done.is_file() and rest.is_file() and not to.is_file():
                    with foreign_errors(ConfigError, f"cannot write into {self._folder}"):
                        move(rest, to)

    def forget(self) -> None:
        """Delete the rows of the earlier run: those of the one that went on have all of them."""
        if self._known is not None:
            self._known.close()
        for name in KEPT_NAMES:
            with suppress(OSError):  # held: the next run asks for --overwrite, and nothing is lost
                remove_file(self._folder / name)

    def _kept(self) -> tuple[Path, Path] | None:
        pairs = [self._named(ending) for ending, *_ in _LEFT]
        return next((pair for pair in pairs if all(path.is_file() for path in pair)), None)

    def _named(self, ending: str) -> tuple[Path, Path]:
        detections, frames = (self._folder / name for name in KEPT_NAMES if name.endswith(ending))
        return detections, frames


class Known:
    """What was found in frames, asked for in order; only a batch of rows is in memory at a time.

    Attributes
    ----------
    samples
        A few of these frames, which tell whether the movie is the same: first, middle and last that show anything.
    """

    def __init__(self, detections: Path | None, frames: Path | None) -> None:
        self._rows_of, self._said = _frames(frames) if frames else ({}, {})
        self._rows = _by_frame(detections) if detections else iter(())
        self._next: tuple[int, pa.RecordBatch] | None = next(self._rows, None)
        telling = [index for index, row in self._rows_of.items() if self._said["detections"][row]] or [*self._rows_of]
        self.samples = {telling[at * (len(telling) - 1) // 2] for at in range(3)} if telling else set()

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._rows, Generator):
            self._rows.close()

    def of(self, index: int, engine: Engine) -> Detections | None:
        """Return what was found in a frame, None where that is not known, or damaged."""
        with suppress(KeyError, TypeError, ValueError, pa.ArrowException):
            return self._of(index, engine)
        return None

    def _of(self, index: int, engine: Engine) -> Detections | None:
        row = self._rows_of.get(index)
        if row is None:
            return None
        said = {name: values[row].item() for name, values in self._said.items()}
        names = [column.name for column in getattr(engine, "columns", ())]
        frame_values = {column.name: said[column.name] for column in getattr(engine, "frame_columns", ())}
        while self._next is not None and self._next[0] < index:
            self._next = next(self._rows, None)
        n_rows = self._next[1].num_rows if self._next is not None and self._next[0] == index else 0
        if n_rows != said["detections"]:  # damaged
            return None
        if self._next is None or not n_rows:
            none = np.empty(0, np.float32)
            return Detections(none, none, none, none, none, dict.fromkeys(names, none), frame_values)
        rows = self._next[1]
        extra = {name: _values(rows, name) for name in names}
        return Detections(**{name: _values(rows, name) for name in _USUAL}, extra=extra, frame_values=frame_values)


class Remembering:
    """An engine that need not search frames of which it is known what is in them.

    Wherever it has to search one, it is shown those before first. A few that are known it searches all the same: a file
    of the same name may hold another movie by now.

    Parameters
    ----------
    engine, area
        Those of the run.
    resumption
        Knows what is in frames.
    """

    def __init__(self, engine: Engine, resumption: Resumption, area: SearchArea | None = None) -> None:
        self._engine, self._resumption, self._area = engine, resumption, area
        self._known: Known | None = None
        self._sight = Detector(engine)
        self._recent: deque[Frame] = deque(maxlen=max(1, getattr(engine, "frames_before", 0)))
        self._shown: int | None = None
        self._n_known = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def see(self, frame: Frame, *, denoise: bool) -> Found:
        """Return what is in a frame."""
        if self._known is None:
            self._known = self._resumption.known()
        found = self._known.of(frame.index, self._engine)
        if found is not None and frame.index in self._known.samples:
            now = self._searched(frame, denoise=False).detections
            self._resumption.check_frame(frame.index, found, now if self._area is None else self._area.of(now))
        if found is not None and not denoise:
            began = monotonic_ns()
            seen = Found(*mask_unseen(frame.pixels), found, None, began)
            self._n_known += 1
        else:
            seen = self._searched(frame, denoise)
        self._recent.append(frame)
        return seen

    def remarks(self) -> list[str]:
        """Return what the engine remarks of the frames that it has searched, and how many it has not."""
        own = list(self._engine.remarks()) if isinstance(self._engine, Remarking) else []
        said = f"resumed: an earlier run had searched {self._n_known} of the frames; remarks are of the others"
        return [*([said] if self._n_known else []), *own]

    def _searched(self, frame: Frame, denoise: bool) -> Found:
        if self._shown is None or self._shown != frame.index - 1:
            for before in self._recent:
                self._sight(before, denoise=False)
        self._shown = frame.index
        return self._sight(frame, denoise=denoise)


def _flat(settings: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting with its full name, ``source.path``; lists are settings of their own."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{table}{key}.")
        else:
            yield table + key, value


def _report_of(folder: Path) -> Mapping[str, Any]:
    """Return the report of the run in a folder, nothing where there is no run; raises ConfigError."""
    report: Mapping[str, Any] = {}
    with suppress(ConfigError):
        report = read_report(folder)
    if not report and not any(os.path.lexists(folder / name) for name in (REPORT_NAME, UNFINISHED_NAME, *KEPT_NAMES)):
        return report
    if not all(isinstance(report.get(name), Mapping) for name in _COMPARED):
        raise ConfigError(f"the report in {folder} does not say what was tracked how: choose another folder")
    return report


HARMLESS = ("stop", "mark", "snapshot")
"""Changes of which a run's results do not depend."""


def _changed(folder: Path) -> str:
    """Return what was changed in a run while it ran, first of all; ``""`` where nothing was, so far as is written down.

    What a run that was killed has in its command log, its report does not have.
    """
    with suppress(OSError), (folder / COMMANDS_NAME).open(encoding="utf-8") as lines:
        for text in lines:
            if '"change"' not in text:
                continue
            with suppress(ValueError):  # the last line of a killed run
                line = json.loads(text)
                if line["fate"] == "done" and line.get("change") not in (None, *HARMLESS):
                    return f"{line['change']} in frame {line['frame']}"
    return ""


def _is_ours(path: Path) -> bool:
    """Return whether a run wrote a file of rows, as its header says; of an empty one nothing can be lost."""
    with suppress(OSError, pa.ArrowException):
        if not path.stat().st_size:
            return True
        schema = pq.read_schema(path) if path.suffix == ".parquet" else pa.ipc.open_stream(path).schema
        return b"streamtrack_version" in (schema.metadata or {})
    return False


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".arrows":
        yield from read_batches(path)
        return
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield from batches_of(file)


def _frames(path: Path) -> tuple[dict[int, int], dict[str, NDArray[Any]]]:
    """Return which row is of which frame that was processed, and what the rows say; nothing if they are damaged."""
    with suppress(SinkError), foreign_errors(SinkError, f"cannot read {path}"):
        return _read_frames(path)
    return {}, {}


def _read_frames(path: Path) -> tuple[dict[int, int], dict[str, NDArray[Any]]]:
    batches = list(_batches(path))
    names = [name for name in (batches[0].schema.names if batches else ()) if not name.endswith("_ms")]
    said = {
        name: np.concatenate([batch.column(name).to_numpy(zero_copy_only=False) for batch in batches]) for name in names
    }
    if not {"frame", "detections"} <= said.keys():
        return {}, {}
    return {int(index): row for row, index in enumerate(said["frame"])}, said


def _by_frame(path: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of each frame that has any, as far as they can be read."""
    with suppress(SinkError), foreign_errors(SinkError, f"cannot read {path}"):
        yield from _read_by_frame(path)


def _read_by_frame(path: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in _batches(path):
        rows = split(batch)[0] if "detection" in batch.schema.names else batch
        frame = rows.column("frame").to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(frame)) + 1).tolist(), len(frame)]
        for start, stop in pairwise(edges):
            if stop > start:
                yield int(frame[start]), rows.slice(start, stop - start)


def n_same(one: Detections, other: Detections) -> int:
    """Return how many of one frame's detections are also among the other's: in place and mass."""
    if not len(one) or not len(other):
        return 0
    away_px = np.hypot(one.y[:, None] - other.y, one.x[:, None] - other.x)
    nearest = away_px.argmin(axis=1)
    same = (away_px.min(axis=1) < _SAME_PX) & np.isclose(one.mass, other.mass[nearest], rtol=_SAME_MASS, equal_nan=True)
    return int(same.sum())


def _values(rows: pa.RecordBatch, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float32)
    return values
