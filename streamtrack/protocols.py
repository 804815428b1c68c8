"""The whole plug-in surface: source -> engine -> linker -> measures -> triggers -> sinks and actuators.

A plug-in is a class whose keyword arguments are its settings: annotate them, give defaults, and they become the keys
of its table in the run's TOML file. A range stands in the annotation, ``Annotated[int, Field(ge=0)]`` of pydantic; with
`streamtrack.settings.checks_settings` on the class it holds where a program builds the plug-in, too. Register the class
under the entry-point group named in its protocol.
``streamtrack.testing`` has a conformance suite for each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import (
    Column,
    Command,
    Detections,
    Event,
    Frame,
    FrameResult,
    LiveTracks,
    LostFrame,
    NameKind,
    Pixels,
    SourceInfo,
    TrackUpdate,
    Values,
)

if TYPE_CHECKING:
    from streamtrack.control.control import Control


class FrameSource(Protocol):
    """Where frames come from. Group ``streamtrack.sources``.

    One that reads files, folders or URLs may say which: by a function ``opens(path: str) -> bool``, a static method of
    the source for example, under the source's own name in the group ``streamtrack.opens``. It is asked whenever a user
    names a movie by its path, which then becomes the setting ``path``: ``streamtrack track x.abc``,
    ``streamtrack.track("x.abc")``. The first that opens it reads it; those of other packages are asked before those of
    streamtrack, otherwise it goes by name. It should need a glance only, and no heavy import.

    Of several positions, channels or z planes the settings ``position``, ``channel`` and ``z`` choose one, by index or
    name. One that says by ``choices() -> Mapping[str, Sequence[str]]`` what there is along each of these axes, the
    names in order, empty where there is none, can be asked for ``"all"``: the run builds one source for each, and
    tracks each as a stream of its own. One that gives several streams by itself says so in ``SourceInfo.streams``, and
    of each frame which it is (``Frame.stream``); indices count within the stream, and rise.
    """

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame; opening errors are raised in ``__init__``, as SourceError."""
        ...

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; one that cannot be had is yielded as LostFrame with its cause."""
        ...

    def close(self) -> None:
        """Release files and devices; a running ``frames()`` ends soon after. May be called twice."""
        ...


class Engine(Protocol):
    """Finds the particles of frame after frame. Group ``streamtrack.engines``.

    One that measures more than position, score, mass and sigma says so by ``columns: tuple[Column, ...]``, of each
    detection (``Detections.extra``), and ``frame_columns``, of the frame as a whole (``Detections.frame_values``). Both
    may be missing; they are known once it is built, and each frame has exactly these. One whose image is another than
    the frame denoised says so by ``image: str``, in one word.

    One that sees earlier frames as well says how many by ``frames_before: int``; without it that is 0. Of several
    streams each needs a memory of its own: ``for_another_stream() -> Engine``, called once it is prepared, returns one
    that shares the weights; without it the run loads another engine.
    """

    @property
    def info(self) -> Mapping[str, Any]:
        """Back end, weights and versions, for the report."""
        ...

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Allocate, compile and warm up for frames of this shape and dtype, and `reset`; raises EngineError."""
        ...

    def reset(self) -> None:
        """Forget the frames seen so far: the next one does not follow them. Single-frame engines do nothing."""
        ...

    def detect(self, pixels: Pixels, *, denoise: bool) -> tuple[Detections, NDArray[np.float32] | None]:
        """Find particles in one frame, and denoise it (H, W) if asked to. The arrays are the caller's to keep.

        Frames come in order, none left out: where one is missing, `reset` is called first. A frame that is refused
        (EngineError) counts as not seen.
        """
        ...

    def close(self) -> None:
        """Release devices and memory. May be called twice."""
        ...


