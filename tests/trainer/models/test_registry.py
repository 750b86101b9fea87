from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.layers import Standardise, Statistics, set_statistics
from trainer.models import ARCHITECTURES, ModelShape, branches_of, build_model, find_architecture


def test_listing_loads_no_framework() -> None:
    code = (
        "import sys, trainer.models; print([m for m in ('tensorflow', 'keras', 'onnx') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("steps", "bands", "classes"), [(1, 1, 2), (5, 4, 3)])
def test_models_give_probabilities(name: str, steps: int, bands: int, classes: int) -> None:
    architecture = find_architecture(name)
    small = {key: 8 for key, value in architecture.defaults.items() if isinstance(value, int) and value > 8}
    shape = architecture.fit_shape(ModelShape(steps, bands, 3, classes))
    model = build_model(name, shape, small)
    series = (
        np.random.default_rng(0).normal(size=(2, steps, shape.patch, shape.patch, bands)).astype(np.float32)
    )
    probabilities = np.asarray(model(series))
    assert probabilities.shape == (2, classes)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_survive_safe_loading(name: str, tmp_path) -> None:
    architecture = find_architecture(name)
    small = {key: 8 for key, value in architecture.defaults.items() if isinstance(value, int) and value > 8}
    shape = architecture.fit_shape(ModelShape(6, 2, 3, 3))
    model = build_model(name, shape, small)
    series = np.random.default_rng(0).normal(900, 50, (8, 6, shape.patch, shape.patch, 2)).astype(np.float32)
    set_statistics(model, Statistics.measure(series))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(loaded(series)), np.asarray(model(series)))
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model._flatten_layers())


def test_members_are_averaged() -> None:
    model = build_model("ltae_mlp", ModelShape(5, 2, 1, 3), {"members": 2, "ltae_width": 8})
    branches = branches_of(model)
    assert [branch.name for branch in branches] == ["ltae0", "mlp0", "ltae1", "mlp1"]
    series = np.random.default_rng(0).normal(size=(4, 5, 1, 1, 2)).astype(np.float32)
    found = [np.asarray(branch(series)) for branch in branches]
    assert np.abs(found[0] - found[2]).max() > 1e-4
    np.testing.assert_allclose(np.asarray(model(series)), np.mean(found, axis=0), rtol=1e-5)


def test_a_forest_counts_as_much_as_each_kind_of_network() -> None:
    settings = {"members": 2, "ltae_width": 8, "forest_trees": 5}
    model = build_model("ltae_mlp_forest", ModelShape(5, 2, 1, 3), settings)
    branches = branches_of(model)
    assert [branch.name for branch in branches] == ["ltae0", "mlp0", "ltae1", "mlp1", "forest"]
    trees = branches[-1].get_layer("trees")
    feature, threshold, share = trees.get_weights()
    shares = np.random.default_rng(1).dirichlet(np.ones(3), share.shape[:2])
    trees.set_weights([feature, threshold, shares])
    series = np.random.default_rng(0).normal(size=(4, 5, 1, 1, 2)).astype(np.float32)
    found = [np.asarray(branch(series)) for branch in branches]
    wanted = ((found[0] + found[2]) / 2 + (found[1] + found[3]) / 2 + found[4]) / 3
    np.testing.assert_allclose(np.asarray(model(series)), wanted, rtol=1e-5)


def test_trees_that_would_fill_memory_are_refused() -> None:
    with pytest.raises(DltsError, match="forest_depth must be at most 16; got 30"):
        build_model("ltae_mlp_forest", ModelShape(5, 2, 1, 3), {"forest_depth": 30})
    with pytest.raises(DltsError, match="100000000 trees of depth 8"):
        build_model("ltae_mlp_forest", ModelShape(5, 2, 1, 3), {"forest_trees": 100_000_000})


def test_positions_of_attention_models_are_days() -> None:
    series = np.random.default_rng(0).normal(size=(3, 4, 1, 1, 2)).astype(np.float32)
    for name in ("ltae", "ltae_mlp", "transformer"):
        found = []
        for days in ((0.0, 16.0, 32.0, 48.0), (0.0, 1.0, 2.0, 3.0), (0.0, 16.0, 32.0, 90.0)):
            keras.utils.set_random_seed(1)
            found.append(np.asarray(build_model(name, ModelShape(4, 2, 1, 3, days))(series)))
        assert np.abs(found[0] - found[1]).max() > 1e-5
        assert np.abs(found[0] - found[2]).max() > 1e-5


