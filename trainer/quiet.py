"""What Keras tells that helps nobody."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def softmax_of_one_step() -> Iterator[None]:
    """A context without Keras' warning that a softmax over one value is always 1; all others are shown.

    Attention over a single time step is such a softmax. It is as it should be, and Keras would tell of it
    wherever a model is traced, in training, measuring and exporting.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are using a softmax over axis")
        yield
