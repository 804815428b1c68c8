"""Which images of an acquisition make one movie: those of one stream, that is of one position, channel, plane, camera.

Axes have the letters of useq: ``t``, ``p`` (position), ``g`` (grid tile), ``c`` (channel), ``z``; two cameras are told
apart by ``camera``.
"""

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from streamtrack import types
from streamtrack.config import did_you_mean
from streamtrack.errors import ConfigError, SourceError, described

Label = int | str
Labels = tuple[Label, ...]
"""What tells a place on an axis from others, index or name, then what it may be called else."""
Stream = Mapping[str, Labels]
"""The place on each axis but time."""
Axes = Mapping[str, list[Labels]]
Only = Mapping[str, int | str] | Callable[[Any], bool] | Literal["all"] | None

LETTERS = {"time": "t", "position": "p", "channel": "c", "cam": "camera"}
"""What pycromanager and pymmcore-plus call some axes."""
MOST_LISTED = 8
NO_PRESET = (None, "", "Default")
"""What the tag says when the devices are as in no preset."""


class Where(NamedTuple):
    """Where an image belongs, and when it was taken, as far as the acquisition says.

    Attributes
    ----------
    stream
        The place on each axis but time.
    t
        The time point.
    follows
        Whether the image is of an event that has no place of its own, as one that a trigger added: what ``stream`` does
        not name is then as it was.
    taken_s
        Since the acquisition began.
    """

    stream: Stream = MappingProxyType({})
    t: int | None = None
    follows: bool = False
    taken_s: float | None = None


NOWHERE = Where()


class OneStream:
    """Lets the images of one stream pass, and refuses a second one.

    Parameters
    ----------
    only
        The choice: of each axis the index or name, ``{"c": "GFP", "z": 0, "p": 0}``, or a function that says of what an
        image comes with whether it belongs to the movie. By default all do.

    Raises
    ------
    ConfigError
        ``only`` is no choice.
    """

    def __init__(self, only: Only = None) -> None:
        self._asks = only if callable(only) else None
        self._chosen = {} if only is None or callable(only) else _checked(only)
        self._only = only
        self._last: Stream = {}
        self._first: Stream | None = None
        self._seen: dict[str, list[Labels]] = {}
        self.left_out = 0
        """Images of other streams."""

    @property
    def stream(self) -> dict[str, Label]:
        """What tells the stream apart, as far as it is known."""
        return {axis: labels[0] for axis, labels in (self._first or {}).items()}

    def plan(self, axes: Axes, streams: Iterable[Stream], *, complete: bool) -> None:
        """Look at an acquisition before its first image; raises SourceError where it mixes streams or lacks the chosen.

        Parameters
        ----------
        axes
            What there is along each axis.
        streams
            The streams of its images, in order, as far as they are looked at.
        complete
            Whether ``axes`` are all.
        """
        if complete:
            self._check_choice(axes)
        if self._asks is not None:
            return
        first: Stream | None = None
        for stream in streams:
            if self._matches(stream):
                first = first or stream
                if self._differ(first, stream):
                    varied = {axis: labels for axis, labels in axes.items() if len(labels) > 1}
                    raise SourceError(self._mixed({**_both(first, stream), **varied}))

    def takes(self, where: Where, asked: Any) -> bool:
        """Return whether an image is one of the movie's; a function is asked about ``asked``.

        Raises
        ------
        SourceError
            It belongs to another stream than those before, though nothing was chosen that leaves it out; or the
            function fails.
        """
        self._last = stream = {**self._last, **where.stream} if where.follows else where.stream
        if not self._wants(stream, asked):
            self.left_out += 1
            self._note(stream)
            return False
        if self._first is not None and self._differ(self._first, stream):
            raise SourceError(self._mixed(_both(self._first, stream)))
        self._first = {**stream, **(self._first or {})}
        return True

    def of(self, where: Where) -> "types.Stream":
        """Return the stream of a frame: there is one only."""
        return types.ONE_STREAM

    def end(self) -> None:
        """Raise SourceError if none of the images was one of the movie's."""
        if self._first is not None or not self.left_out:
            return
        if self._asks is None:
            self._check_choice(self._seen)
        raise SourceError(f"only = {self._only!r} chose none of {self.left_out} images: look what it asks for")

    def _wants(self, stream: Stream, asked: Any) -> bool:
        if self._asks is None:
            return self._matches(stream)
        try:
            return bool(self._asks(asked))
        except Exception as error:  # the user's function may raise anything
            raise SourceError(f"only failed, {described(error)}") from error

    def _matches(self, stream: Stream) -> bool:
        return all(wanted in stream.get(axis, (0,)) for axis, wanted in self._chosen.items())

    def _differ(self, one: Stream, other: Stream) -> bool:
        axes = one.keys() & other.keys() - self._chosen.keys()
        return any(one[axis][0] != other[axis][0] for axis in axes)

    def _note(self, stream: Stream) -> None:
        for axis, labels in stream.items():
            seen = self._seen.setdefault(axis, [])
            if len(seen) < 1000 and labels not in seen:
                seen.append(labels)

    def _check_choice(self, axes: Axes) -> None:
        for axis, wanted in self._chosen.items():
            there = axes.get(axis, [(0,)])
            if any(wanted in labels for labels in there):
                continue
            if axis not in axes:
                raise SourceError(f"only: the acquisition has no axis {axis!r}; it has {', '.join(axes) or 'none'}")
            names = [str(label) for labels in there for label in labels]
            known = f"(it has {axis}: {_listing(there)})"
            raise SourceError(
                f"only: no {axis} = {wanted!r} in the acquisition {known}{did_you_mean(str(wanted), names)}"
            )

    def _mixed(self, axes: Axes) -> str:
        several = {axis: labels for axis, labels in axes.items() if len(labels) > 1 and axis not in self._chosen}
        what = "; ".join(f"{axis}: {_listing(labels)}" for axis, labels in several.items())
        # All axes of the first image's stream: others may prove to have several as well.
        known = {axis: label for axis, label in self.stream.items() if axis != "camera"}
        choice = {**known, **self._chosen, **{axis: labels[0][0] for axis, labels in several.items()}}
        lets = "only lets several streams through" if self._only else "the acquisition has several streams"
        cure = f"choose one, for example only={choice}, or track each by itself, only='all'"
        return f"{lets} ({what}) and would be tracked as one movie: {cure}"


