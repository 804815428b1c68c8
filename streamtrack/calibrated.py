"""A source whose pixel size and frame interval are what the user says, whatever its files say."""

from collections.abc import Iterator
from dataclasses import replace

from streamtrack.errors import ConfigError
from streamtrack.protocols import FrameSource, Remarking
from streamtrack.types import Frame, LostFrame, SourceInfo

_AGREEMENT = 0.01
_UNITS = {"pixel_size_um": "um per px", "frame_interval_s": "s per frame"}


class CalibratedSource:
    """Another source, whose frames are of a pixel size and at an interval that were said.

    Parameters
    ----------
    source
        Closed with this one.
    pixel_size_um, frame_interval_s
        None for what the source says.

    Raises
    ------
    ConfigError
        An interval was said, but the frames carry times of their own.
    """

    def __init__(
        self, source: FrameSource, pixel_size_um: float | None = None, frame_interval_s: float | None = None
    ) -> None:
        self._source, self._pixel_size_um, self._frame_interval_s = source, pixel_size_um, frame_interval_s
        if frame_interval_s is not None and source.info.clock != "nominal":
            raise ConfigError(
                f"{source.info.name}: each frame says when it was taken, leave frame_interval_s = {frame_interval_s:g} "
                "(--interval) out"
            )

    @property
    def info(self) -> SourceInfo:
        """What the other source says, but for what was said."""
        return with_calibration(self._source.info, self._pixel_size_um, self._frame_interval_s)

    def frames(self) -> Iterator[Frame | LostFrame]:
        """Yield the frames of the other source, at the times that follow from the interval."""
        if self._frame_interval_s is None:
            yield from self._source.frames()
            return
        stretch = self._frame_interval_s / (self._source.info.frame_interval_s or 1.0)
        for item in self._source.frames():
            yield item if isinstance(item, LostFrame) else replace(item, time_s=item.time_s * stretch)

    def remarks(self) -> list[str]:
        """Return what the other source remarks, and where it says something else than what was said."""
        remarks = list(self._source.remarks()) if isinstance(self._source, Remarking) else []
        return [*remarks, *differences(self._source.info, self._pixel_size_um, self._frame_interval_s)]

    def close(self) -> None:
        """Close the other source."""
        self._source.close()


def with_calibration(info: SourceInfo, pixel_size_um: float | None, frame_interval_s: float | None) -> SourceInfo:
    """Return what is known of a source, with what was said in place of what it says; None says nothing."""
    return replace(
        info,
        pixel_size_um=info.pixel_size_um if pixel_size_um is None else pixel_size_um,
        frame_interval_s=info.frame_interval_s if frame_interval_s is None else frame_interval_s,
    )


def differences(info: SourceInfo, pixel_size_um: float | None, frame_interval_s: float | None) -> list[str]:
    """Return a line for each thing that was said and of which a source says something else, beyond 1 %."""
    lines = []
    for name, said in (("pixel_size_um", pixel_size_um), ("frame_interval_s", frame_interval_s)):
        own = getattr(info, name)
        if said is not None and own is not None and abs(own - said) > _AGREEMENT * said:
            lines.append(f"{info.name} says {own:.6g} {_UNITS[name]}; {said:.6g} is used, as {name} says")
    return lines
