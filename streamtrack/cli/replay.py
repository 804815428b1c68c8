"""A run that is over, frame by frame in the browser: from its files, what a view shows of one that is on."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from streamtrack.control.regions import searched_drawn
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.plain import plain
from streamtrack.report import COMMANDS_NAME
from streamtrack.results import Results
from streamtrack.search_area import area_of
from streamtrack.sinks import denoised, raw
from streamtrack.sinks.files import stream_name
from streamtrack.triggers.area import Area
from streamtrack.types import SourceInfo, Stream
from streamtrack.view.recent import TAIL_FRAMES
from streamtrack.view.wire import Message

if TYPE_CHECKING:
    import pandas as pd

MOST_COUNTS = 600
"""Points of the chart."""
PLACES = ("frame", "y", "x", "particle", "t", "c", "z", "p")
"""Columns by which nothing is coloured."""
Answer = tuple[dict[str, Any], list[NDArray[Any]]]


class Replay:
    """Answers the server of a view as a run does, with the frame that somebody chose.

    Parameters
    ----------
    folder
        Of a run that is over.

    Raises
    ------
    ConfigError
        There is none, or it has no tables.
    """

    def __init__(self, folder: Path) -> None:
        results = Results(folder)
        self._report = results.report
        with foreign_errors(ConfigError, f"the report in {folder} does not say what was tracked"):
            self._source = SourceInfo.from_json(self._report["source"])
        self._shape: tuple[int, int] = self._source.shape
        self._commands = _commands(folder)
        self._shown: tuple[Any, ...] = ()
        self._searched: list[dict[str, Any]] = []
        with suppress(ConfigError):  # the mask may be gone by now
            self._searched = searched_drawn(area_of(self._source))
        self._frame, self._trouble = 0, ""
        detections, tracks = results.detections, results.tracks
        if "particle" not in tracks:
            raise ConfigError(f"{folder / 'tracks.parquet'} has no column particle: track the movie again")
        several = self._source.streams is not None
        streams = [*(_stream(each) for each in self._report.get("streams", ()))] if several else [None]
        self._streams = [_StreamReplay(folder, self._shape, stream, detections, tracks) for stream in streams]
        if not self._streams:
            raise ConfigError(f"the run in {folder} has no frame")
        self._n_frames = max(each.n_frames for each in self._streams)
        self.about: dict[str, Any] = plain(
            {
                "name": self._source.name,
                "shape": self._shape,
                "live": False,
                "replay": True,
                "n_frames": self._n_frames,
                "pixel_size_um": self._source.pixel_size_um,
                "time_unit": self._source.time_unit,
                "modes": (),
                "classes": {column.name: column.classes for column in self._source.columns if column.classes},
                "counts": [each.counts(self._n_frames) for each in self._streams],
                "images": self._streams[0].images,
                "folder": str(folder),
            }
        )

    def answer(self, asked: Message) -> Answer:
        """Return what the server asks for."""
        match asked.head:
            case {
                "ask": "picture",
                "stream": int(number),
                "after": int(after),
                "denoised": bool(denoises),
                "frame": at,
            }:
                frame = min(max(at or 0, 0), self._n_frames - 1)
                wanted = (number, frame, denoises)
                if after >= 0 and wanted == self._shown:
                    return {}, []
                self._shown, self._frame = wanted, frame
                return self._picture(self._streams[min(max(number, 0), len(self._streams) - 1)], frame, denoises)
            case {"ask": "state"}:
                return {"state": plain(self._state())}, []
            case {"do": _}:
                return {"error": "the run is over: nothing can be changed any more"}, []
        return {}, []

    def _picture(self, of: "_StreamReplay", frame: int, denoises: bool) -> Answer:
        try:
            images, self._trouble = of.read(frame, denoises), ""
        except ConfigError as error:  # what was found in it can be shown all the same
            images, self._trouble = [of.black], str(error)
        columns, here, particles, values = of.found(frame)
        frames, places, ids = of.tail(frame)
        picture = {
            "index": frame,
            "time_s": None,
            "since_ns": time.monotonic_ns(),
            "shape": self._shape,
            "dtype": images[0].dtype.str,
            "columns": columns,
            "frames": frames,
            "anew": True,
            "denoised": len(images) > 1,
            "commands": self._commands.get(frame, []),
        }
        names = [str(each.stream) for each in self._streams if each.stream is not None]
        said = {"streams": names} if len(names) > 1 else {}
        return {**said, "picture": plain(picture)}, [images[0], here, particles, values, places, ids, *images[1:]]

    def _state(self) -> dict[str, Any]:
        report = self._report
        safety = report.get("safety") or {}
        return {
            "trouble": self._trouble,
            "mode": report.get("config", {}).get("mode"),
            "source": self._source.name,
            "frames": {key: report["frames"].get(key) for key in ("in", "processed", "lost", "lost_by_cause")},
            "latency_ms": report.get("latency_ms", {}),
            "rules": report.get("rules", {}),
            "actuators": report.get("outputs", {}).get("actuators", {}),
            "light": safety.get("light"),
            "limits": report.get("config", {}).get("safety", {}),
            "regions": self._regions(),
        }

    def _regions(self) -> list[dict[str, Any]]:
        """Return the areas of the rules, as they were at the frame that is shown."""
        regions = []
        for table in self._report.get("config", {}).get("triggers", ()):
            name = table.get("name") or table.get("kind")
            said = {key: table.get(key) for key in ("y_px", "x_px", "polygon_px")}
            for change in self._report.get("changes", ()):
                moved = (change.get("change"), change.get("rule"), change.get("fate")) == ("region", name, "done")
                if moved and change["frame"] <= self._frame:
                    said = {key: change["after"].get(key) for key in said}
            if table.get("kind") in ("region", "count") and any(said.values()):
                with suppress(ConfigError, TypeError, ValueError):
                    regions.append({"rule": name, **Area(**said, mask=None).drawn(self._shape)})
        return [*regions, *self._searched]


class _StreamReplay:
    """What was found in one stream, and the movies that were kept of it."""

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int],
        stream: Stream | None,
        detections: "pd.DataFrame",
        tracks: "pd.DataFrame",
    ) -> None:
        self.stream = stream
        self.black = np.zeros(shape, np.uint8)
        self._found, self._tracks = (_by_frame(table, stream) for table in (detections, tracks))
        self._columns = [name for name in self._tracks if name not in PLACES]
        self._columns += [name for name in self._found if name not in (*PLACES, *self._columns)]
        kept = [raw.MOVIE, denoised.MOVIE]
        if stream is not None:
            kept = [f"{name}/{stream_name(stream)}.ome.zarr" for name in (raw.STREAMS, denoised.STREAMS)]
        self._raw, self._denoised = (_movie(folder / name, shape) for name in kept)
        self.images = [name for name, movie in (("raw", self._raw), ("denoised", self._denoised)) if movie is not None]

    @property
    def n_frames(self) -> int:
        """Number of the last frame of which anything is kept, and one."""
        last = [int(table["frame"][-1]) + 1 for table in (self._found, self._tracks) if len(table["frame"])]
        kept = [first + int(movie.shape[0]) for first, movie in filter(None, (self._raw, self._denoised))]
        return max([1, *last, *kept])

    def counts(self, n_frames: int) -> dict[str, Any]:
        """Return how many particles and tracks the frames have, of some hundred frames."""
        every = -(-n_frames // MOST_COUNTS)
        shown = np.arange(0, n_frames, every)
        counted = (_counts(table["frame"], shown) for table in (self._found, self._tracks))
        return {"every": every, **dict(zip(("detections", "tracks"), (each.tolist() for each in counted), strict=True))}

    def read(self, frame: int, denoises: bool) -> list[NDArray[Any]]:
        """Return the image to show, black where none was kept, and the denoised one beside it; raises ConfigError."""
        images = [_image(movie, frame) for movie in (self._raw, self._denoised)]
        first = next((image for image in images if image is not None), self.black)
        beside = images[1] if denoises and images[0] is not None else None
        return [first] if beside is None else [first, beside.astype(np.float32, copy=False)]

    def found(self, frame: int) -> tuple[list[str], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return the columns, places (2, N), tracks (N,) and values (C, N) of a frame: tracks first."""
        tracked, others = _rows(self._tracks, frame), _rows(self._found, frame)
        free = ~np.isin(_keys(others), _keys(tracked))
        n_free = int(free.sum())
        parts = [
            np.concatenate([_column(tracked, name), _column(others, name)[free]]) for name in ("y", "x", *self._columns)
        ]
        particles = np.concatenate([tracked["particle"], np.full(n_free, -1)]).astype(np.int32)
        table = np.stack(parts).astype(np.float32)
        return self._columns, np.ascontiguousarray(table[:2]), particles, np.ascontiguousarray(table[2:])

    def tail(self, frame: int) -> tuple[list[tuple[int, int]], NDArray[Any], NDArray[Any]]:
        """Return the tracks of the frames up to this one, as `streamtrack.view.recent.Recent.since` does."""
        rows = _rows(self._tracks, frame - TAIL_FRAMES + 1, frame)
        indices, counts = np.unique(rows["frame"], return_counts=True)
        places = np.stack([rows["y"], rows["x"]]).astype(np.float32)
        frames = list(zip(indices.tolist(), counts.tolist(), strict=True))
        return frames, np.ascontiguousarray(places), rows["particle"].astype(np.int32)


