"""From a deploy graph to a TensorRT plan."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from streamtrack.errors import EngineError
from streamtrack_engines.backends.cuda_graph import GpuMemoryError
from streamtrack_engines.backends.metadata import DENOISED, DETECTIONS
from streamtrack_engines.backends.runner import DeployFile, FrameSize
from streamtrack_engines.backends.tensorrt_api import NetworkDefinition, Parser, Tensorrt

Say = Callable[[str], None]
"""Takes one line for the user now and then: what takes long, and how far it is."""

OPTIONS = "strongly typed, no TF32, no auxiliary streams, memory from the caller where that can be required"
"""Of the build; part of what a plan is known by, so change the text with `_configure`."""

_REPORT_EVERY_S = 2.0
_CURES = {
    "Failed to convert ONNX date type": "it has an input of a type that TensorRT lacks, such as 16-bit integers: "
    "export it with 'streamtrack export', which passes pixels as bytes",
    "K exceeds the maximum value": "its table has more rows than TensorRT can sort: "
    "export it with --max-detections 3840 or less",
    "MODEL_DESERIALIZE_FAILED": "it is damaged: get it again, or write it anew with 'streamtrack export'",
}
_MEMORY_WORDS = ("out of memory", "OutOfMemory", "Insufficient memory", "MemoryAllocation")


class Log:
    """What TensorRT says while it works: nothing of it is printed, the last errors explain a failure.

    Attributes
    ----------
    sink
        What the library takes as its logger.
    """

    def __init__(self, trt: Tensorrt) -> None:
        self._errors: deque[str] = deque(maxlen=8)
        self.sink = _log_sink(trt, self._errors)

    def error(self, what: str, cure: str) -> EngineError:
        """Return an error for what did not work: with the cure of the reason in the log, if known, or the one given."""
        reasons = list(self._errors)
        self._errors.clear()
        if any(word in reason for reason in reasons for word in _MEMORY_WORDS):
            return GpuMemoryError(f"{what}: the GPU's memory is full; close other programs, or take smaller frames")
        known = next((text for sign, text in _CURES.items() for reason in reasons if sign in reason), None)
        if known:
            return EngineError(f"{what}: {known}")
        said = " ".join(reasons[-1].split())[:300] if reasons else "it does not say why"
        return EngineError(f"{what} ({said}): {cure}")


def _log_sink(trt: Tensorrt, errors: deque[str]) -> Any:
    base: Any = trt.ILogger

    class Sink(base):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            base.__init__(self)  # not super(): the bindings insist on it

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                errors.append(message)

    return Sink()


class _Progress:
    """How far a build is, 0 to 1, out of phases within phases; and whether the user has broken it off.

    A phase covers one step of the phase that it is in. Called from TensorRT's threads.
    """

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what = say, what
        self._phases: dict[str, list[float]] = {}  # how far it is, and how far a step brings it
        self._said, self._said_s = 0.0, time.monotonic()
        self.interrupt: KeyboardInterrupt | None = None

    def start(self, name: str, parent: str | None, n_steps: int) -> None:
        done, step = self._phases.get(parent or "", (0.0, 1.0))
        self._phases[name] = [done, step / max(n_steps, 1)]

    def step(self, name: str) -> bool:
        """Count a step; return whether to go on."""
        try:
            phase = self._phases[name]
            phase[0] += phase[1]
            # Phases that do not keep to their number of steps would make it go back.
            if phase[0] > self._said and time.monotonic() - self._said_s > _REPORT_EVERY_S:
                self._said, self._said_s = phase[0], time.monotonic()
                self._say(f"{self._what}: {min(phase[0], 1):.0%}")
        except KeyboardInterrupt as interrupt:  # an exception would end here, in TensorRT's own code
            self.interrupt = interrupt
        return self.interrupt is None

    def finish(self, name: str) -> None:
        self._phases.pop(name, None)


def _monitor(trt: Tensorrt, progress: _Progress) -> Any:
    base: Any = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # known at run time only
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


def build_plan(trt: Tensorrt, file: DeployFile, size: FrameSize, say: Say, *, denoise: bool) -> bytes:
    """Build the plan of a deploy graph for frames of one size.

    TensorRT builds for the GPU that it runs on, and times every kernel there; TensorRT-RTX builds for all that it knows
    and needs none.

    Parameters
    ----------
    trt
        The module.
    file
        In its own precision: TensorRT changes none.
    size
        The only one that the plan will take.
    say
        Told every two seconds how far it is.
    denoise
        Whether the plan computes the denoised frame; without it, all that only the denoised frame needs is left out.

    Raises
    ------
    EngineError
        The file cannot be parsed or built, or the GPU's memory is full.
    """
    log = Log(trt)
    builder = trt.Builder(log.sink)
    # TensorRT 10 needs the flag, or half precision in the file is a hint only; 11 knows nothing else.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.sink)
    if not parser.parse(file.content):
        raise log.error(f"TensorRT cannot read the weights {file.name} ({_parser_says(parser)})", "export them again")
    _fix_size(network, file, size)
    if not denoise:
        _leave_out(network, DENOISED)  # where there is one
    what = f"building the plan of {file.name} for {size.height} x {size.width} px {which(denoise)}"
    progress = _Progress(say, what)
    monitor = _monitor(trt, progress)  # must outlive the build
    plan = builder.build_serialized_network(network, _configure(trt, builder.create_builder_config(), monitor))
    if progress.interrupt:
        raise progress.interrupt
    if plan is None:
        raise log.error(f"TensorRT cannot build the weights {file.name}", "take another engine back end")
    return bytes(plan)


def _parser_says(parser: Parser) -> str:
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return "; ".join(f"{error.node_name()} {error.desc()}".strip() for error in errors[:1]) or "no reason given"


def _fix_size(network: NetworkDefinition, file: DeployFile, size: FrameSize) -> None:
    """Make the free sizes of the network's input those of the frames; raises EngineError if it has others."""
    frame = network.get_input(0)
    wanted = input_shape(file, size)
    if frame is None or len(frame.shape) != len(wanted):
        raise EngineError(f"the weights {file.name} take no frames: write them with 'streamtrack export'")
    given = tuple(frame.shape)
    if any(have not in (-1, want) for have, want in zip(given, wanted, strict=True)):
        raise EngineError(
            f"the weights {file.name} are for frames {given[1:]} (number, height, width, bytes), not {wanted[1:]}: "
            "export without --height, --width and --dtype"
        )
    frame.shape = wanted


def _leave_out(network: NetworkDefinition, name: str) -> None:
    """Make a tensor no output any more; the builder removes what leads to no output."""
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    for tensor in outputs:
        if tensor is not None and tensor.name == name:
            network.unmark_output(tensor)


def output_names(denoise: bool) -> tuple[str, ...]:
    """Return the outputs of a plan with or without the denoised frame."""
    return (DETECTIONS, DENOISED) if denoise else (DETECTIONS,)


def which(denoise: bool) -> str:
    """Return how the user is told of which plan it is."""
    return f"{'with' if denoise else 'without'} the denoised frame"


def input_shape(file: DeployFile, size: FrameSize) -> tuple[int, int, int, int, int]:
    """Return the shape of a graph's input for frames of one size: (1, T, H, W, bytes)."""
    return 1, file.metadata.n_frames, size.height, size.width, size.itemsize


def _configure(trt: Tensorrt, config: Any, monitor: Any) -> Any:
    config.progress_monitor = monitor
    config.max_aux_streams = 0  # all in one stream: the least memory, the simplest graph
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # of TensorRT-RTX, which needs it to be captured
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    return config
