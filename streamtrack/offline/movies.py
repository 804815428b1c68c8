"""Which movies are meant, what each is called, and which of its frames are tracked."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from streamtrack.calibrated import contradictions
from streamtrack.config import PluginConfig, RunConfig
from streamtrack.errors import ConfigError, SourceError, StreamtrackError, foreign_errors
from streamtrack.parts import ALL, STREAM_AXES
from streamtrack.plain import without_secrets
from streamtrack.protocols import FrameSource
from streamtrack.registry import build, load, source_from_text
from streamtrack.settings import settings_model
from streamtrack.types import SourceInfo

_ENDINGS = re.compile(r"(\.ome)?\.(zarr|tiff?|btf)(\.zip)?$|\.zip$", re.IGNORECASE)
_TAKEN = re.compile(
    r"(stop|con|prn|aux|nul|com\d|lpt\d)(\..*)?|(batch|stopping)\.json(\..*)?|run\.lock|report(\.partial)?\.html",
    re.IGNORECASE,
)
"""What a batch has in its folder, what asks it to stop there, and what Windows takes for a device."""


@dataclass(frozen=True, slots=True)
class BatchMovie:
    """One movie of a batch.

    Attributes
    ----------
    name
        Its folder in that of the batch; ``/`` between a file and what is chosen of it.
    source
        Table of its source, the path absolute.
    info
        What its source says; None where it cannot be opened.
    frames
        Indices of the frames to track, where the source can be asked for some of them only.
    open_end
        Whether these reach to the movie's end, wherever that is.
    error
        Why it cannot be opened.
    """

    name: str
    source: Mapping[str, Any]
    info: SourceInfo | None = None
    frames: range | None = None
    open_end: bool = True
    error: str = ""


def find(named: Iterable[str | Path], chosen: Mapping[str, Any]) -> list[BatchMovie]:
    """Return the movies that are meant, each position and each channel that is asked for by itself.

    Parameters
    ----------
    named
        Paths, patterns of paths, folders with movies in them, or simulated movies.
    chosen
        Settings of all sources. Without a ``position``, all are taken.

    Raises
    ------
    ConfigError
        Nothing is there, or two movies would have the same name.
    """
    tables = [{**table, **chosen} for text in named for table in _tables(str(text))]
    if not tables:
        raise ConfigError("nothing to track: name movies, or folders with movies in them")
    movies = [movie for name, table in zip(_names(tables), tables, strict=True) for movie in _opened(name, table)]
    again = [name for name, count in Counter(movie.name.casefold() for movie in movies).items() if count > 1]
    if again:
        raise ConfigError(f"two movies would be called {again[0]}: track them into different folders")
    return movies


def contradicted(movies: Iterable[BatchMovie], config: RunConfig) -> list[str]:
    """Return where settings contradict what movies say of their calibration, each line once, with the first of them."""
    said: dict[str, list[str]] = {}
    for movie in movies:
        for line in contradictions(movie.info, config) if movie.info is not None else ():
            said.setdefault(line, []).append(movie.name)
    named = {line: names[0] + f" and {len(names) - 1} more" * (len(names) > 1) for line, names in said.items()}
    return [f"{named[line]}: {line}" for line in said]


def _tables(text: str) -> Iterator[dict[str, Any]]:
    """Yield the table of each movie that a text means; raises ConfigError where there is none."""
    path = os.path.expanduser(text)
    if os.path.lexists(path):
        yield from _in_place(path)
    elif found := sorted(glob.glob(path)):
        for each in found:
            yield from _in_place(each)
    elif glob.has_magic(path) and "://" not in path and not path.startswith("sim:"):
        raise ConfigError(f"nothing there matches {text}: check the path")
    else:
        yield source_from_text(text)


def _in_place(path: str) -> Iterator[dict[str, Any]]:
    """Yield the table of a movie, or those of the movies in a folder that is none itself.

    A folder that a source opens by its name, and then cannot read as one movie, is one of the files in it.
    """
    whole: dict[str, Any] | None = None
    try:
        whole = _absolute(source_from_text(path))
    except SourceError:
        if not os.path.isdir(path):
            raise
    if whole is not None and (not os.path.isdir(path) or _opens(whole)):
        yield whole
        return
    inside = list(_inside(Path(path)))
    if whole is not None and not any(os.path.isfile(table["path"]) and _opens(table) for table in inside):
        yield whole  # its error will be said
    elif inside:
        yield from inside
    else:
        raise ConfigError(f"no movie that an installed source opens lies in {path}")


def _inside(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the table of each movie that lies in a folder."""
    for child in sorted(folder.iterdir()):
        with suppress(SourceError):  # what else lies there
            yield _absolute(source_from_text(str(child)))


def _opens(table: Mapping[str, Any]) -> bool:
    try:
        with foreign_errors(SourceError, str(table.get("path"))), closing(_open(table)):
            return True
    except StreamtrackError:
        return False


