"""The check that every engine makes on its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import ServingSpec


def checked_strip(strip: NDArray[np.float32], spec: ServingSpec) -> NDArray[np.float32]:
    """The strip as contiguous float32; raises ValueError unless its shape is ``spec.strip_shape``."""
    if strip.shape != spec.strip_shape:
        raise ValueError(f"a strip must have the shape {spec.strip_shape}; got {strip.shape}")
    return np.ascontiguousarray(strip, np.float32)