@runtime_checkable
class ByIndex(Protocol):
    """What a source may have besides: it gives any frame, in any order, as a viewer asks for them."""

    def indices(self) -> range:
        """Return which frames there are, by ``Frame.index``."""
        ...

    def frame_at(self, index: int) -> Frame | LostFrame:
        """Return one of them; a running ``frames()`` is not disturbed."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """What a source, an engine or a sink may have besides: what it says of the movie."""

    def remarks(self) -> Sequence[str]:
        """Return what a reader of the results has to know, a line each; for summary and report, after the run."""
        ...


@runtime_checkable
class HasThreshold(Protocol):
    """What an engine may have besides: a threshold that can be set while it runs."""

    @property
    def threshold(self) -> float:
        """Return the score from which something is a detection."""
        ...

    def set_threshold(self, value: float) -> None:
        """Set it for the frames from now on; called between two of them. Raises ConfigError on one that cannot be."""
        ...


class Linker(Protocol):
    """Extends tracks frame by frame. Group ``streamtrack.linkers``.

    One that knows of divisions (``TrackUpdate.parent``) or uses z (``TrackUpdate.z_um``) says so by ``columns:
    tuple[Column, ...]``: ``parent``, ``z_smoothed_um``.
    """

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings and versions, for the report."""
        ...

    def prepare(self, shape: tuple[int, int]) -> None:
        """Compile and warm up for frames of this shape, so that the first frame is not a slow one."""
        ...

    def update(self, detections: Detections, frame_index: int, time_s: float) -> TrackUpdate:
        """Take the detections of the next frame. Indices rise; a gap means frames without information.

        Detections that are not finite or lie more than a pixel outside the image get no track. Raises LinkerError on
        an index that does not rise.
        """
        ...


@runtime_checkable
class ToldShifts(Protocol):
    """What a linker may have besides: it is told how far the stage took the image."""

    def expect_shift(self, shift_px: tuple[float, float], possible_px: tuple[float, float] | None) -> None:
        """Take how far the image went since the frame before, y, x in px; called before the frame's `Linker.update`.

        ``shift_px`` is that of moves that were over when the frame was exposed; ``possible_px`` counts moves besides
        that the frame may show or not, None without any. What is ``possible`` of one frame is part of a later
        ``shift_px``, to be counted once.
        """
        ...


@runtime_checkable
class SeesDepth(Protocol):
    """What a linker may have besides: it uses z where the engine measures it.

    That is where the engine has the columns ``z_um`` and ``sigma_z_um``, its standard deviation; NaN where it was not
    measured.
    """

    def see_depth(self, pixel_size_um: float) -> None:
        """Use z, and know how large a pixel is; called before `Linker.prepare`."""
        ...


