from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.spec import PreparationSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer import statistics
from trainer.dataset import read_samples
from trainer.prepared import prepare_samples


def test_only_the_training_split_counts(tmp_path: Path) -> None:
    fake = make_fake((10, 10))
    spec = PreparationSpec(("b1", "b2"), (0.0, 0.0))
    samples = read_samples([write_fake(tmp_path / "a", fake)])
    training = np.arange(20) < 12
    before, share = statistics.fill_means(samples, training, spec)
    measured = statistics.measure(prepare_samples(samples, before), training)
    # What lies outside the training split may change as it likes.
    order = np.argsort(fake.ids)
    fake.stored[order[12:]] = 30000
    samples = read_samples([write_fake(tmp_path / "b", fake)])
    after, _ = statistics.fill_means(samples, training, spec)
    again = statistics.measure(prepare_samples(samples, after), training)
    assert before == after
    assert share == 1
    np.testing.assert_array_equal(measured.mean, again.mean)
    np.testing.assert_array_equal(measured.scale, again.scale)


def test_a_band_never_seen_is_filled_with_zero(tmp_path: Path) -> None:
    fake = make_fake((5, 5))
    fake.valid[..., 1] = False
    samples = read_samples([write_fake(tmp_path, fake)])
    made, share = statistics.fill_means(samples, np.ones(10, bool), PreparationSpec(("b1", "b2"), (0, 0)))
    assert made.fill[1] == 0
    assert made.fill[0] == pytest.approx(fake.stored[..., 0].mean() * 0.001)
    assert share == 0.5


def test_large_sets_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = np.random.default_rng(0).normal(5, 2, (400, 3, 1, 1, 1)).astype(np.float32)
    whole = statistics.measure(prepared, np.ones(400, bool))
    monkeypatch.setattr(statistics, "MOST_VALUES", 600)
    thinned = statistics.measure(prepared, np.ones(400, bool))
    assert whole.mean != thinned.mean
    assert thinned.mean == pytest.approx(whole.mean, abs=0.3)
