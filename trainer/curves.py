"""TensorBoard's curves: one point for each epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

VALIDATION = "val_"


class Curves:
    """Writes each epoch's figures to ``train`` and ``validation`` in a folder of logs, as Keras does.

    Args:
        folder: local; None writes nothing.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = folder
        self.writers: dict[str, Any] = {}

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers.values():
            writer.close()

    def add(self, epoch: int, measured: Mapping[str, float]) -> None:
        """Add the figures of an epoch, counted from 0."""
        if self.folder is None:
            return
        for name, value in measured.items():
            part = "validation" if name.startswith(VALIDATION) else "train"
            if part not in self.writers:
                self.writers[part] = tf.summary.create_file_writer(os.path.join(self.folder, part))
            with self.writers[part].as_default():
                tf.summary.scalar(f"epoch_{name.removeprefix(VALIDATION)}", value, step=epoch)
