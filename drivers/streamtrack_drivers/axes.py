"""Which part of a stored array is the movie: its axes, one position, one channel, one z plane, a range of frames.

Shared by all sources that read from disk. Axes are the letters P (position), T, C, Z, Y, X in the order in which the
array is stored. The messages of the errors raised here do not name the file: the sources put it in front.
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
EXAMPLES = {2: "YX", 3: "TYX", 4: "TCYX", 5: "TCZYX", 6: "PTCZYX"}
ALONE = "?"
"""Stands for an axis of length 1 of which nobody says what it is: there may be several."""

_NAMES = {
    # "i" and "q" are tifffile's letters for an axis of which the file says nothing: in a movie that is time.
    "T": ("t", "time", "times", "timepoint", "frame", "frames", "i", "q"),
    "C": ("c", "ch", "channel", "channels"),
    "Z": ("z", "slice", "plane"),
    "Y": ("y", "row", "rows"),
    "X": ("x", "col", "column", "columns"),
    # "r" is tifffile's letter for the positions of Micro-Manager.
    "P": ("p", "pos", "position", "r", "s", "scene", "m", "g", "fov", "well", "series"),
}
_LETTERS = {name: letter for letter, names in _NAMES.items() for name in names}
_NO_NAME = re.compile(r"(?:(?:dim|axis|d)_?\d+)?")
"""What libraries call axes of which they know nothing."""


def resolve_axes(override: str | None, names: Sequence[str] | None, shape: tuple[int, ...]) -> str:
    """Return the axes of an array as letters, in stored order; `ALONE` for those of length 1 that have no part in it.

    Parameters
    ----------
    override
        What the user says, for example ``"TCYX"``; goes before everything else. Axes of length 1 may be left out.
    names
        The axis names in the file's metadata, None where it has none; an empty one is unknown.
    shape
        Shape of the array. Without any names, 2-D is one frame (YX) and 3-D a movie (TYX).

    Raises
    ------
    SourceError
        The axes are ambiguous, or do not fit the shape.
    """
    if override is not None:
        return _as_said(override, shape)
    said = [("" if _NO_NAME.fullmatch(name.lower()) else name) for name in names or ()]
    if not any(said):
        return _by_length(shape)
    letters = _alone([_LETTERS.get(name.lower(), ALONE) for name in said], shape)
    if letters.count(ALONE) == 1 and "" in said and "T" not in letters and len(shape) == 3:
        letters = letters.replace(ALONE, "T")  # as without names
    if _fits(letters, shape):
        return letters
    listed = ", ".join(name or "(none)" for name in said)
    raise SourceError(f"axes named {listed} of shape {shape} are ambiguous: {_say_axes(shape)}")


def _as_said(override: str, shape: tuple[int, ...]) -> str:
    letters = override.upper()
    long = [size > 1 for size in shape]
    if len(letters) == sum(long) < len(shape):
        of_long = iter(letters)
        letters = "".join(next(of_long) if is_long else ALONE for is_long in long)
    if ALONE not in override and _fits(letters, shape):
        return letters
    choice = "give each axis one of P, T, C, Z, Y, X, with Y and X"
    raise SourceError(f"axes {override!r} do not fit the shape {shape}: {choice}{_example(shape)}")


def _by_length(shape: tuple[int, ...]) -> str:
    """Return the axes of an array of which only the shape is known."""
    if len(shape) in (2, 3):
        return EXAMPLES[len(shape)]
    raise SourceError(f"an array of shape {shape} without axis names is ambiguous: {_say_axes(shape)}")


def _alone(letters: list[str], shape: tuple[int, ...]) -> str:
    """Return the letters, with `ALONE` for what is of length 1 where another axis has its letter."""
    return "".join(
        ALONE if size == 1 and letters.count(letter) > 1 else letter
        for letter, size in zip(letters, shape, strict=False)
    )


def _say_axes(shape: tuple[int, ...]) -> str:
    if sum(size > 1 for size in shape) > max(EXAMPLES):
        return "save the part to track as an array of its own"
    return f"say what they are{_example(shape)}"


def _example(shape: tuple[int, ...]) -> str:
    n = len(shape) if len(shape) in EXAMPLES else sum(size > 1 for size in shape)
    return f", for example --axes {EXAMPLES[n]}" if n in EXAMPLES else ""


def _fits(axes: str, shape: tuple[int, ...]) -> bool:
    """Return whether these can be the axes; those of which nothing is known have to be of length 1."""
    known = axes.replace(ALONE, "")
    if len(axes) != len(shape) or any(size != 1 for axis, size in zip(axes, shape, strict=True) if axis == ALONE):
        return False
    return len(set(known)) == len(known) and {"Y", "X"} <= set(known) <= set("PTCZYX")


@dataclass(frozen=True, slots=True)
class MovieView:
    """The frames that were asked for, in an array of up to six dimensions, those of length 1 not counted.

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
    position
        Index along P.
    """

    axes: str
    shape: tuple[int, ...]
    channel: int
    z: int | Literal["max"]
    frames: range
    position: int = 0

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
        position: int | str | None = None,
        position_names: Sequence[str] = (),
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
            select_named("channel", channel, size.get("C", 1), channel_names, _perhaps_time(axes, "C")),
            _select_plane(z, size.get("Z", 1), axes),
            _select_frames(frames, size.get("T", 1)),
            select_named("position", position, size.get("P", 1), position_names),
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
        chosen = {"channel": self.channel, "z": self.z, "frames": frames}
        position = {"position": self.position} if "P" in self.axes else {}
        return {"axes": self.axes, "shape": list(self.shape), **position, **chosen}

    def choices(self, channel_names: Sequence[str], position_names: Sequence[str] = ()) -> dict[str, list[str]]:
        """Return what there is along position, channel and z: names, empty where there are none."""
        size = dict(zip(self.axes, self.shape, strict=True))
        names = [*channel_names, *[""] * size.get("C", 1)][: size.get("C", 1)]
        positions = list(position_names) or [""] * size.get("P", 1)
        return {"position": positions, "channel": names, "z": [""] * size.get("Z", 1)}

    def key(self, start: int, stop: int) -> tuple[int | slice, ...]:
        """Return the basic index that takes frames ``start`` to ``stop`` (exclusive) out of the array."""
        whole = slice(None)
        plane = whole if self.z == "max" else self.z
        chosen: dict[str, int | slice] = {"T": slice(start, stop), "C": self.channel, "Z": plane}
        chosen |= {"P": self.position, ALONE: 0}
        return tuple(chosen.get(axis, whole) for axis in self.axes)

    def images(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return what was read with ``key`` as images, shape (n, H, W); a view where nothing has to be computed."""
        left = "".join(axis for axis, index in zip(self.axes, self.key(0, 1), strict=True) if isinstance(index, slice))
        if "T" not in left:
            block, left = block[np.newaxis], "T" + left
        images = block.transpose([left.index(axis) for axis in "TZYX" if axis in left])
        return images.max(axis=1) if "Z" in left else images


