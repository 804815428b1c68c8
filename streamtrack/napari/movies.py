"""The movie that a run tracked, where it still is: what napari shows below tracks that were not recorded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrack.config import PluginConfig
from streamtrack.errors import StreamtrackError
from streamtrack.protocols import ByIndex
from streamtrack.registry import build, load
from streamtrack.types import Frame, SourceInfo


class TrackedMovie:
    """A movie as an array (T, H, W), of which what napari shows is read, and no more. A lost frame is black.

    Parameters
    ----------
    source
        Reads it.
    info
        What is known of it.
    """

    ndim = 3

    def __init__(self, source: ByIndex, info: SourceInfo) -> None:
        self._source, self._indices = source, source.indices()
        self.shape = (len(self._indices), *info.shape)
        self.dtype = np.dtype(info.dtype)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        key = key if isinstance(key, tuple) else (key,)
        chosen = self._indices[key[0]]
        if isinstance(chosen, range):
            images = [self._image(index) for index in chosen]
            return np.stack(images)[(slice(None), *key[1:])] if images else np.empty((0, *self.shape[1:]), self.dtype)
        image: NDArray[Any] = self._image(chosen)[key[1:]]
        return image

    def _image(self, index: int) -> NDArray[Any]:
        frame = self._source.frame_at(index)
        return frame.pixels if isinstance(frame, Frame) else np.zeros(self.shape[1:], self.dtype)


def tracked_movie(report: Mapping[str, Any]) -> tuple[TrackedMovie, int] | None:
    """Return the movie of a run by its report, and the index of its first frame; None where it cannot be read.

    A camera is never touched: asked are sources that give any frame (`streamtrack.protocols.ByIndex`).
    """
    table = {name: value for name, value in (report["config"].get("source") or {}).items() if name != "follow"}
    known = SourceInfo.from_json(report["source"])
    try:
        if known.streams is not None or known.live or not issubclass(load("sources", table["kind"]), ByIndex):
            return None
        source = build("sources", PluginConfig(**table)).instance
    except (StreamtrackError, TypeError, KeyError):  # gone, or of a plug-in that is not installed
        return None
    if (source.info.shape, source.info.dtype) != (known.shape, known.dtype):
        source.close()
        return None
    return TrackedMovie(source, source.info), source.indices().start
