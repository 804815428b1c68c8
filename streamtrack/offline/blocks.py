"""A movie whose frames are searched elsewhere, as source and engine of a run like any other."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Event
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamtrack.clock import monotonic_ns
from streamtrack.errors import EngineError, SourceError, StreamtrackError, described
from streamtrack.offline.jobs import Declared, FoundBlock, Job
from streamtrack.search_area import mask_unseen
from streamtrack.step import Found
from streamtrack.types import Detections, Frame, LostFrame, SourceInfo

POLL_S = 0.5
MOST_REMARKS = 10
"""Lines that differ from block to block, in the report."""


class Promise(Protocol):
    """A block that is being searched."""

    def ready(self, timeout_s: float) -> bool:
        """Wait; return whether `result` has something to say."""
        ...

    def result(self) -> FoundBlock | None:
        """Return the block; None where it is being searched once more. Raises whatever went wrong."""
        ...

    def release(self) -> None:
        """Let go of it; what is not searched by then need not be."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SeenFrame(Frame):
    """A frame that was searched elsewhere."""

    seen: Found | None = None


def cut(job: Job, frames: range, length: int, before: int, open_end: bool = True) -> list[Job]:
    """Return the jobs of a movie: blocks of about ``length`` frames, none much shorter than the others.

    Parameters
    ----------
    job
        What is common to all.
    frames
        Indices of the movie's frames.
    before
        Frames that the engine sees before each.
    open_end
        Whether what the source says of the movie's end belongs to it.
    """
    edges = np.linspace(frames.start, frames.stop, max(1, -(-len(frames) // length)) + 1).round().astype(int).tolist()

    def block(first: int, last: int) -> Job:
        is_last = open_end and last == frames.stop
        return replace(job, first=first, last=last, shown_from=max(frames.start, first - before), is_last=is_last)

    return [block(first, last) for first, last in pairwise(edges)]


class BlockSource:
    """Gives the frames of a movie in order, as blocks of them come back.

    Parameters
    ----------
    info
        What the movie's own source says.
    jobs
        In order.
    submit
        Has a job done by whoever is free.
    trouble
        Says what keeps all jobs from being done, nothing while all is well.
    ahead
        Jobs that may be under way at a time.
    timeout_s
        How long a block may take.
    before
        Frames that the engine sees before each.
    """

    def __init__(
        self,
        info: SourceInfo,
        jobs: Sequence[Job],
        submit: Callable[[Job], Promise],
        trouble: Callable[[], str],
        ahead: int,
        timeout_s: float,
        before: int = 0,
    ) -> None:
        self._info, self._jobs, self._submit, self._trouble = info, jobs, submit, trouble
        self._ahead, self._timeout_s, self._before = ahead, timeout_s, before
        self._closed = Event()
        self._remarks: list[tuple[Job, tuple[str, ...]]] = []
        self._pixels = np.broadcast_to(np.zeros((), info.dtype), info.shape)
        self.engine: Mapping[str, Any] = {}
        """What the engine of the last block says of itself."""
        self.engine_remarks: list[tuple[Job, tuple[str, ...]]] = []

    @property
    def info(self) -> SourceInfo:
        """What the movie's own source says, and how the movie was cut."""
        details = {**self._info.details, "settings": dict(self._jobs[0].source), "blocks": len(self._jobs)}
        return replace(self._info, details=details)

    def remarks(self) -> list[str]:
        """Return what the sources of the blocks remark."""
        return said_of(self._remarks, len(self._jobs))

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield every frame once, in order; raises SourceError on a block that could not be searched."""
        waiting: deque[tuple[Job, Promise]] = deque()
        try:
            for job in self._jobs:
                waiting.append((job, self._submit(job)))
                if len(waiting) >= self._ahead:
                    yield from self._items(*waiting.popleft())
            while waiting:
                yield from self._items(*waiting.popleft())
        finally:
            for _, promise in waiting:
                promise.release()

    def denoised(self, index: int) -> NDArray[np.float32] | None:
        """Return the denoised image of a frame, which is looked at once more for it; None where that cannot be."""
        start = self._jobs[0].first
        if start is None:
            return None
        alone = replace(self._jobs[0], first=index, last=index + 1, shown_from=max(start, index - self._before))
        job = replace(alone, is_last=False, pixels=False, denoise=True)
        promise = self._submit(job)
        block = self._wait(job, promise)
        promise.release()
        return None if block is None or block.denoised is None else block.denoised[0]

    def close(self) -> None:
        """End a running ``frames()``; blocks that wait are given up."""
        self._closed.set()

    def _items(self, job: Job, promise: Promise) -> Iterator[Frame | LostFrame]:
        block = self._wait(job, promise)
        promise.release()
        if block is None:
            return
        self.engine = block.engine
        self._remarks.append((job, block.source_remarks))
        self.engine_remarks.append((job, block.remarks))
        lost = deque(LostFrame(index, cause) for index, cause in block.lost)
        for frame in self._frames(block):
            while lost and lost[0].index < frame.index:
                yield lost.popleft()
            yield frame
        yield from lost

    def _wait(self, job: Job, promise: Promise) -> FoundBlock | None:
        """Wait for a block in short steps; None when the source is closed."""
        give_up_s = time.monotonic() + self._timeout_s
        try:
            block = None
            while not promise.ready(POLL_S) or (block := promise.result()) is None:
                if self._closed.is_set():
                    return None
                late = f"no worker had them done within {self._timeout_s:g} s" if time.monotonic() > give_up_s else ""
                if trouble := self._trouble() or late:
                    raise SourceError(trouble)
            return block
        except Exception as error:
            said = str(error) if isinstance(error, StreamtrackError) else self._trouble() or described(error)
            raise SourceError(f"{job} could not be searched: {said}") from error

    def _frames(self, block: FoundBlock) -> Iterator[SeenFrame]:
        images = block.pixels if block.pixels is not None else [self._pixels] * len(block.frames)
        values = block.values or ({},) * len(block.frames)
        found = zip(block.frames.tolist(), block.time_s.tolist(), images, values, block.detections(), strict=True)
        for (index, _, masked, took_ns), time_s, pixels, of_frame, detections in found:
            began = monotonic_ns() - took_ns
            shown = mask_unseen(pixels)[0] if masked and block.pixels is not None else pixels
            seen = Found(shown, masked, detections, None, began)
            yield SeenFrame(index, pixels, began, time_s, of_frame, seen=seen)


class BlockEngine:
    """Knows what is in the frames of a `BlockSource`.

    Parameters
    ----------
    declared
        What the workers' engines say of themselves.
    table
        Their settings.
    source
        Whose frames they search.
    n_blocks
        How many blocks these are.
    """

    def __init__(self, declared: Declared, table: Mapping[str, Any], source: BlockSource, n_blocks: int) -> None:
        self._declared, self._table, self._source, self._n_blocks = declared, table, source, n_blocks
        self.columns, self.frame_columns, self.image = declared.columns, declared.frame_columns, declared.image

    @property
    def info(self) -> Mapping[str, Any]:
        """What the workers' engines say, and the settings."""
        return {**(self._source.engine or self._declared.info), "settings": dict(self._table)}

    def see(self, frame: SeenFrame, *, denoise: bool) -> Found:
        """Return what was found in a frame."""
        if frame.seen is None:
            raise EngineError(f"frame {frame.index} was not searched")
        return frame.seen._replace(denoised=self._source.denoised(frame.index)) if denoise else frame.seen

    def remarks(self) -> list[str]:
        """Return what the engines of the blocks remark."""
        return said_of(self._source.engine_remarks, self._n_blocks)

    def prepare(self, shape: tuple[int, int], dtype: str) -> None:
        """Do nothing: workers prepare theirs."""

    def reset(self) -> None:
        """Do nothing: workers reset theirs."""

    def detect(self, pixels: Any, *, denoise: bool) -> tuple[Detections, None]:
        """Raise EngineError: frames are searched elsewhere."""
        raise EngineError("the frames of a batch are searched by its workers")

    def close(self) -> None:
        """Do nothing: workers keep theirs for the next movie."""


def said_of(blocks: Sequence[tuple[Job, tuple[str, ...]]], n_blocks: int) -> list[str]:
    """Return what was remarked of blocks: what is true of all of them once, and of the others of which frames it is."""
    where: dict[str, list[Job]] = {}
    for job, lines in blocks:
        for line in lines:
            where.setdefault(line, []).append(job)
    common = [line for line, jobs in where.items() if len(jobs) == n_blocks]
    partly = [f"{_ranges(jobs)}: {line}" for line, jobs in where.items() if len(jobs) < n_blocks]
    more = [f"and {len(partly) - MOST_REMARKS} more remarks of single blocks"] if len(partly) > MOST_REMARKS else []
    return [*common, *partly[:MOST_REMARKS], *more]


def _ranges(jobs: Sequence[Job]) -> str:
    """Return the frames of some jobs in words, neighbours together."""
    ranges: list[tuple[int, int]] = []
    for job in jobs:
        first, last = job.first or 0, (job.last or 1) - 1
        if ranges and ranges[-1][1] == first - 1:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
    return "frames " + ", ".join(f"{first} to {last}" for first, last in ranges)
