"""Which values of an image are shown black and white."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stretch(image: NDArray[Any]) -> tuple[float, float]:
    """Return the values that become black and white, percentiles of all finite ones; the second is the larger."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (1, 99.8)))
    return low, high if high > low else low + max(abs(low), 1.0)
