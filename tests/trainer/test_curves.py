"""What TensorBoard will show."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.curves import Curves


def test_every_epoch_is_a_point_of_each_curve(tmp_path: Path) -> None:
    with Curves(str(tmp_path)) as curves:
        for epoch in range(3):
            curves.add(epoch, {"loss": 1 / (epoch + 1), "val_loss": 2.0, "learning_rate": 0.1})
    found = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / part)).Reload()
        for tag in events.Tags()["tensors"]:
            points = events.Tensors(tag)
            found[f"{part} {tag}"] = [float(tf.make_ndarray(point.tensor_proto)) for point in points]
            assert [point.step for point in points] == [0, 1, 2]
    assert found == {
        "train epoch_loss": pytest.approx([1, 0.5, 1 / 3]),
        "train epoch_learning_rate": pytest.approx([0.1] * 3),
        "validation epoch_loss": [2.0] * 3,
    }


def test_workers_other_than_the_chief_write_nothing(tmp_path: Path) -> None:
    with Curves(None) as curves:
        curves.add(0, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
