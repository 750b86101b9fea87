from __future__ import annotations

import numpy as np
import pytest

from trainer import forest


def test_a_forest_learns_what_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "TREES", 100)
    generator = np.random.default_rng(0)
    class_ids = np.arange(80) % 3
    prepared = generator.normal(0, 0.2, (80, 4, 3, 3, 2)).astype(np.float32)
    prepared[:, 2, 1, 1, 0] += 5 * class_ids  # at the centre only
    found = forest.forest_predictions(prepared, class_ids, np.arange(60), np.arange(60, 80))
    np.testing.assert_array_equal(found, class_ids[60:])
    monkeypatch.setattr(forest, "MOST_SAMPLES", 30)
    assert len(forest.forest_predictions(prepared, class_ids, np.arange(60), np.arange(60, 80))) == 20
