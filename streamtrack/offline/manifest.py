"""What a batch wrote into its folder: ``batch.json`` says with which settings, and of which movie each folder is."""

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack import __version__
from streamtrack.calibrated import CALIBRATIONS, with_calibration
from streamtrack.config import RunConfig
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.files import write_durably
from streamtrack.offline.movies import BatchMovie
from streamtrack.offline.rows import MovieRow
from streamtrack.plain import plain, without_secrets
from streamtrack.report import read_report
from streamtrack.run_folder import MARK
from streamtrack.search_area import SearchArea

MANIFEST = "batch.json"
DONE = ("completed", "incomplete")


class Manifest:
    """The batches of one folder, which all have the same settings.

    Parameters
    ----------
    folder
        That of the batch.
    settings
        What decides the results, besides the movies.
    overwrite
        Whether another batch's results may be replaced.

    Raises
    ------
    ConfigError
        The folder holds the results of other settings, or another version's.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
        self._folder, self._settings, self._overwrite = folder, plain(settings), overwrite
        known = self._read()
        self._movies: dict[str, Any] = known.get("movies", {})
        other = self._other(known) if known else ""
        if other and not overwrite:
            raise ConfigError(f"{folder} holds a batch {other}: {_CURE}")
        if other:  # results that are not replaced now are not those of these settings
            self._movies = {}

    def _other(self, known: Mapping[str, Any]) -> str:
        """Return what differs from an earlier batch, nothing where all is the same."""
        if known["streamtrack"] != __version__:
            return f"of streamtrack {known['streamtrack']}"
        before, now = known["settings"], self._settings
        different = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        return "".join(f"with {key} = {before.get(key)}, not {now.get(key)}" for key in different[:1])

    def check(self, movies: Sequence[BatchMovie]) -> None:
        """Raise ConfigError where a folder is another movie's."""
        for movie in () if self._overwrite else movies:
            before = self._movies.get(movie.name)
            if before not in (None, _identity(movie)) and (self._folder / movie.name).exists():
                raise ConfigError(f"{self._folder / movie.name} holds the results of {before}: {_CURE}")

    def add(self, movies: Sequence[BatchMovie]) -> None:
        """Write down what will be tracked; raises ConfigError."""
        self._movies |= {movie.name: _identity(movie) for movie in movies}
        content = {"streamtrack": __version__, "settings": self._settings, "movies": self._movies}
        with foreign_errors(ConfigError, f"cannot write into {self._folder}"):
            write_durably(self._folder / MANIFEST, json.dumps(content, indent=1).encode())

    def knows(self, movie: BatchMovie) -> bool:
        """Return whether a batch was asked to track this movie into its folder."""
        return self._movies.get(movie.name) == _identity(movie)

    def has_begun(self, movie: BatchMovie) -> bool:
        """Return whether a batch has begun to write into the folder of this movie: it has a report then."""
        with suppress(ConfigError):
            return self.knows(movie) and MARK in read_report(self._folder / movie.name).get("versions", {})
        return False

    def report_of(self, movie: BatchMovie) -> dict[str, Any] | None:
        """Return the report of a movie that a batch has tracked to its end, if all that it wrote is still there."""
        with suppress(ConfigError):
            report = read_report(self._folder / movie.name)
            is_done = self.knows(movie) and report.get("status") in DONE
            return report if is_done and _is_whole(self._folder / movie.name, report) else None
        return None

    def others(self, movies: Sequence[BatchMovie]) -> list[MovieRow]:
        """Return what became of the movies of earlier batches that are none of these, as far as there are reports."""
        rows = []
        for name in sorted(self._movies.keys() - {movie.name for movie in movies}):
            row = MovieRow(name, self._folder / name, None, skipped=True)
            with suppress(ConfigError), foreign_errors(ConfigError, name):
                row.take(read_report(row.folder))
                rows.append(row)
        return rows

    def changed(self, movie: BatchMovie, report: Mapping[str, Any], config: RunConfig) -> str:
        """Return why a report is not one of this movie as it is now, nothing where it may be."""
        before: Mapping[str, Any] = report.get("source") or {}
        info = None if movie.info is None else with_calibration(movie.info, config)
        for key in _SAME if before and info is not None else ():
            was, is_now = before.get(key), plain(getattr(info, key))
            if was != is_now:
                held = f"{self._folder / movie.name} holds the results of the movie with {key} = {was}"
                return f"{held}, not {is_now}: move that folder away to track it again, or pass --overwrite"
        return ""

    def _read(self) -> dict[str, Any]:
        path = self._folder / MANIFEST
        if not path.exists():
            return {}
        with foreign_errors(ConfigError, f"{path} cannot be read; was it written by a batch?"):
            known = json.loads(path.read_bytes())
            if "streamtrack" not in known or not all(isinstance(known[key], dict) for key in ("settings", "movies")):
                raise ConfigError(f"{path} was not written by streamtrack; choose another folder")
            return dict(known)


_SAME = ("shape", "dtype", "n_frames", *CALIBRATIONS)
"""Of a movie, what its results hold for: the file of that name may have grown, or be another one."""
_CURE = "choose another --out, or pass --overwrite"


def _is_whole(folder: Path, report: Mapping[str, Any]) -> bool:
    """Return whether all that a run has written is still there, as far as its report says what."""
    return all((folder / name).exists() for name in report.get("written", ()))


def _identity(movie: BatchMovie) -> dict[str, Any]:
    said = {key: value for key, value in movie.source.items() if value is not None}
    return dict(without_secrets(plain(said), paths=False))


def decisive(config: RunConfig, movies: Sequence[BatchMovie]) -> dict[str, Any]:
    """Return what decides the results of a movie; files by what is in them, too, as they may be written anew."""
    said = {"engine", "linker", "measures", "sinks", "roi", "mask", *CALIBRATIONS}
    table = config.model_dump(mode="json", include=said)
    weights = Path(str(config.engine.settings.get("weights", "")))
    if weights.is_file():
        with foreign_errors(ConfigError, f"cannot read the weights {weights}"):
            table["weights_crc32"] = f"{zlib.crc32(weights.read_bytes()):08x}"
    if config.mask is not None:
        table["mask_crc32"] = _mask_crc32(config.folder / config.mask, movies)
    return table


def _mask_crc32(mask: Path, movies: Sequence[BatchMovie]) -> str | None:
    """Return a checksum of a mask, None where it fits no movie: each of them says why."""
    for shape in dict.fromkeys(movie.info.shape for movie in movies if movie.info):
        with suppress(ConfigError):
            return SearchArea(shape, mask=mask).crc32
    return None