class Measure(Protocol):
    """Measures more of the particles that were found. Group ``streamtrack.measures``.

    What it measures becomes columns of the tables, and rules can ask about it.
    """

    most_per_frame: int | None
    """How many particles are measured in one frame, None for all: those of new tracks first, then in turn. What was not
    measured is NaN."""

    averages: bool
    """Whether the columns hold the mean over a track's frames so far, those left out included, and not this frame's."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it measures; known once it is built."""
        ...

    @property
    def info(self) -> Mapping[str, Any]:
        """Settings and versions, for the report."""
        ...

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Compile and warm up for frames of this shape and dtype; raises ConfigError where they do not fit."""
        ...

    def measure(self, pixels: Pixels, found: Detections, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return what is seen of some of a frame's particles, those in ``rows`` (R,): (R, K), float32, NaN for nothing.

        They may lie at the image's border, or a little outside. Called from the loop, in frames with particles only:
        must be quick. The array is the caller's to keep.
        """
        ...

    def values(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the columns, (N, C), of what was seen in one frame or on average, (N, K): mostly just that.

        Not the same where a mean of the columns says nothing: that of the numbers of classes, for one.
        """
        ...


class Trigger(Protocol):
    """Sees what happens to the tracks. Group ``streamtrack.triggers``.

    What follows from it is the rule's business: the ``[[triggers]]`` table of the run's file says which actuator does
    what, how often at most, and whether only confirmed tracks are shown to the trigger.
    """

    def prepare(self, source: SourceInfo) -> None:
        """Check the settings against image and columns, and forget all tracks; raises ConfigError.

        ``source.columns`` and ``source.frame_columns`` are all that the run measures, those of engine and measures
        included: what `check` will find in ``tracks.values`` and ``tracks.frame_values``.
        """
        ...

    def check(self, frame: Frame, tracks: LiveTracks) -> Sequence[Event]:
        """Return what happened in this frame, usually nothing. Called from the loop: must be quick."""
        ...


@runtime_checkable
class Receiving(Protocol):
    """What a trigger may have besides: other programs post events to it while it runs, by the run's view."""

    event: str
    """Name of the events that it takes."""

    def receive(self, particle: int | None, values: Values) -> bool:
        """Take an event, about a track or about none; return False where there is no room. Called from any thread."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return what became of the events, for the report."""
        ...


class Microscope(Protocol):
    """The hardware. Group ``streamtrack.microscopes``; a run has at most one.

    A plug-in with a setting named ``microscope`` gets the run's microscope: sources as it is, actuators behind the
    run's limits (`streamtrack.actuators.guard.Guard`). Calls come from several threads. Each returns in time or raises
    MicroscopeError; none waits for ever.
    """

    @property
    def info(self) -> Mapping[str, Any]:
        """Versions, devices and configuration, for the report."""
        ...

    def names(self, kind: NameKind, of: str = "") -> Sequence[str]:
        """Return the names of what there is.

        ``devices``, ``shutters`` and configuration ``groups`` are the microscope's; ``properties`` are those of one
        device that can be set, and ``presets`` those of one group.

        Raises MicroscopeError where ``of`` is unknown.
        """
        ...

    def property_value(self, device: str, name: str) -> str:
        """Return what a device property is set to."""
        ...

    def set_property(self, device: str, name: str, value: str) -> None:
        """Set a device property."""
        ...

    def preset(self, group: str) -> str:
        """Return the preset that the devices of a group are at, ``""`` if at none."""
        ...

    def set_preset(self, group: str, preset: str) -> None:
        """Apply a preset of a configuration group (channels, for example) and wait until it is done."""
        ...

    def set_shutter(self, device: str, opened: bool) -> None:
        """Open or close a shutter."""
        ...

    def exposure_ms(self) -> float:
        """Return the camera's exposure."""
        ...

    def set_exposure_ms(self, exposure_ms: float) -> None:
        """Set the camera's exposure."""
        ...

    def stage_um(self) -> tuple[float, float]:
        """Return the stage's position: x, y."""
        ...

    def move_stage_um(self, x: float, y: float) -> None:
        """Move the stage and wait until it has arrived."""
        ...

    def focus_um(self) -> float:
        """Return the position of the focus drive."""
        ...

    def move_focus_um(self, z: float) -> None:
        """Move the focus drive and wait until it has arrived."""
        ...

    def stage_um_per_px(self) -> NDArray[np.float64]:
        """Return the matrix (2, 2) that turns a distance in the image (x, y), px, into one of the stage (x, y), um.

        A particle at (x, y) px comes to the place of (0, 0) px when the stage moves by ``matrix @ (x, y)``. Raises
        MicroscopeError where it was never measured, signs included: a stage that moves the wrong way runs away.
        """
        ...

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Add an event to the acquisition that runs on this microscope; keys are those of useq's MDAEvent."""
        ...

    def halt(self) -> None:
        """Stop stage and focus drive where they are; one that cannot be stopped does not keep the other moving."""
        ...

    def close(self) -> None:
        """Let go of the hardware. May be called twice; raises MicroscopeError where it hangs."""
        ...


@runtime_checkable
class HasSlm(Protocol):
    """What a microscope may have besides: spatial light modulators, which light parts of the image."""

    def slm_shape(self, device: str) -> tuple[int, int]:
        """Return height and width of a modulator, px; raises MicroscopeError where the device is none."""
        ...

    def show_on_slm(self, device: str, image: NDArray[np.uint8] | None, for_ms: float | None = None) -> None:
        """Show an image of that shape until the next one, or nothing at all: None, which has to work at any time.

        ``for_ms`` says after how long nothing will be shown: a device that can, goes dark by itself then.
        """
        ...


@runtime_checkable
class HasAutofocus(Protocol):
    """What a microscope may have besides: a device that focuses."""

    def autofocus(self, *, full: bool, timeout_s: float) -> None:
        """Focus and wait until it has: from wherever it is, or (not ``full``) from nearly in focus.

        Raises MicroscopeError where it does not find the focus, or takes longer than ``timeout_s``.
        """
        ...

    def continuous_focus(self) -> bool:
        """Return whether the device is told to hold the focus all the time; raises MicroscopeError without one."""
        ...

    def set_continuous_focus(self, held: bool) -> None:
        """Tell it to hold the focus, or to let go; does not wait until it has it."""
        ...

    def is_focus_locked(self) -> bool:
        """Return whether it holds the focus now."""
        ...


class Actuator(Protocol):
    """Carries out commands. Group ``streamtrack.actuators``. Each has a worker thread of its own."""

    rehearses: bool
    """Whether it is called in a rehearsal, too: all that it does to hardware goes through the microscope that it was
    given, which then checks the limits and moves nothing. Others are called in armed runs only."""

    def prepare(self, source: SourceInfo, actions: Sequence[Mapping[str, Any]]) -> None:
        """Check, before the run, the image and the actions that its rules will ask for; raises ConfigError.

        Called once more, in between commands, where somebody raises the mode while the run runs.

        ``microscope.trial`` says of each write whether the run allows it, and whether what it names exists.
        """
        ...

    def execute(self, command: Command) -> Mapping[str, Any]:
        """Carry out one command, within the actuator's own time-out; return what was done, for the command log.

        The key ``skipped`` says that there was nothing to do, and why.

        Raises CommandRefused where a limit forbids it, MicroscopeError or any other error on failure.
        """
        ...

    def close(self) -> None:
        """Leave the hardware safe. May be called twice."""
        ...


class Sink(Protocol):
    """Writes results down. Group ``streamtrack.sinks``. Each has a worker thread of its own.

    One that looks at no frame's pixels says so by ``needs_pixels = False``: a batch need not send them then. One that
    needs ``stage_x_um, stage_y_um`` among a result's values (`streamtrack.stage_moves.STAGE_COLUMNS`) says so by
    ``needs_stage = True``.
    """

    critical: bool
    """A run whose critical sink failed is a failed run."""

    @property
    def files(self) -> Sequence[str]:
        """Every name that it may write into the run's folder, unfinished files included; those of folders end in ``/``.

        None of them is there when it is opened: a run that finds one is refused, or removes it where the user said
        ``--overwrite``. A folder is removed only with a mark in it: a zarr group with ``{"streamtrack": {}}`` among its
        attributes, or a folder of nothing but such groups.
        """
        ...

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Start writing into an existing folder; raises SinkError.

        ``source.columns`` and ``source.frame_columns`` are all that the run measures: what `write` will find in
        ``result.detections.extra`` and ``result.values``.
        """
        ...

    def wants_denoised(self, frame_index: int) -> bool:
        """Return whether ``write`` needs the denoised image of this frame. Called from the loop: must be cheap."""
        ...

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame, in order."""
        ...

    def flush(self) -> None:
        """Write down what is still held in memory. Called when no result has come for a while."""
        ...

    def close(self) -> None:
        """Finish the files under their final names: what is there is complete. Called once, also after Ctrl-C."""
        ...


@runtime_checkable
class Recording(Protocol):
    """What a sink may have besides: it can be told to leave frames out."""

    @property
    def recording(self) -> bool | None:
        """Whether frames are written from now on; None where its settings say when."""
        ...

    def record(self, on: bool, since_ns: int) -> None:
        """Write, or leave out, the frames that are decided after this time (`streamtrack.clock`).

        Called between two frames; `Sink.write` may be some frames behind. Must not wait.
        """
        ...


class Attended(Protocol):
    """A run, as a sink that attends it sees it; all may be called from any thread."""

    @property
    def control(self) -> "Control":
        """What may be changed while it runs."""
        ...

    def snapshot(self) -> Mapping[str, Any]:
        """Return how the run stands: a part of the report, and what the last frame showed."""
        ...


@runtime_checkable
class Attending(Protocol):
    """What a sink may have besides: it is shown the run itself, before `Sink.open`."""

    def attend(self, run: Attended) -> None:
        """Take the run; it goes on as long as the sink is not closed."""
        ...


@runtime_checkable
class ToldReport(Protocol):
    """What a sink may have besides: it is told how the run ended."""

    def tell(self, report: Mapping[str, Any]) -> None:
        """Take what will stand in ``report.json``; called once, when all sinks are closed. Must not take long."""
        ...
