"""What a back end is to the engine: something that runs one deploy graph for frames of one size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamtrack_engines.backends.metadata import DeployMetadata


@dataclass(frozen=True, slots=True)
class FrameSize:
    """The frames that a runner is made for: height and width in px, bytes per pixel (1 or 2)."""

    height: int
    width: int
    itemsize: int


@dataclass(frozen=True, slots=True, eq=False)
class DeployFile:
    """A deploy graph as `streamtrack_engines.export` wrote it.

    Attributes
    ----------
    name
        As the user gave it: a packaged name or a path.
    content
        The ONNX file.
    sha256
        Of the content.
    metadata
        What the file says about itself.
    fixed
        The only frames that the graph takes; None if it takes any.
    example
        Frames (T, H, W) in which the network finds something; None in files of format 1.
    """

    name: str
    content: bytes
    sha256: str
    metadata: DeployMetadata
    fixed: FrameSize | None = None
    example: NDArray[np.uint16] | None = None

    @property
    def programs(self) -> tuple[bool, ...]:
        """Whether to compute the image, for each way in which the graph is run: with and without, or without only."""
        return (False,) if self.metadata.image is None else (True, False)


class Runner(Protocol):
    """A deploy graph, loaded and warmed up for frames of one size."""

    @property
    def info(self) -> Mapping[str, Any]:
        """Back end, device, precision and versions, for the report; plain JSON."""
        ...

    @property
    def current(self) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Shape (H, W): the next frame is written here, always the same memory (page-locked where that helps)."""
        ...

    def run(self, *, denoise: bool) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run the graph on `current` and the frames before it; then `current` counts as seen.

        Returns the table (rows, columns), of each tile the best score first, and the denoised frame (H, W) in counts if
        asked for, which only a graph that gives one may be. Both are the caller's until the next call only. Raises
        EngineError, after which `current` counts as not seen.
        """
        ...

    def clear(self) -> None:
        """Forget the frames seen so far."""
        ...

    def close(self) -> None:
        """Release devices and memory. May be called twice."""
        ...


class Backend(Protocol):
    """One way to run deploy graphs; a module of this package with these names is one."""

    @property
    def NAME(self) -> str:
        """As the user calls it."""
        ...

    def reason_against(self) -> str | None:
        """Return why this back end cannot run on this machine, with the cure, in one line; None if it can.

        Cheap: imports what it must, starts no device and builds nothing.
        """
        ...

    def open_runner(self, file: DeployFile, size: FrameSize, threads: int | None) -> Runner:
        """Load a graph and warm it up; raises EngineError with the reason and the cure."""
        ...
