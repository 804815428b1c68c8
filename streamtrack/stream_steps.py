"""A movie of several streams: a step for each, with engine memory, linker and rules of its own."""

from collections.abc import Callable, Sequence
from itertools import count

from streamtrack.columns import let_see_depth
from streamtrack.config import RunConfig
from streamtrack.errors import EngineError
from streamtrack.linking.unique_ids import UniqueIds
from streamtrack.parts import Parts, build_rules
from streamtrack.protocols import Engine, Linker
from streamtrack.registry import build
from streamtrack.step import Step
from streamtrack.triggers.rule import Rule
from streamtrack.types import Frame, FrameResult, Stream


class StreamSteps:
    """Takes the frames of all streams, those of each in order.

    Parameters
    ----------
    config, parts
        What runs; the engine is prepared.
    wants_denoised
        As in `streamtrack.step.Step`.
    on_begin
        Called with the rules and the engine of each stream before its first frame.
    """

    def __init__(
        self,
        config: RunConfig,
        parts: Parts,
        wants_denoised: Callable[[int], bool],
        on_begin: Callable[[Sequence[Rule], Engine], None] = lambda rules, engine: None,
    ) -> None:
        self._config, self._parts, self._wants_denoised = config, parts, wants_denoised
        self._on_begin = on_begin
        self._numbers = count()
        self._steps: dict[Stream, Step] = {}
        self.engines: dict[Stream, Engine] = {}
        self.rules: list[Rule] = []
        for stream in parts.info.streams or ():
            self._begin(stream)

    def __call__(self, frame: Frame) -> FrameResult:
        """Take a frame by the step of its stream; a new one begins with its first frame."""
        step = self._steps.get(frame.stream)
        return step(frame) if step is not None else self._begin(frame.stream)(frame)

    def _begin(self, stream: Stream) -> Step:
        parts, shape = self._parts, self._parts.info.shape
        own: Linker = build("linkers", self._config.linker).instance
        let_see_depth(own, parts.engine, parts.info.pixel_size_um)
        linker: Linker = UniqueIds(own, self._numbers)
        linker.prepare(shape)
        rules = build_rules(self._config, parts.info, stream)
        engine = self._engine()
        self._on_begin(rules, engine)
        step = Step(
            engine,
            linker,
            rules,
            self._wants_denoised,
            measures=parts.measures,
            area=parts.area,
            stage=parts.stage_watch(),
        )
        self._steps[stream], self.engines[stream] = step, engine
        self.rules += rules
        return step

    def _engine(self) -> Engine:
        """Return an engine with a memory of its own, the same where engines have none; weights are loaded once."""
        first = self._parts.engine
        if not self.engines or getattr(first, "frames_before", 0) == 0:
            return first
        if hasattr(first, "for_another_stream"):
            engine: Engine = first.for_another_stream()
        elif self._parts.engine_is_given:
            raise EngineError("the engine sees earlier frames, and has no for_another_stream(): give it by its name")
        else:
            engine = build("engines", self._config.engine, config_folder=self._config.folder).instance
            engine.prepare(self._parts.info.shape, self._parts.info.dtype)
        self._parts.closes(engine.close)
        return engine
