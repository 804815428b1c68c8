"""What a batch wrote into its folder: ``batch.json`` says with which settings, and of which movie each folder is."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamtrack import __version__
from streamtrack.errors import ConfigError, foreign_errors
from streamtrack.files import write_durably
from streamtrack.offline.movies import BatchMovie
from streamtrack.plain import plain
from streamtrack.report import read_report

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
        self._folder, self._settings = folder, plain(settings)
        known = self._read()
        self._movies: dict[str, Any] = known.get("movies", {})
        if not known or overwrite:
            return
        if known.get("streamtrack") != __version__:
            raise ConfigError(f"{folder} holds a batch of streamtrack {known.get('streamtrack')}: {_CURE}")
        before, now = known.get("settings", {}), self._settings
        other = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if other:
            key = other[0]
            raise ConfigError(f"{folder} holds a batch with {key} = {before.get(key)}, not {now.get(key)}: {_CURE}")

    def add(self, movies: Sequence[BatchMovie], overwrite: bool) -> None:
        """Write down what will be tracked; raises ConfigError where a folder is another movie's."""
        for movie in movies:
            before = self._movies.get(movie.name)
            if before not in (None, _identity(movie)) and not overwrite:
                raise ConfigError(f"{self._folder / movie.name} holds the results of {before}: {_CURE}")
            self._movies[movie.name] = _identity(movie)
        content = {"streamtrack": __version__, "settings": self._settings, "movies": self._movies}
        with foreign_errors(ConfigError, f"cannot write into {self._folder}"):
            write_durably(self._folder / MANIFEST, json.dumps(content, indent=1).encode())

    def knows(self, movie: BatchMovie) -> bool:
        """Return whether a batch has begun to track this movie into its folder."""
        return self._movies.get(movie.name) == _identity(movie)

    def report_of(self, movie: BatchMovie) -> dict[str, Any] | None:
        """Return the report of a movie that a batch has tracked to its end."""
        with suppress(ConfigError):
            report = read_report(self._folder / movie.name)
            return report if self.knows(movie) and report.get("status") in DONE else None
        return None

    def _read(self) -> dict[str, Any]:
        path = self._folder / MANIFEST
        if not path.exists():
            return {}
        with foreign_errors(ConfigError, f"{path} cannot be read; was it written by a batch?"):
            known = json.loads(path.read_bytes())
            if not ("streamtrack" in known and isinstance(known["movies"], dict)):
                raise ConfigError(f"{path} was not written by streamtrack; choose another folder")
            return dict(known)


_CURE = "choose another --out, or pass --overwrite"


def _identity(movie: BatchMovie) -> dict[str, Any]:
    return dict(plain({key: value for key, value in movie.source.items() if value is not None}))
