"""The whole plug-in surface: source -> engine -> linker -> triggers -> sinks and actuators.

A plug-in is a class whose keyword arguments are its settings: annotate them, give defaults, and they become the keys
of its table in the run's TOML file. Register the class under the entry-point group named in its protocol.
``streamtrack.testing`` has a conformance suite for each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import (
    Command,
    Detections,
    Frame,
    FrameResult,
    LostFrame,
    Pixels,
    SourceInfo,
    TrackUpdate,
)


class FrameSource(Protocol):
    """Where frames come from. Group ``streamtrack.sources``."""

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
    """Finds the particles of frame after frame. Group ``streamtrack.engines``."""

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


class Linker(Protocol):
    """Extends tracks frame by frame. Group ``streamtrack.linkers``."""

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


class Trigger(Protocol):
    """Turns what the tracks do into commands. Group ``streamtrack.triggers``."""

    def decide(self, frame: Frame, detections: Detections, tracks: TrackUpdate) -> Sequence[Command]:
        """Return the commands that this frame calls for, usually none."""
        ...


class Actuator(Protocol):
    """Carries out commands. Group ``streamtrack.actuators``.

    Each has a worker thread of its own and is called only while the run is armed.
    """

    def execute(self, command: Command) -> None:
        """Carry out one command, within the actuator's own time-out; raises on failure."""
        ...

    def close(self) -> None:
        """Leave the hardware safe. May be called twice."""
        ...


class Sink(Protocol):
    """Writes results down. Group ``streamtrack.sinks``. Each has a worker thread of its own."""

    critical: bool
    """A run whose critical sink failed is a failed run."""

    def open(self, folder: Path, source: SourceInfo) -> None:
        """Start writing into an existing folder; raises SinkError."""
        ...

    def wants_denoised(self, frame_index: int) -> bool:
        """Return whether ``write`` needs the denoised image of this frame. Called from the loop: must be cheap."""
        ...

    def write(self, result: FrameResult) -> None:
        """Take the result of one frame, in order."""
        ...

    def close(self) -> None:
        """Finish the files under their final names: what is there is complete. Called once, also after Ctrl-C."""
        ...
