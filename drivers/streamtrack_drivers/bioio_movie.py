"""Movies in the formats of microscopes' makers, which bioio reads: ``.nd2``, ``.czi``, ``.lif`` and others."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from bioio import BioImage
from bioio.plugins import get_plugins
from bioio_base.exceptions import UnsupportedFileFormatError
from numpy.typing import NDArray

from streamtrack.errors import SourceError, foreign_errors
from streamtrack.settings import checks_settings
from streamtrack_drivers.axes import naming, select_named, square_pixel_um
from streamtrack_drivers.stored_array import StoredArraySource, StoredImage


@checks_settings
class BioioSource(StoredArraySource):
    """A movie in a file that a reader of bioio's knows; the extra ``formats`` brings Nikon's, Zeiss' and Leica's.

    Names of channels, pixel size and interval are those that the reader finds; the times of single frames are not read.

    Parameters
    ----------
    path
        The file.
    channel
        Index or name. Needed when there are several.
    z
        Index of a z plane, or ``"max"`` for the maximum over z. Needed when there are several.
    frames
        ``"A:B"`` takes frames A to B - 1; works like a python slice. ``Frame.index`` still counts from the start of
        the movie.
    position
        Index or name of a scene. Needed when there are several.

    Raises
    ------
    SourceError
        No reader is installed for it, it cannot be read, or its pixels cannot be tracked.
    """

    def __init__(
        self,
        *,
        path: Path,
        channel: int | str | None = None,
        z: int | Literal["max"] | None = None,
        frames: str | None = None,
        position: int | str | None = None,
    ) -> None:
        with naming(path), ExitStack() as files:
            image = _open(Path(path).expanduser())
            names = [str(name) for name in image.scenes]
            image.set_scene(select_named("position", position, len(names), names))
            if image.dims.order.endswith("S") and image.dims.S > 1:
                raise SourceError("is a colour image: save one colour as a grey stack")
            size, interval = image.physical_pixel_sizes, image.time_interval
            stored = StoredImage(
                _Lazy(image),
                list(image.dims.order),
                [str(name) for name in image.channel_names or ()],
                square_pixel_um(size.Y, size.X),
                interval.total_seconds() or None if isinstance(interval, timedelta) else None,
            )
            super().__init__(
                stored,
                path=path,
                channel=channel,
                z=z,
                frames=frames,
                axes=None,
                position=None,
                details={"format": f"bioio {type(image.reader).__module__.partition('.')[0]}"},
                files=files,
                part="plane",
                position_names=names if len(names) > 1 else (),
            )


def _open(path: Path) -> BioImage:
    if not path.exists():
        raise SourceError("no such file: check the path")
    try:
        with foreign_errors(SourceError, "cannot be read by bioio"):
            return BioImage(path)
    except SourceError as error:
        ending = path.suffix.lower()
        if not isinstance(error.__cause__, UnsupportedFileFormatError):
            raise
        if any(ending == known for known in get_plugins(use_cache=False)):
            raise SourceError(f"bioio's reader of {ending} cannot open it: it is damaged, or something else") from None
        cure = f'pip install ".[formats]" for .nd2, .czi and .lif, else what bioio names for {ending}'
        raise SourceError(f"no reader for it is installed: {cure}") from None


class _Lazy:
    """A scene as an array of which only what is asked for is read."""

    def __init__(self, image: BioImage) -> None:
        self._data = image.dask_data
        self.shape = tuple(int(size) for size in self._data.shape)
        self.dtype = np.dtype(self._data.dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        """As the reader gives them."""
        return tuple(int(size) for size in self._data.chunksize)

    def __getitem__(self, key: tuple[int | slice, ...], /) -> NDArray[Any]:
        return np.asarray(self._data[key].compute(scheduler="synchronous"))
