from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.engines import ENGINES, load_engine, tensorflow
from dlts_beam.errors import DltsError
from dlts_beam.model_folder import SavedModel, model_digest
from dlts_beam.spec import ClassTable, PreparationSpec, ServingSpec
from tests.dlts_beam.test_fit_rule import every, series_of
from tests.fakes import model_spec
from tests.trainer.serving.agreement import make_model, make_strip, patches_of, small_settings
from trainer.export import export_serving, serving_digest
from trainer.models import ModelShape, find_architecture

SHAPE = ModelShape(5, 2, 3, 3)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ServingSpec, np.ndarray, np.ndarray]:
    folder = str(tmp_path_factory.mktemp("serving"))
    model = make_model("conv_bilstm", SHAPE, small_settings("conv_bilstm"))
    spec = export_serving(model, find_architecture("conv_bilstm"), SHAPE, folder, batch=32)
    strip = make_strip(SHAPE, 32, seed=9)
    return folder, spec, strip, np.asarray(model(patches_of(strip, SHAPE)))


@pytest.mark.parametrize("name", ENGINES)
def test_engines_give_the_models_answers(served, name: str) -> None:
    folder, spec, strip, wanted = served
    engine = load_engine(folder, spec, name)
    probabilities = engine.predict(strip)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, wanted, atol=1e-4)
    assert weakref.ref(engine)() is engine
    with pytest.raises(ValueError, match="shape"):
        engine.predict(strip[:, :, 1:])


def test_several_threads_share_one_engine(served) -> None:
    folder, spec, strip, _ = served
    engine = load_engine(folder, spec)
    wanted = engine.predict(strip)
    answers: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: answers.append(engine.predict(strip))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer, wanted)


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_of_other_shapes_is_refused(served, name: str) -> None:
    folder, spec, _, _ = served
    with pytest.raises(DltsError, match="spec"):
        load_engine(folder, replace(spec, classes=4), name)


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_or_broken_model_is_refused(served, name: str, tmp_path) -> None:
    _, spec, _, _ = served
    with pytest.raises(DltsError):
        load_engine(str(tmp_path), spec, name)
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"nothing of the kind")
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(DltsError, match="export"):
        load_engine(str(tmp_path), spec, name)


@pytest.mark.parametrize("name", ["tensorflow", "tfx-bsl"])
def test_cut_off_weights_are_refused(served, tmp_path, name: str) -> None:
    folder, spec, _, _ = served
    shutil.copytree(Path(folder) / "saved_model", tmp_path / "saved_model")
    (weights,) = (tmp_path / "saved_model" / "variables").glob("variables.data-*")
    weights.write_bytes(weights.read_bytes()[:4])
    with pytest.raises(DltsError, match=r"saved_model.*\(.*Read less bytes than requested"):
        load_engine(str(tmp_path), spec, name)


@pytest.mark.parametrize("name", ENGINES)
def test_only_the_planned_model_is_loaded(served, tmp_path, name: str) -> None:
    """A model of the same shapes that took its place says nothing of itself."""
    folder, spec, strip, wanted = served
    here = tmp_path / "serving" / "loss"
    shutil.copytree(folder, here)
    classes = ClassTable.from_csv("value,name\n1,a\n2,b\n3,c\n")
    series, preparation = series_of(every("2020-01-01", 10, 5)), PreparationSpec(("red", "nir"), (0.0, 0.0))
    digests = {"loss": serving_digest(folder)}
    model = SavedModel(str(tmp_path), "loss", model_spec(series, spec, preparation, classes, digests))
    digest = model_digest(model, name)
    engine = load_engine(str(here), spec, name, digest=digest)
    np.testing.assert_allclose(engine.predict(strip), wanted, atol=1e-4)
    other = make_model("conv_bilstm", SHAPE, small_settings("conv_bilstm"))
    other.set_weights([weights + 0.5 for weights in other.get_weights()])
    export_serving(other, find_architecture("conv_bilstm"), SHAPE, str(here), batch=32)
    with pytest.raises(DltsError, match="changed while the run was on its way"):
        load_engine(str(here), spec, name, digest=digest)
    assert np.abs(load_engine(str(here), spec, name).predict(strip) - wanted).max() > 1e-2


def test_an_unknown_engine_is_refused(served) -> None:
    with pytest.raises(DltsError, match="onnx, tensorflow"):
        load_engine(served[0], served[1], "abacus")


def test_a_gpu_gets_longer_strips(served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint for GPUs, computed on the CPU: of 4096 pixels, the same answers for the same patches."""
    folder, spec, strip, wanted = served
    monkeypatch.setattr(tensorflow, "_set_up", lambda tf, threads, gpu: None)
    engine = load_engine(folder, spec, "tensorflow", gpu=True)
    assert engine.spec == replace(spec, batch=4096)
    wide = np.zeros(engine.spec.strip_shape, np.float32)
    wide[:, :, 1000 : 1000 + strip.shape[2]] = strip
    found = engine.predict(wide)
    assert found.shape == (4096, 3)
    np.testing.assert_allclose(found[1000 : 1000 + len(wanted)], wanted, atol=1e-4)


def test_tfx_bsl_is_missed_in_one_sentence(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tfx_bsl.public.beam.run_inference", None)
    with pytest.raises(DltsError, match=r"for Linux x86_64 and macOS arm64 only: .* or use --engine onnx"):
        load_engine(served[0], served[1], "tfx-bsl")


def test_a_model_of_before_tfx_bsl_is_told(served, tmp_path) -> None:
    """Its SavedModel has one endpoint only."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(served[1].strip_shape)])
    def serve(strip):
        return strip[0, 0, :32, :1] * tf.ones((32, 3))

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures={"serve": serve})
    with pytest.raises(DltsError, match=r"tfx-bsl cannot serve .*: export the model again"):
        load_engine(str(tmp_path), served[1], "tfx-bsl")


def test_the_package_loads_no_runtime() -> None:
    code = (
        "import sys, dlts_beam.engines, dlts_beam.engines.onnx, dlts_beam.engines.tensorflow;"
        "import dlts_beam.engines.tfx_bsl;"
        "print([m for m in ('tensorflow', 'onnxruntime', 'onnx', 'keras', 'tfx_bsl') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
