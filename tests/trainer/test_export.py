from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlts_beam.engines import load_engine
from dlts_beam.errors import DltsError
from tests.trainer.serving.agreement import make_model, make_strip, patches_of, small_settings
from trainer import export
from trainer.export import check_serving, export_serving, lay_out, serving_digest
from trainer.models import ModelShape, find_architecture
from trainer.serving.strips import serving_spec

SHAPE = ModelShape(4, 2, 3, 3)


def samples_of(shape: ModelShape, count: int) -> np.ndarray:
    return patches_of(make_strip(shape, count * shape.patch, seed=2), shape)[:: shape.patch][:count]


@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize("count", [1, 6, 11, 27])
def test_laid_out_samples_are_the_patches_of_their_columns(patch: int, count: int) -> None:
    shape = replace(SHAPE, patch=patch)
    samples = samples_of(shape, count)
    strips = lay_out(samples, serving_spec(shape, 16))
    found = [patches_of(strip, shape)[columns] for strip, columns in strips]
    np.testing.assert_array_equal(np.concatenate(found), samples)


def test_export_writes_and_checks_both_models(tmp_path) -> None:
    model = make_model("conv_bilstm", SHAPE, small_settings("conv_bilstm"))
    architecture = find_architecture("conv_bilstm")
    folder = str(tmp_path / "serving" / "loss")
    spec = export_serving(model, architecture, SHAPE, folder, samples_of(SHAPE, 20), batch=16)
    assert spec == serving_spec(SHAPE, 16)
    assert (tmp_path / "serving" / "loss" / "saved_model" / "saved_model.pb").exists()
    first = serving_digest(folder)
    export_serving(model, architecture, SHAPE, folder, batch=16)
    assert serving_digest(folder) == first  # the same weights give the same bytes


def test_the_default_batch_comes_from_the_architecture(tmp_path) -> None:
    shape = replace(SHAPE, patch=1)
    model = make_model("lstm", shape, small_settings("lstm"))
    architecture = replace(find_architecture("lstm"), batch=24)
    assert export_serving(model, architecture, shape, str(tmp_path)).batch == 24


def test_a_serving_model_of_other_weights_is_refused(tmp_path) -> None:
    settings = small_settings("conv_bilstm")
    model = make_model("conv_bilstm", SHAPE, settings, seed=1)
    spec = export_serving(model, find_architecture("conv_bilstm"), SHAPE, str(tmp_path), batch=16)
    model.get_layer("conv_norm").gamma.assign(np.asarray(model.get_layer("conv_norm").gamma) * 1.5)
    with pytest.raises(DltsError, match="differs from Keras"):
        check_serving(model, str(tmp_path), spec)


class Off:
    """An engine whose answers are wrong by ``error`` where a strip holds the value ``mark``."""

    def __init__(self, engine: Any, mark: float, error: float) -> None:
        self._engine, self._mark, self._error = engine, np.float32(mark), error

    def predict(self, strip: np.ndarray) -> np.ndarray:
        return self._engine.predict(strip) + (self._error if (strip == self._mark).any() else 0)


def test_answers_are_compared_on_real_samples_too_and_within_one_in_ten_thousand(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = replace(SHAPE, patch=1)
    model = make_model("mlp", shape, small_settings("mlp"))
    samples = samples_of(shape, 6)
    samples[-1, 0, 0, 0, 0] = mark = 1234.5
    spec = export_serving(model, find_architecture("mlp"), shape, str(tmp_path), samples, batch=8)
    engines = {name: load_engine(str(tmp_path), spec, name) for name in ("onnx", "tensorflow")}
    for wrong in engines:
        for error, refused in ((3e-4, True), (5e-5, False)):
            given = {**engines, wrong: Off(engines[wrong], mark, error)}
            monkeypatch.setattr(export, "load_engine", lambda folder, spec, name, given=given: given[name])
            check_serving(model, str(tmp_path), spec)  # random series do not hold the value
            told = rf"model for {wrong} .* by 0\.0003 on real samples, where 0\.0001 is allowed"
            with pytest.raises(DltsError, match=told) if refused else nullcontext():
                check_serving(model, str(tmp_path), spec, samples)


def test_the_endpoint_for_tfx_bsl_is_compared(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    decode = tf.io.decode_raw
    monkeypatch.setattr(tf.io, "decode_raw", lambda *args, **options: 1.1 * decode(*args, **options))
    shape = replace(SHAPE, patch=1)
    model = make_model("mlp", shape, small_settings("mlp"))
    with pytest.raises(DltsError, match=r"the serving model for tfx-bsl in .* differs from Keras"):
        export_serving(model, find_architecture("mlp"), shape, str(tmp_path), batch=8)


def test_weights_that_are_not_numbers_are_refused(tmp_path) -> None:
    model = make_model("lstm", replace(SHAPE, patch=1), small_settings("lstm"))
    model.get_layer("probabilities").bias.assign([np.nan, 0, 0])
    with pytest.raises(DltsError, match="nan"):
        export_serving(model, find_architecture("lstm"), replace(SHAPE, patch=1), str(tmp_path), batch=8)
