"""Defect 1 of dl-time-series: its shuffle overwrote samples; copies of training rows reached the test split.

It swapped rows of an array through views of it: of 400 samples 210 distinct ones survived, and 46 of 60 test
rows were copies of training rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlts_beam.spec import PreparationSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer.dataset import read_samples
from trainer.feed import FitData, steps_per_epoch, training_feed
from trainer.prepared import prepare_samples
from trainer.split import SPLITS, assign_splits


def test_all_400_samples_survive_and_none_stands_on_two_sides(tmp_path: Path) -> None:
    samples = read_samples([write_fake(tmp_path, make_fake((200, 200)))])
    prepared = prepare_samples(samples, PreparationSpec(("b1", "b2"), (0.0, 0.0)))
    splits = assign_splits(samples.class_ids, samples.ids, 2, 0.15, 0.15)
    before = prepared.copy()
    data = FitData(
        prepared,
        samples.class_ids,
        2,
        np.flatnonzero(splits == "train"),
        np.flatnonzero(splits == "validation"),
        np.ones(400, np.float32),
        np.ones(2, np.float32),
    )
    batches = list(training_feed(data, 2, 16, 0, 2).as_numpy_iterator())
    steps = steps_per_epoch(data, 16)
    parts = {part: {row.tobytes() for row in prepared[splits == part]} for part in SPLITS}
    assert [len(parts[part]) for part in SPLITS] == [280, 60, 60]
    assert len(set.union(*parts.values())) == 400
    for epoch in (batches[:steps], batches[steps:]):
        seen = [row.tobytes() for series, _, _ in epoch for row in series]
        assert len(seen) == 280
        assert set(seen) == parts["train"]
        labels = {
            row.tobytes(): int(one.argmax())
            for series, hot, _ in epoch
            for row, one in zip(series, hot, strict=True)
        }
        for place in data.training:
            assert labels[prepared[place].tobytes()] == samples.class_ids[place]
    np.testing.assert_array_equal(prepared, before)
