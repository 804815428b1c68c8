"""What in a movie looks as if the engine could not do it justice, with the setting that mends it.

Measured once, in a part of the first frame that shows anything, and not before somebody asks.
"""

import numpy as np
from numpy.typing import NDArray

from streamtrack.types import Pixels

PART_PX = 512
"""Height and width of the part that is looked at."""

Image = NDArray[np.float32]

_SCALES_PX = (1.3, 2.0, 3.0, 4.0, 5.5, 7.5, 10.0, 14.0)
_LARGEST_KNOWN_PX = 3.5
_CLEAR = 6.0  # noise units
_FULL_SCALES = (255, 1023, 4095, 16383, 65535)
_ALIKE = 0.6  # of noise that a Gaussian filter of 0.8 px has spread
_FWHM = 2.355
_PATCH_PX = 32
_LEAST_PATCHES = 16
_UNEVEN = 2.0  # noise units between dark and bright parts
_LOCAL = "--engine denodet, with its own weights, knows such images"


def part_of(pixels: Pixels) -> Pixels:
    """Return a copy of the middle of a frame."""
    top, left = (max(0, (size - PART_PX) // 2) for size in pixels.shape)
    return pixels[top : top + PART_PX, left : left + PART_PX].copy()


def doubts_about(
    pixels: Pixels, *, is_dark: bool, is_binned: bool, sees_locally: bool = False, is_sized: bool = False
) -> list[str]:
    """Return one line for each thing that looks wrong in a frame, for settings of polarity and size.

    ``sees_locally`` is of a network that knows of the noise around each place, ``is_sized`` of one that knows cells: it
    bears saturation, and its frames are not judged by their spots.
    """
    if is_sized:
        return []
    image = pixels.astype(np.float32)
    doubts = [_saturation(pixels), _polarity(-image if is_dark else image, is_dark)]
    if not sees_locally:
        doubts += [_texture(image), _light(image)]
    if not is_binned:
        doubts.append(_size(-image if is_dark else image))
    return [doubt for doubt in doubts if doubt]


def _saturation(pixels: Pixels) -> str:
    brightest = pixels.max()
    share = float(np.mean(pixels == brightest))
    if pixels.dtype == np.float32 or brightest not in _FULL_SCALES or share < 1e-3:
        return ""
    return f"{share:.1%} of the pixels are saturated at {brightest}: particles there are missed; expose for less time"


def _texture(image: Image) -> str:
    near, far = (np.median(np.abs(image[:, step:] - image[:, :-step])) for step in (1, 4))
    if far == 0 or near >= _ALIKE * far:
        return ""
    return (
        "the noise of neighbouring pixels is alike, as after a filter, an enlargement or a registration: grains of it "
        f"may be taken for particles; {_LOCAL}, or give the images as the camera took them"
    )


def _light(image: Image) -> str:
    height, width = (size // _PATCH_PX for size in image.shape)
    if height * width < _LEAST_PATCHES:
        return ""
    cut = image[: height * _PATCH_PX, : width * _PATCH_PX].reshape(height, _PATCH_PX, width, _PATCH_PX)
    ground = np.median(cut, axis=(1, 3))
    noise = 1.4826 * float(np.median(np.abs(image[:, 4:] - image[:, :-4]))) / 2**0.5
    darkest, brightest = np.quantile(ground, (0.05, 0.95))
    if noise == 0 or brightest - darkest < _UNEVEN * noise:
        return ""
    return f"the light is uneven: faint particles may be missed, and noise be taken for some; {_LOCAL}"


def _polarity(image: Image, is_dark: bool) -> str:
    from scipy.ndimage import gaussian_filter

    contrast = gaussian_filter(image, 1.3) - gaussian_filter(image, 3.0)
    contrast /= _noise(contrast) or 1e-6
    low, high = int((contrast < -_CLEAR).sum()), int((contrast > _CLEAR).sum())
    if low < 20 or low < 5 * high or -contrast.min() < contrast.max():
        return ""
    seen, other = ("bright", "bright") if is_dark else ("dark", "dark")
    return f'there are {seen} spots rather than {"dark" if is_dark else "bright"} ones: set polarity = "{other}"'


def _size(image: Image) -> str:
    from scipy.ndimage import gaussian_laplace

    strength = []
    for scale in _SCALES_PX:
        response = -(scale**2) * gaussian_laplace(image, scale)
        strength.append(float(np.quantile(response, 0.999)) if response.max() > _CLEAR * _noise(response) else 0.0)
    best = int(np.argmax(strength))
    scale = _SCALES_PX[best]
    if scale <= _LARGEST_KNOWN_PX or best == len(_SCALES_PX) - 1 or strength[best] == 0:
        return ""
    width = _FWHM * scale
    return (
        f"what stands out is about {width:.0f} px wide, more than the network knows: if these are the particles, "
        f"set spot_size = {width:.0f}"
    )


def _noise(image: Image) -> float:
    """Return the standard deviation, in which spots do not count."""
    return 1.4826 * float(np.median(np.abs(image - np.median(image))))
