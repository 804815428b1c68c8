"""What the images of a camera are, and whether they can be tracked."""

from dataclasses import dataclass
from typing import Any

from streamtrack.errors import MicroscopeError

DTYPES = {(1, 1): "uint8", (2, 1): "uint16"}
"""By bytes per pixel and number of colours."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """Height and width in px, and numpy's name of the pixel type, or what else it is."""

    shape: tuple[int, int]
    dtype: str

    def __str__(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} px {self.dtype}"


def image_format(core: Any) -> ImageFormat:
    """Return what the images of a core's camera are now; the core has Java's names."""
    pixel = int(core.getBytesPerPixel()), int(core.getNumberOfComponents())
    dtype = DTYPES.get(pixel, f"pixels of {pixel[0]} bytes and {pixel[1]} colours")
    return ImageFormat((int(core.getImageHeight()), int(core.getImageWidth())), dtype)


def grey(image: ImageFormat, camera: str = "it") -> ImageFormat:
    """Return a format that can be tracked; raises MicroscopeError for others."""
    if image.dtype in DTYPES.values():
        return image
    raise MicroscopeError(f"{camera} gives {image.dtype}: set its pixel type to 8 or 16 bit grey")