def select_named(kind: str, chosen: int | str | None, count: int, names: Sequence[str] = (), hint: str = "") -> int:
    """Return which of the channels or positions is chosen, by index or name; raises SourceError that lists them."""
    labels = [f"{i} ({names[i]})" if i < len(names) and names[i] else str(i) for i in range(min(count, _MOST_NAMED))]
    choices = ", ".join(labels + ["..."] * (count > _MOST_NAMED))
    if chosen is None and count == 1:
        return 0
    if chosen is None:
        raise SourceError(f"the movie has {count} {kind}s: choose one with --{kind}, of {choices}{hint}")
    if isinstance(chosen, str) and chosen in names[:count]:
        return names.index(chosen)
    if str(chosen).isdecimal() and int(chosen) < count:
        return int(chosen)
    raise SourceError(f"there is no {kind} {chosen!r}: choose one with --{kind}, of {choices}")


def _perhaps_time(axes: str, axis: str) -> str:
    return "" if "T" in axes else f" (or --axes {axes.replace(axis, 'T').replace(ALONE, '')} if they are time points)"


def _select_plane(z: int | Literal["max"] | None, count: int, axes: str) -> int | Literal["max"]:
    if z == "max":
        return z
    if z is None and count == 1:
        return 0
    if z is None:
        time = _perhaps_time(axes, "Z")
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


def place_um(value: object, unit: object) -> float | None:
    """Return a place along an axis in um; None if the unit is unknown or the value is not finite."""
    return _convert(value, unit, _UM, least=-math.inf)


def duration_s(value: object, unit: object) -> float | None:
    """Return a duration in s, None if the unit is unknown or the value is not a positive number."""
    return _convert(value, unit, _S)


def moment_s(value: object, unit: object) -> float | None:
    """Return a time in s, which may be 0 or before that; None if the unit is unknown or the value is not finite."""
    return _convert(value, unit, _S, least=-math.inf)


def square_pixel_um(y_um: float | None, x_um: float | None) -> float | None:
    """Return the side of a pixel in um, None where it is unknown or where pixels are not square."""
    if y_um is None or x_um is None or not math.isclose(y_um, x_um, rel_tol=1e-3):
        return None
    return x_um


def _convert(value: object, unit: object, units: dict[str, float], least: float = 0.0) -> float | None:
    # ImageJ writes the micro sign as an escape; Unicode has two characters that look like it.
    name = str(unit).replace("\\u00B5", "u").replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    factor = units.get(name.strip().lower())
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number * factor if factor is not None and math.isfinite(number) and number > least else None


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Put the path in front of a SourceError, and turn anything else that is raised into one."""
    try:
        with foreign_errors(SourceError, "cannot be read"):
            yield
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error.__cause__