def test_conv_bilstm_refuses_single_pixels_and_names_lstm() -> None:
    with pytest.raises(DltsError, match="lstm"):
        build_model("conv_bilstm", ModelShape(4, 2, 1, 2))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DltsError, match="conv_bilstm, lstm"):
        build_model("resnet", ModelShape(4, 2, 1, 2))
    with pytest.raises(DltsError, match=r"no setting 'unit'.*units"):
        build_model("lstm", ModelShape(4, 2, 1, 2), {"unit": 4})
    with pytest.raises(DltsError, match="units must be a whole number"):
        build_model("lstm", ModelShape(4, 2, 1, 2), {"units": 0})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sizes_that_no_model_can_have_are_refused(name: str) -> None:
    architecture = find_architecture(name)
    for setting, default in architecture.defaults.items():
        for value in (float("nan"), float("inf")):
            with pytest.raises(DltsError, match=f"{setting} must be a finite number"):
                architecture.settings({setting: value})
        with pytest.raises(DltsError, match=f"{setting} must"):
            architecture.settings({setting: -0.1})
        if isinstance(default, float) and setting.endswith("dropout"):
            assert architecture.settings({setting: 0})[setting] == 0
            for rate in (1, 50):
                with pytest.raises(DltsError, match=f"{setting} must be a fraction from 0 up to"):
                    architecture.settings({setting: rate})


@pytest.mark.parametrize(
    ("name", "setting"), [("mlp", "noise"), ("ltae_mlp", "mlp_noise"), ("ltae_mlp_forest", "mlp_noise")]
)
def test_noise_is_at_most_one_standard_deviation(name: str, setting: str) -> None:
    architecture = find_architecture(name)
    for value in (0, 1):
        assert architecture.settings({setting: value})[setting] == value
    with pytest.raises(DltsError, match=rf"{name}: {setting} must lie in 0\.\.1.*; got 2\.0"):
        architecture.settings({setting: 2.0})


@pytest.mark.parametrize(
    ("units", "reason"), [(10**12, "the memory does not hold it"), (10**30, "out-of-range integer to Tensor")]
)
def test_a_model_that_nothing_holds_is_told_with_its_sizes(units: int, reason: str) -> None:
    with pytest.raises(DltsError) as told:
        build_model("mlp", ModelShape(4, 2, 1, 2), {"units": units})
    text = str(told.value)
    assert text.startswith(f"mlp cannot be built with layers 2, units {units:,}, dropout 0.5, noise 0.1 (")
    assert text.endswith(f"{reason}): give other sizes with --model-config")


def test_the_parent_sizes_of_conv_bilstm() -> None:
    model = build_model("conv_bilstm", ModelShape(2, 4, 3, 3))
    convolutions = model.get_layer("convolutions")
    assert convolutions.kernel1.shape == (5, 3, 3, 4, 256)
    assert convolutions.kernel2.shape == (1, 3, 3, 256, 256)
    assert model.get_layer("dense1").kernel.shape == (2 * (256 + 512), 256)
    assert model.get_layer("dense2").kernel.shape == (256, 64)


def test_shapes_are_checked() -> None:
    with pytest.raises(DltsError, match="odd"):
        ModelShape(4, 2, 2, 2)
    with pytest.raises(DltsError, match="classes"):
        ModelShape(4, 2, 1, 1)
    with pytest.raises(DltsError, match="never decrease"):
        ModelShape(3, 2, 1, 2, (0.0, 5.0, 4.0))
    assert ModelShape(3, 2, 1, 2).days == (0.0, 1.0, 2.0)


def test_standardise_is_part_of_every_model() -> None:
    for name in ARCHITECTURES:
        model = build_model(name, ModelShape(3, 2, 3, 2))
        assert any(isinstance(layer, Standardise) for layer in model._flatten_layers())
