"""The SavedModel of every architecture: the engine takes it for one that only computes, and it agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.engines.tensorflow import TensorFlowEngine
from tests.trainer.serving.agreement import (
    assert_same_answers,
    make_model,
    make_strip,
    patches_of,
    small_settings,
)
from trainer.models import ARCHITECTURES, ModelShape, find_architecture
from trainer.serving.saved_model import export_saved_model
from trainer.serving.strips import serving_spec


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_saved_model_of_every_architecture_is_loaded_and_agrees(name: str, tmp_path: Path) -> None:
    shape = ModelShape(5, 2, 3 if find_architecture(name).needs_patch else 1, 3)
    model = make_model(name, shape, small_settings(name))
    export_saved_model(model, serving_spec(shape, 8), str(tmp_path), gpu_batch=16)
    engine = TensorFlowEngine(str(tmp_path), serving_spec(shape, 8))
    strip = make_strip(shape, 8, seed=1)
    wanted = np.asarray(model(patches_of(strip, shape)))
    assert_same_answers(engine.predict(strip), wanted)
    assert_same_answers(engine.predict_bytes(strip), wanted)
