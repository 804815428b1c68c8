"""What the metadata of a TIFF file say of pixels, time and channels."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import tifffile

from streamtrack.errors import SourceError
from streamtrack_drivers.axes import duration_s, length_um, select_named, square_pixel_um
from streamtrack_drivers.tiff_stack import mmstack, ndtiff, ome
from streamtrack_drivers.tiff_stack.files import FileSet


@dataclass(frozen=True, slots=True)
class TiffScale:
    """What the metadata say of pixels, time and channels; None where they do not."""

    pixel_size_um: float | None
    frame_interval_s: float | None
    channel_names: Sequence[str] = ()
    times_s: Mapping[tuple[int, int, int], float] = field(default_factory=dict)
    places_um: Mapping[tuple[int, int, int], ome.PlaceUm] = field(default_factory=dict)
    position_names: Sequence[str] = ()

    @classmethod
    def of_ome(cls, image: ome.OmeImage, images: Sequence[ome.OmeImage] = ()) -> "TiffScale":
        """Return that of an image in OME-XML, which has all images of a file."""
        names = [each.name for each in images] if len(images) > 1 else ()
        said = (image.pixel_size_um, image.frame_interval_s, image.channel_names, image.times_s, image.places_um)
        return cls(*said, names)

    @classmethod
    def of_ndtiff(cls, found: ndtiff.NDTiff) -> "TiffScale":
        """Return that of a data set."""
        scale = cls(found.pixel_size_um, found.frame_interval_s, found.channel_names)
        return replace(scale, position_names=found.position_names)


def mmstack_scale(files: FileSet, of_ome: str | None, position: int | str | None) -> TiffScale:
    """Return what OME-XML, and where there is none the acquisition's own metadata, say of a Micro-Manager stack."""
    said = mmstack.header(files.first, "Summary")
    summary = said if isinstance(said, dict) else {}
    names = summary.get("ChNames")
    channels = [str(name) for name in names] if isinstance(names, list) else []
    own = TiffScale(mmstack.pixel_size_um(summary), mmstack.frame_interval_s(summary), channels)
    scale = _ome_scale(of_ome, files.name, position) or own
    return replace(scale, position_names=mmstack.position_names(summary))


def _ome_scale(text: str | None, file_name: str, position: int | str | None) -> TiffScale | None:
    """Return the scale in OME-XML that need not be in order; each of several images is a position."""
    with suppress(SourceError):
        images = ome.read_images(text or "", file_name)
        names = [image.name for image in images]
        with suppress(SourceError):
            return TiffScale.of_ome(images[select_named("position", position, len(images), names)])
        return TiffScale.of_ome(images[0]) if images else None
    return None


def imagej_scale(file: tifffile.TiffFile) -> TiffScale:
    """Return the scale in ImageJ's description and the resolution tags."""
    meta: dict[str, Any] = file.imagej_metadata or {}
    x_per_unit, y_per_unit = file.pages.first.get_resolution()
    y_um, x_um = (length_um(1 / n if n else None, meta.get("unit")) for n in (y_per_unit, x_per_unit))
    return TiffScale(square_pixel_um(y_um, x_um), duration_s(meta.get("finterval"), meta.get("tunit", "s")))
