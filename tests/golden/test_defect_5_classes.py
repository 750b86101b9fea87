"""Defect 5 of dl-time-series: two classes whatever was asked; rounding before argmax made ties class 0."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dlts_beam.spec import ModelSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.evaluate import predicted_classes


def test_five_classes_with_names_come_out_as_five(tmp_path: Path) -> None:
    names = ["cotton", "forest", "maize", "millet", "soy"]
    write_fake(tmp_path / "s", make_fake((30,) * 5, class_names=names))
    (tmp_path / "c.json").write_text('{"units": 12}')
    flags = ["--model", "lstm", "-e", "12", "-l", "0.02", "--model-config", str(tmp_path / "c.json")]
    assert main(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), *flags]) == 0
    spec = ModelSpec.from_json((tmp_path / "m" / "model.json").read_text())
    assert spec.serving.classes == 5
    assert list(spec.classes.names) == names
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert list(found["classes"]) == names
    matrix = np.array(found["confusion_matrix"]["values"])
    assert (matrix.sum(axis=0) > 0).all()
    assert found["overall_accuracy"]["value"] > 0.8


def test_probabilities_below_a_half_are_no_tie() -> None:
    # Rounded first, as the parent did, these two rows are all zeros: class 0 for both.
    probabilities = np.array([[0.30, 0.45, 0.25], [0.26, 0.30, 0.44]], np.float32)
    assert np.argmax(np.round(probabilities), axis=1).tolist() == [0, 0]
    assert predicted_classes(probabilities).tolist() == [1, 2]
