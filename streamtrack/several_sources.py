"""Several movies that belong together, as one source of several streams."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import zip_longest

from streamtrack.errors import SourceError
from streamtrack.protocols import FrameSource, Remarking
from streamtrack.types import Frame, LostFrame, SourceInfo, Stream


class SeveralSources:
    """Gives the frames of several sources in turn: the first of each, then the second.

    Parameters
    ----------
    sources
        By stream, one at least; closed with this one.

    Raises
    ------
    SourceError
        Their frames differ in size or dtype.
    """

    def __init__(self, sources: Mapping[Stream, FrameSource]) -> None:
        self._sources = sources
        infos = [source.info for source in sources.values()]
        first = infos[0]
        for stream, info in zip(sources, infos, strict=True):
            if (info.shape, info.dtype) != (first.shape, first.dtype):
                there, here = f"{info.shape} {info.dtype}", f"{first.shape} {first.dtype}"
                raise SourceError(f"{first.name}: frames of {stream} are {there}, others {here}: track one by one")
        lengths = [info.n_frames for info in infos if info.n_frames is not None]
        n_frames = sum(lengths) if len(lengths) == len(infos) else None
        origins = {stream.origin_um for stream in sources}
        origin_um = first.origin_um if len(origins) == 1 else None
        self._info = replace(first, n_frames=n_frames, origin_um=origin_um, streams=tuple(sources))

    @property
    def info(self) -> SourceInfo:
        """Of the first one; ``n_frames`` is that of all, ``streams`` say which there are."""
        return self._info

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield the frames of all, one of each in turn."""
        streams: Sequence[Stream] = tuple(self._sources)
        for together in zip_longest(*(source.frames() for source in self._sources.values())):
            for stream, item in zip(streams, together, strict=True):
                if item is not None:
                    yield replace(item, stream=stream)

    def remarks(self) -> list[str]:
        """Return what the sources remark, each line once."""
        remarking = (source for source in self._sources.values() if isinstance(source, Remarking))
        return list(dict.fromkeys(line for source in remarking for line in source.remarks()))

    def close(self) -> None:
        """Close all."""
        with ExitStack() as closing:
            for source in self._sources.values():
                closing.callback(source.close)