def _absolute(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table that means the same in the folders of workers."""
    return {**table, "path": str(Path(table["path"]).absolute())} if "path" in table else table


def _names(tables: list[dict[str, Any]]) -> list[str]:
    """Return the names of files, each with as many of its folders' names as it takes to tell it from the others."""
    paths = [_parts(table) for table in tables]
    names = [parts[-1] for parts in paths]
    for depth in range(2, max(map(len, paths), default=1) + 1):
        count = Counter(map(str.casefold, names))  # many disks of macOS know no case either
        names = [
            "_".join(parts[-depth:]) if count[name.casefold()] > 1 else name
            for name, parts in zip(names, paths, strict=True)
        ]
    return names


def _parts(table: Mapping[str, Any]) -> list[str]:
    if "path" not in table:
        return [_plain("_".join(str(value) for value in table.values()))]
    path = without_secrets(str(table["path"]), paths=False).removesuffix("?...").rstrip("/\\")
    return [_plain(_ENDINGS.sub("", part)) for part in re.split(r"[/\\]", path) if part] or ["movie"]


def _plain(name: str) -> str:
    """Return a name that every system takes for a folder, and that means nothing else in that of a batch."""
    plain = re.sub(r"[^\w.-]+", "_", name).strip("._ ") or "movie"
    return f"movie_{plain}" if _TAKEN.fullmatch(plain) else plain


def _opened(name: str, table: dict[str, Any]) -> Iterator[BatchMovie]:
    """Yield the movies in a file: its positions, and the channels and planes that all are asked for."""
    try:
        with foreign_errors(SourceError, name):
            yield from list(_choices(name, table))
    except StreamtrackError as error:
        yield BatchMovie(name, table, error=str(error))


def _choices(name: str, table: dict[str, Any]) -> Iterator[BatchMovie]:
    known = settings_model(load("sources", table["kind"])).model_fields
    takes_all = {axis for axis in STREAM_AXES if table.get(axis) == ALL}
    if "position" in known and table.get("position") is None:
        takes_all.add("position")
    first = {**table, **dict.fromkeys(takes_all, 0)}
    with closing(_open(first)) as source:
        choices = source.choices() if hasattr(source, "choices") else {}
    along = {axis: list(choices.get(axis, ())) or [""] for axis in STREAM_AXES if axis in takes_all}
    several = [axis for axis, names in along.items() if len(names) > 1]
    for place in product(*(range(len(names)) for names in along.values())):
        chosen = dict(zip(along, place, strict=True))
        labels = [_label(axis, chosen[axis], along[axis][chosen[axis]]) for axis in several]
        yield _movie("/".join([name, *(["_".join(labels)] if labels else [])]), {**table, **chosen})


def _label(axis: str, index: int, name: str) -> str:
    return _plain(name) if name else f"{axis}_{index}"


def _movie(name: str, table: dict[str, Any]) -> BatchMovie:
    in_parts = _takes_ranges(table)
    with closing(_open({**table, "frames": None} if in_parts else table)) as source:
        info = source.info
    if info.live:
        raise SourceError(f"{info.name} is live: track it with 'streamtrack live'")
    if info.follow_s is not None:
        raise SourceError(f"{info.name} is followed while it is written: track it with 'streamtrack track --follow'")
    if info.n_frames is None or not in_parts:
        return BatchMovie(name, table, info)
    wanted = table.get("frames")
    frames = _range(wanted, info.n_frames)
    open_end = wanted is None or str(wanted).rstrip().endswith(":")
    return BatchMovie(name, table, replace(info, n_frames=len(frames)), frames, open_end)


def _takes_ranges(table: Mapping[str, Any]) -> bool:
    """Return whether the source can be asked for some frames only; those of a simulator are how many it makes."""
    setting = settings_model(load("sources", table["kind"])).model_fields.get("frames")
    return setting is not None and setting.annotation is not int


def _range(wanted: Any, n_frames: int) -> range:
    if wanted is None:
        return range(n_frames)
    ends = [int(end) if end.strip() else None for end in str(wanted).split(":")]
    if len(ends) != 2:
        raise SourceError(f"frames = {wanted!r}: give A:B")
    frames = range(*slice(*ends).indices(n_frames))
    if not frames:
        raise SourceError(f"frames = {wanted!r} leaves nothing of {n_frames} frames")
    return frames


def _open(table: Mapping[str, Any]) -> FrameSource:
    known = settings_model(load("sources", table["kind"])).model_fields
    given = {key: value for key, value in table.items() if value is not None or key not in ("frames", *STREAM_AXES)}
    if unknown := [key for key in given if key not in (*known, "kind")]:
        raise ConfigError(f"source {table['kind']!r} has no setting {unknown[0]!r}")
    source: FrameSource = build("sources", PluginConfig(**given)).instance
    return source
