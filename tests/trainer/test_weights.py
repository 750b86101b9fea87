from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import PreparationSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer.dataset import read_samples
from trainer.prepared import prepare_samples
from trainer.weights import check_weights, read_quality, sample_weights


def test_balanced_classes_weigh_the_same() -> None:
    class_ids = np.array([0] * 6 + [1] * 2 + [0, 1])
    weights = sample_weights(class_ids, np.arange(8), 2, balanced=True)
    assert weights[:6].sum() == pytest.approx(weights[6:8].sum())
    assert weights[:8].mean() == pytest.approx(1)
    np.testing.assert_array_equal(sample_weights(class_ids, np.arange(8), 2, balanced=False), 1)


def test_quality_is_found_by_id_and_chooses_samples(tmp_path: Path) -> None:
    fake = make_fake((6, 6))
    folder = write_fake(tmp_path, fake)
    scores = {name: k / 12 for k, name in enumerate(fake.ids)}
    lines = [f"{name},{score}" for name, score in scores.items()]
    (tmp_path / "quality.csv").write_text("id,quality\n" + "\n".join(lines))
    samples = read_samples([folder])
    quality = read_quality([folder], samples)
    np.testing.assert_allclose(quality, [scores[name] for name in samples.ids], rtol=1e-6)

    spec = PreparationSpec(("b1", "b2"), (0.0, 0.0))
    chosen = quality >= 0.5
    some = samples.choose(chosen)
    assert some.ids.tolist() == samples.ids[chosen].tolist()
    np.testing.assert_array_equal(some.class_ids, samples.class_ids[chosen])
    np.testing.assert_array_equal(some.days, samples.days[chosen])
    np.testing.assert_array_equal(prepare_samples(some, spec), prepare_samples(samples, spec)[chosen])


def test_what_is_wrong_with_a_quality_table_is_told(tmp_path: Path) -> None:
    fake = make_fake((3, 3))
    folder = write_fake(tmp_path, fake)
    samples = read_samples([folder])
    for text, told in (
        (None, "there is no .*quality.csv"),
        ("id,score\n", "needs the columns id and quality"),
        ("id,quality\nx,high\n", "a quality is not a number"),
        ("id,quality\nx,1\n", "has no line for sample"),
        ("id,quality\nx,1\ny,nan\n", r"line 3: the quality of sample y must lie in 0\.\.1; got nan"),
        ("id,quality\nx,-1\n", r"line 2: the quality of sample x must lie in 0\.\.1; got -1"),
        ("id,quality\nx,1.5\n", r"line 2: .* got 1\.5"),
        ("id,quality\nx,1\ny", r"quality\.csv is cut short: line 3 has fewer columns"),
        ("id,quality,x\nx,1,5\ny,0.1", r"quality\.csv is cut short: line 3"),
    ):
        if text is not None:
            (tmp_path / "quality.csv").write_text(text)
        with pytest.raises(DltsError, match=told):
            read_quality([folder], samples)


def test_a_class_that_weighs_nothing_is_told() -> None:
    class_ids, training = np.array([0, 0, 1, 1, 2]), np.array([True, True, True, False, False])
    quality = np.array([0, 0.5, 1, 1, 0], np.float32)
    check_weights(quality, class_ids, training, ["a", "b", "c"])  # of c there are none to train on
    for place, name in ((1, "a"), (2, "b")):
        wrong = quality.copy()
        wrong[place] = 0
        told = f"all training samples of class {name} have a quality of 0, so with --quality-weights"
        with pytest.raises(DltsError, match=told):
            check_weights(wrong, class_ids, training, ["a", "b", "c"])
