"""From probabilities to class ids and map values: pure functions."""

from __future__ import annotations

import numpy as np

from dlts_beam.spec.classes import ClassTable

# 65535 itself marks pixels without a class in rasters of probabilities.
LEVELS = 65534


def quantise(probabilities: np.ndarray) -> np.ndarray:
    """uint16 (..., K): probability x 65534, rounded half to even. Labels are made from these.

    Raises:
        ValueError: a probability is NaN or lies outside 0..1 by more than rounding.
    """
    if not ((probabilities >= -1e-6) & (probabilities <= 1 + 1e-6)).all():
        raise ValueError("probabilities must lie in 0..1 and not be NaN: the model's output is not a softmax")
    return np.rint(np.clip(probabilities, 0, 1) * np.float32(LEVELS)).astype(np.uint16)


def label_pixels(quantised: np.ndarray) -> np.ndarray:
    """int64 (...): class id of the largest probability, the lowest id of equal ones."""
    return np.argmax(quantised, axis=-1)


def map_values(class_ids: np.ndarray, labelled: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Map values (uint8 or uint16) of class ids; nodata where ``labelled`` is False."""
    values = np.array(classes.values, classes.map_dtype)
    return np.where(labelled, values[class_ids], np.array(classes.nodata, classes.map_dtype))
