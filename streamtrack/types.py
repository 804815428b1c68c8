"""What travels through the loop, in the order in which it is made: Frame, Detections, TrackUpdate, FrameResult.

Coordinates are pixels, ``y`` before ``x``; (0, 0) is the centre of the first pixel. All stamps are monotonic ns
(:mod:`streamtrack.clock`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MIN_FRAME_PX = 32
"""Least height and width of a frame: smaller ones hold too little background to normalise."""

NameKind = Literal["devices", "properties", "groups", "presets", "shutters"]
"""What a microscope has names for."""

Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

Values = Mapping[str, float]
"""Values of a whole frame, by column; what was not measured is NaN or left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """What is measured of each detection, or of each frame: a column of the tables, and what rules can ask about.

    Attributes
    ----------
    name
        As in the tables: a Python identifier, in a run only once.
    unit
        ``px``, ``counts``, ...; empty for a pure number.
    classes
        Names of the classes where the column holds one: the value is the number of a class, from 0.
    """

    name: str
    unit: str = ""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """Which of an acquisition's movies a frame is of: that of one position, channel and z plane.

    Attributes
    ----------
    position, channel, z
        Indices; where several cameras look at once, each camera of a channel is a channel. ``z`` is None in a
        projection.
    position_name, channel_name
        What they are called, as far as that is known; the indices tell streams apart.
    origin_um, z_um
        As in `SourceInfo`.
    """

    position: int = 0
    channel: int = 0
    z: int | None = 0
    position_name: str = field(default="", compare=False)
    channel_name: str = field(default="", compare=False)
    origin_um: tuple[float, float] | None = field(default=None, compare=False)
    z_um: float | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """Return it in words."""
        named = ((self.position, self.position_name, "position"), (self.channel, self.channel_name, "channel"))
        parts = [f"{axis} {index}" + (f" ({name})" if name else "") for index, name, axis in named]
        return ", ".join([*parts, "z max" if self.z is None else f"z {self.z}"])


DENOISED = "denoised"
"""Kind of image: the frame without its noise, in counts."""

ONE_STREAM = Stream()
"""That of a movie that is one stream; told from others by identity."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image as it came from the source.

    Attributes
    ----------
    index
        Place in the movie or acquisition, of several streams in its own, from 0. A jump means that frames were lost in
        between.
    pixels
        Shape (H, W), C-contiguous, uint8, uint16 or float32. Nobody writes into it after it was handed over.
    grabbed_ns
        When the source had the pixels in hand.
    time_s
        When the frame was exposed, in seconds of the clock that ``SourceInfo.clock`` names.
    values
        What the microscope says of this frame, by the names of ``SourceInfo.frame_columns``.
    stream
        Which movie it is of, where ``SourceInfo.streams`` says that there are several.
    written_ns
        When it was written, of a movie that is followed while another process writes it; otherwise None.
    """

    index: int
    pixels: Pixels
    grabbed_ns: int
    time_s: float
    values: Values = field(default_factory=dict)
    stream: Stream = ONE_STREAM
    written_ns: int | None = None