def _stream(known: Mapping[str, Any]) -> Stream:
    return Stream(**{key: known[key] for key in ("position", "channel", "z", "position_name", "channel_name")})


def _by_frame(table: "pd.DataFrame", stream: Stream | None) -> dict[str, NDArray[Any]]:
    """Return the numbers of a table as columns, in the order of the frames."""
    if stream is not None:
        here = (table["c"] == stream.channel) & (table["p"] == stream.position)
        table = table[here & (table["z"] == stream.z)] if stream.z is not None else table[here]
        table = table.assign(frame=table["t"])
    table = table.sort_values("frame", kind="stable")
    return {str(name): table[name].to_numpy() for name in table if table[name].dtype.kind in "iuf"}


def _rows(columns: Mapping[str, NDArray[Any]], first: int, last: int | None = None) -> dict[str, NDArray[Any]]:
    start, stop = np.searchsorted(columns["frame"], (first, (first if last is None else last) + 1))
    return {name: column[start:stop] for name, column in columns.items()}


def _counts(frames: NDArray[Any], shown: NDArray[Any]) -> NDArray[Any]:
    """Return how many rows some frames have."""
    return np.searchsorted(frames, shown, "right") - np.searchsorted(frames, shown)


def _column(rows: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    return rows[name] if name in rows else np.full(len(rows["frame"]), np.nan)


def _keys(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.complex128]:
    """Return one number for each place."""
    keys: NDArray[np.complex128] = rows["y"] + 1j * rows["x"]
    return keys


def _movie(path: Path, shape: tuple[int, int]) -> tuple[int, Any] | None:
    """Return a movie that a run kept, and the number of its first frame; None where there is none.

    What somebody else has put there may be anything. Raises ConfigError where it cannot be read.
    """
    if not path.is_dir():
        return None
    with foreign_errors(ConfigError, f"cannot read {path}"):
        group = zarr.open_group(path, mode="r")
        about: Any = group.attrs.get("streamtrack")
        if not isinstance(about, Mapping) or "first_frame" not in about:
            return None
        array: Any = group["0"]
        return (int(about["first_frame"]), array) if array.shape[1:] == shape else None


def _image(movie: tuple[int, Any] | None, frame: int) -> NDArray[Any] | None:
    """Return a frame of a movie, zeros where it has none."""
    if movie is None:
        return None
    first, array = movie
    if not 0 <= frame - first < array.shape[0]:
        return np.zeros(array.shape[1:], array.dtype)
    with foreign_errors(ConfigError, f"cannot read frame {frame}"):
        return np.ascontiguousarray(array[frame - first])


def _commands(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Return the places of a run's commands, by frame."""
    places: dict[int, list[dict[str, Any]]] = {}
    with suppress(OSError), (folder / COMMANDS_NAME).open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError, KeyError, TypeError):
                known = json.loads(line)
                event = known["event"]
                place = {key: event[key] for key in ("y", "x", "particle") if event.get(key) is not None}
                places.setdefault(known["frame"], []).append({"rule": known["rule"], **place})
    return places
