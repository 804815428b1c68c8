"""An NDTiff data set that another process still writes: its images as its index comes to name them.

Files have their full length from the start, so that the index alone tells what is there. ndstorage writes it in pieces
of 8 kB, half a second late at 50 frames/s; Micro-Manager writes it image by image.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import SourceError
from streamtrack.types import SourceInfo
from streamtrack_drivers.axes import moment_s
from streamtrack_drivers.following import GRACE_S, NotYetError, WrittenImage, check_there, on_the_loops_clock
from streamtrack_drivers.paths import NDTIFF_INDEX, NDTIFF_NAMED, TIFF_ENDINGS, folders
from streamtrack_drivers.tiff_stack.ndtiff import Entry, Value, axes_values, chosen_values, entries_in

_AXES = {"C": "channel", "Z": "z", "P": "position"}
_MOST_METADATA = 2**22


def begun(place: Path, *, all_axes: bool) -> Path:
    """Return a data set's folder, once it names an image; ``all_axes``: all those of a time point, if there are more.

    Raises NotYetError where it does not.
    """
    if not place.exists():
        raise NotYetError("no such file or folder: check the path")
    around = [place, *folders(place)] if place.is_dir() else [place.parent]
    folder = next((each for each in around if (each / NDTIFF_INDEX).is_file()), around[0])
    with suppress(OSError):
        entries, *_ = entries_in((folder / NDTIFF_INDEX).read_bytes())
        times = {axes_values(entry)["T"] for entry in entries}
        if len(times) > int(all_axes) or (entries and times == {None}):
            return folder
    raise NotYetError(f"has no {NDTIFF_INDEX} that names an image: of TIFF, NDTiff and single files can be followed")


def is_data_set(place: Path) -> bool:
    """Return whether a path is that of a data set, or of a file in it, and not of a TIFF file by itself."""
    if place.is_dir() or NDTIFF_NAMED in place.name or (place.parent / NDTIFF_INDEX).is_file():
        return True
    return not place.is_file() and place.suffix.lower() not in TIFF_ENDINGS


class GrowingNDTiff:
    """Frames of a data set that is written.

    Parameters
    ----------
    folder
        Of the index.
    chosen
        Index along C, Z and P of the images that are frames.
    said
        Those of C, Z and P that the user chose; a second one that comes along another axis is an error.
    info
        Shape and dtype of the frames.
    """

    def __init__(self, folder: Path, chosen: Mapping[str, int], said: set[str], info: SourceInfo) -> None:
        self._folder, self._said, self._info = folder, said, info
        self._at, self._rest, self._last = 0, b"", -1
        self._is_cut_off = False
        self._entries: dict[int, Entry] = {}
        self._dark_s: tuple[int, float] | None = None
        self._wanted: dict[str, Value | None] | None = None
        self._chosen = chosen

    def look(self, index: int, *, at_the_end: bool = False) -> WrittenImage | str | None:
        """Return a frame, why it cannot be read so far, or None where the index does not name it."""
        self._read_index()
        entry = self._entries.get(index)
        if entry is None:
            return None
        if entry.shape != self._info.shape or f"uint{entry.bits}" != self._info.dtype:
            return f"page of another kind: {entry.shape} px of {entry.bits} bits"
        path = self._folder / entry.file
        try:
            pixels, time_s = _read(path, entry)
            written_ns = on_the_loops_clock([os.stat(self._folder / NDTIFF_INDEX).st_mtime_ns])
        except OSError as error:
            return f"unreadable file {entry.file}: {error.strerror or error}"
        if pixels is None or not (pixels.any() or at_the_end or self._is_dark(index)):
            return None
        del self._entries[index]
        return WrittenImage(pixels, written_ns, time_s)

    def latest(self) -> int:
        """Return the index of the last frame that the index names, -1 for none."""
        self._read_index()
        return self._last

    def promised(self) -> int:
        """Return how many frames the index names, one more where it breaks off; raises SourceError where it is gone."""
        check_there([self._folder / NDTIFF_INDEX])
        return self._last + 1 + self._is_cut_off

    def _is_dark(self, index: int) -> bool:
        """Return whether a frame of zeros has been there for long enough to be one: it may not be written yet."""
        if self._dark_s is None or self._dark_s[0] != index:
            self._dark_s = index, time.monotonic()
        return time.monotonic() - self._dark_s[1] > GRACE_S

    def _read_index(self) -> None:
        path = self._folder / NDTIFF_INDEX
        with suppress(OSError):
            if os.stat(path).st_size <= self._at + len(self._rest):
                return
            with path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
            entries, end, is_whole = entries_in(data)
            self._is_cut_off = not is_whole
            self._at, self._rest = self._at + end, data[end:]
            if entries and self._wanted is None:
                self._wanted = chosen_values(entries, self._chosen)
            for entry in entries:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        values = axes_values(entry)
        time = values.pop("T") or 0
        other = [axis for axis, value in values.items() if value != (self._wanted or {})[axis]]
        for axis in other:
            if axis not in self._said:
                name = _AXES[axis]
                raise SourceError(f"has another {name}, {values[axis]}: choose one with --{name}")
        if not other and isinstance(time, int):
            self._entries[time] = entry
            self._last = max(self._last, time)


def _read(path: Path, entry: Entry) -> tuple[NDArray[Any] | None, float | None]:
    """Return the pixels, None where the file is too short so far, and when they were exposed, s."""
    height, width = entry.shape or (0, 0)
    n_bytes = height * width * entry.bits // 8
    offset, length = entry.metadata
    with path.open("rb") as file:
        file.seek(entry.offset)
        data = file.read(n_bytes)
        file.seek(offset)
        said = file.read(min(length, _MOST_METADATA))
    if len(data) < n_bytes:
        return None, None
    pixels = np.frombuffer(data, f"<u{entry.bits // 8}").astype(f"u{entry.bits // 8}").reshape(height, width)
    with suppress(ValueError, RecursionError):
        known = json.loads(said)
        return pixels, moment_s(known.get("ElapsedTime-ms"), "ms") if isinstance(known, dict) else None
    return pixels, None