class AllStreams:
    """Lets all images pass, and says of which stream each is: indices are in the order in which they come."""

    left_out = 0

    def __init__(self) -> None:
        self._last: Stream = {}
        self._places: dict[str, dict[str, int]] = {axis: {} for axis in ("position", "channel", "z")}

    @property
    def stream(self) -> dict[str, Label]:
        """Nothing: there are several."""
        return {}

    def plan(self, axes: Axes, streams: Iterable[Stream], *, complete: bool) -> None:
        """Do nothing: whatever comes is tracked."""

    def takes(self, where: Where, asked: Any) -> bool:
        """Return True; where an image says no place it is of the last one."""
        self._last = {**self._last, **where.stream} if where.follows else where.stream
        return True

    def of(self, where: Where) -> types.Stream:
        """Return the stream of the image that was taken last; a camera of a channel is a channel."""
        last = self._last
        channel, position = ["c", "camera"], sorted(last.keys() - {"c", "camera", "z"})
        return types.Stream(
            self._index("position", last, position),
            self._index("channel", last, channel),
            self._index("z", last, ["z"]),
            _named(last, position),
            _named(last, channel),
        )

    def end(self) -> None:
        """Do nothing."""

    def _index(self, axis: str, stream: Stream, letters: Iterable[str]) -> int:
        known = self._places[axis]
        return known.setdefault(str([stream.get(letter, (0,))[0] for letter in letters]), len(known))


def _named(stream: Stream, axes: Iterable[str]) -> str:
    """Return the names along some axes."""
    labels = [label for axis in axes for label in stream.get(axis, ()) if isinstance(label, str)]
    return " ".join(labels)


def camera(index: int, name: str | None) -> Labels:
    """Return the labels of a camera: its index among bundled ones, and its name."""
    if not name:
        return (index,)
    return (index, name) if index else (name, index)


def where_by_tags(tags: Any) -> Where:
    """Return where an image belongs by its tags, those of pycromanager or of Micro-Manager's own images."""
    if not isinstance(tags, Mapping):
        return Where()
    given = tags.get("Axes")
    axes = _letters(given) if isinstance(given, Mapping) else {}
    follows = axes.pop("added", None) is not None
    t = axes.pop("t", None)
    stream: dict[str, Labels] = {axis: (at,) for axis, at in axes.items()}
    if not axes:
        legacy = {"p": tags.get("PositionIndex"), "z": tags.get("SliceIndex")}
        stream |= {axis: (at,) for axis, at in legacy.items() if at is not None}
    if "c" not in stream and tags.get("Channel") not in NO_PRESET:
        stream["c"] = (tags["Channel"],)
    if tags.get("Camera"):
        stream["camera"] = camera(_camera_index(tags), tags["Camera"])
    return Where(stream, t if isinstance(t, int) else None, follows)


def _camera_index(tags: Mapping[str, Any]) -> int:
    """Return which of bundled cameras: MultiCamera puts its own label before the tag's name."""
    for name, value in tags.items():
        if name.endswith("CameraChannelIndex") and str(value).isdecimal():
            return int(value)
    return 0


def _checked(only: Mapping[str, int | str] | str) -> dict[str, int | str]:
    example = "only={'c': 'GFP', 'z': 0, 'p': 0}"
    if not isinstance(only, Mapping) or not all(isinstance(at, Integral | str) for at in only.values()):
        raise ConfigError(f"only = {only!r} is no choice: give an index or a name for each axis, {example}")
    chosen = _letters(only)
    if "t" in chosen:
        raise ConfigError(f"only = {dict(only)} chooses a time, but a movie is all times of a stream: as in {example}")
    return chosen


def _letters(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {LETTERS.get(axis, axis): at for axis, at in axes.items()}


def _both(one: Stream, other: Stream) -> dict[str, list[Labels]]:
    shared = [axis for axis in one if axis in other]
    return {axis: [one[axis]] if one[axis][0] == other[axis][0] else [one[axis], other[axis]] for axis in shared}


def _listing(labels: list[Labels]) -> str:
    """Return the labels in one line; where there are an index and a name, both."""
    shown = [str(each[0]) + (f" ({each[1]})" if len(each) > 1 and isinstance(each[0], int) else "") for each in labels]
    return ", ".join(shown[:MOST_LISTED]) + (
        f" and {len(shown) - MOST_LISTED} more" if len(shown) > MOST_LISTED else ""
    )
