"""Which part of a stored array is the movie: its axes, one channel, one z plane, a range of frames.

Shared by all sources that read from disk. Axes are the letters T, C, Z, Y, X in the order in which the array is
stored. The messages of the errors raised here do not name the file: the sources put it in front.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamtrack.errors import SourceError, foreign_errors
from streamtrack.types import MIN_FRAME_PX

MAX_FRAMES = 100_000_000
"""A day at a kilohertz. What claims more would be days of lost frames."""
MAX_PIXELS = 2**28
"""Of a frame; no network takes more."""

_MOST_NAMED = 50
EXAMPLES = {2: "YX", 3: "TYX", 4: "TCYX", 5: "TCZYX"}

# "i" and "q" are tifffile's letters for an axis of which the file says nothing: in a movie that is time.
_LETTERS = {"t": "T", "time": "T", "frame": "T", "i": "T", "q": "T"} | {"c": "C", "channel": "C"}
_LETTERS |= {"z": "Z", "y": "Y", "x": "X"}
# "r" is tifffile's letter for the positions of Micro-Manager.
_PLACES = frozenset(("p", "pos", "position", "r", "s", "scene", "m", "g", "fov", "well", "series"))


def resolve_axes(override: str | None, names: Sequence[str] | None, shape: tuple[int, ...]) -> str:
    """Return the axes of an array as letters, in stored order.

    Parameters
    ----------
    override
        What the user says, for example ``"TCYX"``; goes before everything else.
    names
        The axis names in the file's metadata, None where it has none.
    shape
        Shape of the array. Without any names, 2-D is one frame (YX) and 3-D a movie (TYX).

    Raises
    ------
    SourceError
        The axes are ambiguous, or do not fit the shape.
    """
    hint = f"for example --axes {EXAMPLES.get(len(shape), 'TCZYX')}"
    if override is not None:
        if _fits(override.upper(), shape):
            return override.upper()
        raise SourceError(
            f"axes {override!r} do not fit the shape {shape}: give each axis one of T, C, Z, Y, X, with Y and X, {hint}"
        )
    if names is None and len(shape) in (2, 3):
        return EXAMPLES[len(shape)]
    if names is None:
        raise SourceError(f"an array of shape {shape} without axis names is ambiguous: say what its axes are, {hint}")
    letters = "".join(_LETTERS.get(name.lower(), "?") for name in names)
    if _fits(letters, shape):
        return letters
    if cure := _choose_a_place(names, letters, shape):
        raise SourceError(f"axes named {', '.join(names)} of shape {shape} have one of positions: {cure}")
    raise SourceError(f"axes named {', '.join(names)} of shape {shape} are ambiguous: say what they are, {hint}")


def _choose_a_place(names: Sequence[str], letters: str, shape: tuple[int, ...]) -> str | None:
    """Return how to choose one position where one axis is of these: it goes by a letter that is free."""
    free = next((letter for letter in "ZC" if letter not in letters), "?")
    axes = letters.replace("?", free)
    if letters.count("?") != 1 or not _fits(axes, shape) or names[letters.index("?")].lower() not in _PLACES:
        return None
    option = "--z" if free == "Z" else "--channel"
    return f"choose one, with --axes {axes} {option} 0 to {shape[letters.index('?')] - 1}"


def _fits(axes: str, shape: tuple[int, ...]) -> bool:
    letters = set(axes)
    return len(axes) == len(letters) == len(shape) and {"Y", "X"} <= letters <= set("TCZYX")


@dataclass(frozen=True, slots=True)
class MovieView:
    """The frames that were asked for, in an array of up to five dimensions.

    Attributes
    ----------
    axes, shape
        Of the whole array, in stored order.
    channel
        Index of the channel.
    z
        Index of the z plane, or ``"max"`` for the maximum over z.
    frames
        Indices along T; they stay the frames' numbers.
    """

    axes: str
    shape: tuple[int, ...]
    channel: int
    z: int | Literal["max"]
    frames: range

    @classmethod
    def select(
        cls,
        axes: str,
        shape: tuple[int, ...],
        *,
        channel: int | str | None,
        z: int | Literal["max"] | None,
        frames: str | None,
        channel_names: Sequence[str] = (),
    ) -> "MovieView":
        """Check the user's choices against what is there; raises SourceError."""
        size = dict(zip(axes, shape, strict=True))
        if 0 in shape:
            raise SourceError(f"the image is empty (axes {axes}, shape {shape}): was it ever written?")
        if min(size["Y"], size["X"]) < MIN_FRAME_PX:
            raise SourceError(
                f"frames of {size['Y']} x {size['X']} px are too small: at least {MIN_FRAME_PX} x {MIN_FRAME_PX} px"
                f" are needed (axes {axes}; if they are read wrongly, pass --axes)"
            )
        if size["Y"] * size["X"] > MAX_PIXELS:
            raise SourceError(f"frames of {size['Y']} x {size['X']} px are too large: cut out the part to track")
        return cls(
            axes,
            shape,
            _select_channel(channel, size.get("C", 1), channel_names),
            _select_plane(z, size.get("Z", 1), axes),
            _select_frames(frames, size.get("T", 1)),
        )

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    @property
    def pixels_per_frame(self) -> int:
        """How many pixels have to be read for one frame."""
        planes = self.shape[self.axes.index("Z")] if self.z == "max" and "Z" in self.axes else 1
        return math.prod(self.frame_shape) * planes

    def details(self) -> dict[str, Any]:
        """Return what was selected, for the report."""
        frames = [self.frames.start, self.frames.stop]
        return {"axes": self.axes, "shape": list(self.shape), "channel": self.channel, "z": self.z, "frames": frames}

    def key(self, start: int, stop: int) -> tuple[int | slice, ...]:
        """Return the basic index that takes frames ``start`` to ``stop`` (exclusive) out of the array."""
        whole = slice(None)
        plane = whole if self.z == "max" else self.z
        chosen: dict[str, int | slice] = {"T": slice(start, stop), "C": self.channel, "Z": plane}
        return tuple(chosen.get(axis, whole) for axis in self.axes)

    def images(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return what was read with ``key`` as images, shape (n, H, W); a view where nothing has to be computed."""
        left = "".join(axis for axis, index in zip(self.axes, self.key(0, 1), strict=True) if isinstance(index, slice))
        if "T" not in left:
            block, left = block[np.newaxis], "T" + left
        images = block.transpose([left.index(axis) for axis in "TZYX" if axis in left])
        return images.max(axis=1) if "Z" in left else images


def _select_channel(channel: int | str | None, count: int, names: Sequence[str]) -> int:
    labels = [f"{i} ({names[i]})" if i < len(names) and names[i] else str(i) for i in range(min(count, _MOST_NAMED))]
    choices = ", ".join(labels + ["..."] * (count > _MOST_NAMED))
    if channel is None and count == 1:
        return 0
    if channel is None:
        raise SourceError(f"the movie has {count} channels: choose one with --channel, of {choices}")
    if isinstance(channel, str) and channel in names[:count]:
        return names.index(channel)
    if str(channel).isdecimal() and int(channel) < count:
        return int(channel)
    raise SourceError(f"there is no channel {channel!r}: choose one with --channel, of {choices}")


def _select_plane(z: int | Literal["max"] | None, count: int, axes: str) -> int | Literal["max"]:
    if z == "max":
        return z
    if z is None and count == 1:
        return 0
    if z is None:
        time = "" if "T" in axes else f" (or --axes {axes.replace('Z', 'T')} if they are time points)"
        raise SourceError(f"the movie has {count} z planes: choose one with --z 0 to {count - 1}, or --z max{time}")
    if 0 <= z < count:
        return z
    raise SourceError(f"there is no z plane {z}: choose one with --z 0 to {count - 1}, or --z max")


def _select_frames(frames: str | None, count: int) -> range:
    """Return the half-open, python-like range ``A:B`` of ``count`` frames."""
    match = re.fullmatch(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*", ":" if frames is None else frames)
    if match is None:
        raise SourceError(f"frames {frames!r} is not a range: give --frames A:B, for example --frames 0:{count}")
    first, last = (int(end) if end else None for end in match.groups())
    selected = range(count)[first:last]
    if not selected:
        raise SourceError(f"frames {frames!r} selects none of the {count} frames: choose within --frames 0:{count}")
    if selected.stop - selected.start > MAX_FRAMES:
        raise SourceError(f"claims {count} frames: if it really has so many, choose --frames A:B, {MAX_FRAMES} at most")
    return selected


_UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "um": 1.0, "nm": 1e-3, "pm": 1e-6, "å": 1e-4, "in": 25400.0, "inch": 25400.0}
_UM |= {"meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3, "picometer": 1e-6}
_UM |= {"micron": 1.0, "microns": 1.0, "angstrom": 1e-4}
_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
_S |= {"second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9, "minute": 60.0, "hour": 3600.0}
_S |= {"sec": 1.0, "day": 86400.0}


def length_um(value: object, unit: object) -> float | None:
    """Return a length in um, None if the unit is unknown or the value is not a positive number."""
    return _convert(value, unit, _UM)


def duration_s(value: object, unit: object) -> float | None:
    """Return a duration in s, None if the unit is unknown or the value is not a positive number."""
    return _convert(value, unit, _S)


def square_pixel_um(y_um: float | None, x_um: float | None) -> float | None:
    """Return the side of a pixel in um, None where it is unknown or where pixels are not square."""
    if y_um is None or x_um is None or not math.isclose(y_um, x_um, rel_tol=1e-3):
        return None
    return x_um


def _convert(value: object, unit: object, units: dict[str, float]) -> float | None:
    # ImageJ writes the micro sign as an escape; Unicode has two characters that look like it.
    name = str(unit).replace("\\u00B5", "u").replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    factor = units.get(name.strip().lower())
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number * factor if factor is not None and math.isfinite(number) and number > 0 else None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path in front of a SourceError, and turn anything else that is raised into one."""
    try:
        with foreign_errors(SourceError, "cannot be read"):
            yield
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error.__cause__