@dataclass(frozen=True, slots=True)
class LostFrame:
    """A frame that should have come and did not.

    Attributes
    ----------
    index
        Its place in the movie or acquisition.
    cause
        One line, for example ``"unreadable chunk: ..."`` or ``"ingest queue full"``.
    stream
        As in `Frame`.
    """

    index: int
    cause: str
    stream: Stream = ONE_STREAM


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame.

    Attributes
    ----------
    name
        What the user would call it: a path, ``sim:vesicle``, a camera's label.
    shape
        (H, W) in pixels.
    dtype
        ``uint8``, ``uint16`` or ``float32``.
    n_frames
        Length, or None while an acquisition is open-ended.
    live
        True when frames come at the source's own pace and wait for nobody.
    pixel_size_um, frame_interval_s
        None where the source does not say.
    origin_um, z_um
        Where the centre of the first pixel is, y and x, and the height of the plane, um, as the metadata say it: an
        image's translation, a stage's position. None where they do not, and in a source of several streams where theirs
        differ: `Stream` has them.
    clock
        Name of the clock behind ``Frame.time_s``: ``"nominal"`` (index x interval, 1 s where the interval is
        unknown), ``"camera"`` or ``"host"``.
    details
        Whatever else helps to repeat the run (axes, level, seed, ...); goes into the report as it is.
    columns
        What is measured of each detection besides ``y, x, score, mass, sigma``. A source leaves this empty: the run
        adds what its engine and measures say, before triggers are prepared and sinks are opened.
    frame_columns
        What is said of each frame: those of the source (``Frame.values``); the run adds its engine's.
    image
        What ``FrameResult.denoised`` shows: ``"denoised"``, or another kind that the run's engine makes.
    streams
        The streams of a source that has several, empty where they are not known before they come; None for one.
    follow_s
        Of a movie that another process still writes, how long nothing new may come before it is over. Its frames wait
        on the disk, so that it is not live.
    """

    name: str
    shape: tuple[int, int]
    dtype: str
    n_frames: int | None = None
    live: bool = False
    pixel_size_um: float | None = None
    frame_interval_s: float | None = None
    origin_um: tuple[float, float] | None = None
    z_um: float | None = None
    clock: str = "nominal"
    details: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    frame_columns: tuple[Column, ...] = ()
    image: str = DENOISED
    streams: tuple[Stream, ...] | None = None
    follow_s: float | None = None

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> "SourceInfo":
        """Return what was written down as JSON; raises KeyError or TypeError where it is something else."""
        columns = {name: tuple(map(_column, known.get(name, ()))) for name in ("columns", "frame_columns")}
        streams = known.get("streams")
        several = None if streams is None else tuple(Stream(**{**each, **_origin(each)}) for each in streams)
        return cls(**{**known, **_origin(known), "shape": tuple(known["shape"]), **columns, "streams": several})

    def __post_init__(self) -> None:
        """Escape what no file could hold: names of files and devices may be in any encoding."""
        object.__setattr__(self, "name", self.name.encode("utf-8", "backslashreplace").decode())

    @property
    def time_unit(self) -> str:
        """``s``, or ``frame`` where nobody knows how long a frame takes: times and speeds are in these."""
        return "frame" if self.clock == "nominal" and self.frame_interval_s is None else "s"

    @property
    def level(self) -> int:
        """The level of the pyramid that the frames are of, 0 the finest."""
        return int(self.details.get("level", 0))


def _origin(known: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {"origin_um": tuple(known["origin_um"])} if known.get("origin_um") else {}


def _column(known: Mapping[str, Any]) -> Column:
    return Column(**{**known, "classes": tuple(known.get("classes", ()))})


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The particles found in one frame, best score first; N may be 0.

    Attributes
    ----------
    y, x
        Shape (N,), float32, px, sub-pixel.
    score
        Shape (N,), float32, 0 to 1: confidence that a particle is there.
    mass
        Shape (N,), float32: intensity of the spot above its local background, summed, in the camera's counts.
    sigma
        Shape (N,), float32, px, above 0: standard deviation of the position along each axis, by the engine's own
        estimate.
    extra
        What else was measured, by the names of ``Engine.columns``: shape (N,), float32 each; NaN where it was not.
    frame_values
        What the engine says of the frame as a whole, by the names of ``Engine.frame_columns``.
    """

    y: NDArray[np.float32]
    x: NDArray[np.float32]
    score: NDArray[np.float32]
    mass: NDArray[np.float32]
    sigma: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    frame_values: Values = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def empty(cls) -> "Detections":
        """Return detections of a frame without particles."""
        none = np.empty(0, np.float32)
        return cls(none, none, none, none, none)


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """Detections of earlier frames that belong to another track than was said before; R is usually 0.

    Attributes
    ----------
    frame_index
        Shape (R,), int64: their frames.
    detection
        Shape (R,), int64: their places among the detections of that frame.
    particle, existence
        Shape (R,), int64 and float32: as `TrackUpdate` gave them for that frame, corrected.
    """

    frame_index: NDArray[np.int64]
    detection: NDArray[np.int64]
    particle: NDArray[np.int64]
    existence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.particle)

    @classmethod
    def none(cls) -> "Revision":
        """Return a revision of nothing."""
        no_ids = np.empty(0, np.int64)
        return cls(no_ids, no_ids, no_ids, np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class TrackMotion:
    """How the tracks of a frame's detections move, as far as is known by then; N as in `TrackUpdate`.

    Attributes
    ----------
    age_frames
        Shape (N,), int64: frames since the track's first detection; 0 for a new one.
    displacement_px
        Shape (N,), float32: distance from the track's first detection.
    velocity_px_s
        Shape (N, 2), float32: y, x; expected over the ways of moving, of which only directed motion has a velocity.
    modes
        Shape (N, 3), float32: probabilities that the particle moves by diffusion, directed, or hardly at all; the
        columns are `MOTION_MODES`.
    diffusion_px2_s
        Shape (N,), float32: diffusion coefficient over the life of the track, localisation error taken off; NaN for a
        new one. Directed motion counts as diffusion too.
    """

    age_frames: NDArray[np.int64]
    displacement_px: NDArray[np.float32]
    velocity_px_s: NDArray[np.float32]
    modes: NDArray[np.float32]
    diffusion_px2_s: NDArray[np.float32]


MOTION_MODES = ("brownian", "directed", "tethered")


@dataclass(frozen=True, slots=True, eq=False)
class TrackUpdate:
    """What one frame did to the tracks.

    Attributes
    ----------
    particle
        Shape (N,), int64: the track of each detection, in the detections' order; -1 where it got none.
    existence
        Shape (N,), float32: probability that the track follows a real particle. From 0.95 on it is *confirmed*.
    started
        Shape (S,), int64: tracks that began with this frame.
    confirmed
        Shape (C,), int64: tracks that are confirmed for the first time.
    ended
        Shape (E,), int64: tracks that ended with this frame and will not come back.
    n_live
        Tracks still followed, those without a detection in this frame included.
    final_index
        Frames up to this index are settled: no later update will revise them. The frame's own index for a linker that
        never revises, less for one that decides late.
    revised
        Detections of earlier frames that changed tracks.
    motion
        How the tracks move; None from a linker that does not say.
    parent
        Shape (N,), int64: the track that the track of each detection came out of, -1 for none; None from a linker that
        knows of no divisions. One that divides ends, and both that it divides into are new.
    z_um
        Shape (N,), float32, um: where the track of each detection is along the optical axis, NaN for none; None where
        the linker does not use z.
    """

    particle: NDArray[np.int64]
    existence: NDArray[np.float32]
    started: NDArray[np.int64]
    confirmed: NDArray[np.int64]
    ended: NDArray[np.int64]
    n_live: int
    final_index: int
    revised: Revision = field(default_factory=Revision.none)
    motion: TrackMotion | None = None
    parent: NDArray[np.int64] | None = None
    z_um: NDArray[np.float32] | None = None


CONFIRMED = 0.95
"""Existence probability from which a track is confirmed: written to the track tables, seen by triggers."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveTracks:
    """The tracks that have a detection in this frame, as triggers see them; N may be 0.

    Attributes
    ----------
    particle
        Shape (N,), int64: ids, all >= 0.
    y, x
        Shape (N,), float32, px.
    existence
        Shape (N,), float32.
    appeared, ended
        Shapes (A,) and (E,), int64: tracks that came into view with this frame, and those that will not come back. Of
        confirmed tracks these are the ones confirmed for the first time, and the confirmed ones among the ended.
    motion
        How the N tracks move; None from a linker that does not say.
    values
        What was measured, shape (N,), float32 each: ``mass``, ``score``, ``sigma`` and the columns that
        ``SourceInfo.columns`` names; NaN where it was not measured.
    frame_values
        What was said of the frame as a whole, by the names of ``SourceInfo.frame_columns``.
    """

    particle: NDArray[np.int64]
    y: NDArray[np.float32]
    x: NDArray[np.float32]
    existence: NDArray[np.float32]
    appeared: NDArray[np.int64]
    ended: NDArray[np.int64]
    motion: TrackMotion | None = None
    values: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    frame_values: Values = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.particle)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a trigger saw in a frame.

    Attributes
    ----------
    particle
        The track that it is about, -1 where it is not about a single one.
    y, x
        Where, px; NaN where it has no place.
    values
        What was measured, by name with the unit: ``{"speed_px_s": 12.5}``.
    """

    particle: int = -1
    y: float = math.nan
    x: float = math.nan
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """An order to an actuator, or a mark for a sink, that a rule made of an event.

    Attributes
    ----------
    actuator
        Name of the actuator, or kind of the sink, in the run's configuration.
    action
        What to do, in the actuator's own terms.
    frame_index
        The frame whose tracks led to it.
    decided_ns, valid_until_ns
        A command not sent before ``valid_until_ns`` is stale: it is counted and never sent.
    rule
        Name of the rule that made it.
    event
        What the rule's trigger saw.
    grabbed_ns
        When the source had that frame in hand.
    stream
        That of the frame.
    """

    actuator: str
    action: Mapping[str, Any]
    frame_index: int
    decided_ns: int
    valid_until_ns: int
    rule: str = ""
    event: Event = field(default_factory=Event)
    grabbed_ns: int = 0
    stream: Stream = ONE_STREAM


@dataclass(frozen=True, slots=True)
class Stamps:
    """When each stage was done with a frame, in ns.

    The time at which a command was sent is kept with the command, by its actuator's worker.
    """

    grabbed: int
    dequeued: int
    detected: int
    linked: int
    measured: int
    decided: int


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """All that the loop knows of one frame; sinks read it, nobody changes it.

    Attributes
    ----------
    denoised
        Shape (H, W), float32, camera counts, or whatever else ``SourceInfo.image`` says that it shows; None unless a
        sink asked for it.
    masked_pixels
        Pixels that were replaced by the mean of the others before detection: NaN, infinite, or in a constant border.
    values
        What microscope and engine said of the frame as a whole, by the names of ``SourceInfo.frame_columns``.
    """

    frame: Frame
    detections: Detections
    tracks: TrackUpdate
    commands: tuple[Command, ...]
    stamps: Stamps
    denoised: NDArray[np.float32] | None = None
    masked_pixels: int = 0
    values: Values = field(default_factory=dict)
