"""Movies in numpy's own files."""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from streamtrack.errors import SourceError
from streamtrack.settings import checks_settings
from streamtrack_drivers.axes import naming
from streamtrack_drivers.paths import ZIP_MARK
from streamtrack_drivers.stored_array import MissingChunkError, StoredArraySource, StoredImage


@checks_settings
class NumpySource(StoredArraySource):
    """A movie in an ``.npy`` file, mapped into memory and not loaded; nothing in it is ever unpickled.

    Frames that are not in a file that was cut off are lost.

    Parameters
    ----------
    path
        What ``numpy.save`` wrote: an array (T, Y, X) or (Y, X); of more axes say which they are.
    channel
        Index. Needed when there are several.
    z
        Index of a z plane, or ``"max"`` for the maximum over z. Needed when there are several.
    frames
        ``"A:B"`` takes frames A to B - 1; works like a python slice. ``Frame.index`` still counts from the start of
        the movie.
    axes
        Axes in stored order, for example ``"TCYX"``.
    position
        Index of a position along the axis ``P``.

    Raises
    ------
    SourceError
        The file is none of numpy's, holds objects, or pixels that cannot be tracked.
    """

    def __init__(
        self,
        *,
        path: Path,
        channel: int | None = None,
        z: int | Literal["max"] | None = None,
        frames: str | None = None,
        axes: str | None = None,
        position: int | None = None,
    ) -> None:
        with naming(path), ExitStack() as files:
            array = _Mapped(Path(path).expanduser())
            files.callback(array.close)
            super().__init__(
                StoredImage(array),
                path=path,
                channel=channel,
                z=z,
                frames=frames,
                axes=axes,
                position=position,
                details={"format": "npy"},
                files=files,
                part="part",
            )


class _Mapped:
    """The array in a file, as much of it as is there."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SourceError("no such file: check the path" if not path.exists() else "is no ordinary file")
        with path.open("rb") as file:
            self.shape, is_fortran, self.dtype, start = _header(file)
        n_there = (path.stat().st_size - start) // max(1, self.dtype.itemsize)
        n_per_item = max(1, math.prod(self.shape[1:]))
        self._n_whole = min(self.shape[0], n_there // n_per_item) if self.shape else 0
        if not self._n_whole or (is_fortran and n_there < math.prod(self.shape)):
            raise SourceError("is cut off: none of its images is whole")
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        whole = self.shape if is_fortran else (self._n_whole, *self.shape[1:])
        self._mapped: NDArray[Any] | None = np.memmap(path, self.dtype, "r", start, whole, order)

    @property
    def chunks(self) -> tuple[int, ...]:
        """One image at a time."""
        return (*(1 for _ in self.shape[:-2]), *self.shape[-2:])

    def __getitem__(self, key: tuple[int | slice, ...], /) -> NDArray[Any]:
        first = key[0]
        end = first.stop if isinstance(first, slice) else first + 1
        if self._mapped is None or (end or self.shape[0]) > self._n_whole:
            raise MissingChunkError(f"the file is cut off after {self._n_whole} of {self.shape[0]}")
        return np.array(self._mapped[key])  # a view of a file that is closed would end the process

    def close(self) -> None:
        """Let the file go."""
        self._mapped = None


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether the order is Fortran's, dtype, and where the pixels begin; raises SourceError."""
    if file.read(4) == ZIP_MARK:
        raise SourceError("holds several arrays: save the one to track with numpy.save")
    file.seek(0)
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except (ValueError, OSError) as error:
        raise SourceError("is no file of numpy.save, or its header is cut off") from error
    if dtype.hasobject:
        raise SourceError("holds Python objects, which are never loaded: save an array of numbers with numpy.save")
    return shape, is_fortran, dtype, file.tell()
