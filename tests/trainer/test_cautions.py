"""What is said of samples that look poor: of those asked about, and of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlts_beam.spec import PreparationSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer import cautions
from trainer.dataset import read_samples


def test_clouds_are_told_of_the_chosen_series() -> None:
    prepared = np.tile(np.arange(12, dtype=np.float32)[:, None, None, None], (10, 1, 1, 1, 2))
    prepared[:5, 1::4] = 500
    first = np.arange(10) < 5
    told = cautions.clouds(prepared, first)
    assert told is not None
    assert "of the values stand out" in told
    assert cautions.clouds(prepared, ~first) is None


def test_unobserved_samples_are_told_of_the_chosen_ones(tmp_path: Path) -> None:
    fake = make_fake((10, 10))
    fake.valid[:3] = False
    samples = read_samples([write_fake(tmp_path / "s", fake)])
    preparation = PreparationSpec(("b1", "b2"), (0.0, 0.0))
    told = cautions.unobserved(samples, preparation)
    assert told is not None
    assert told.startswith("3 samples are observed at fewer than 1 time steps")
    poor = np.isin(samples.ids, fake.ids[:3])
    assert cautions.unobserved(samples, preparation, poor) == told
    assert cautions.unobserved(samples, preparation, ~poor) is None
