"""Model folders that another version wrote, or a stranger: they work, or are refused in one sentence."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.folder import ModelFolder
from trainer.layers import Standardise


def run(*flags: object) -> int:
    return main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of ``lstm`` beside its samples folder."""
    base = tmp_path_factory.mktemp("trained")
    write_fake(base / "samples", make_fake((30, 30)))
    flags = ["-i", base / "samples", "-o", base / "model", "--model", "lstm", "-e", 4, "-l", 0.02]
    assert run(*flags, "--model-config", '{"units": 8}', "--no-random-forest") == 0
    return base


def of_another_keras(trained: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the model folder whose Keras file says what another version might have written."""
    copy = shutil.copytree(trained / "model", folder / "copy")
    path = copy / "loss_model.keras"
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    metadata, config = json.loads(parts["metadata.json"]), json.loads(parts["config.json"])
    metadata["keras_version"] = "3.99.0"
    change(config)
    parts |= {"metadata.json": json.dumps(metadata).encode(), "config.json": json.dumps(config).encode()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return copy


def layers_of(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The configurations of all layers of one class, nested ones too."""
    found = []
    for layer in config["config"]["layers"]:
        found += layers_of(layer, kind) if "layers" in layer["config"] else []
        found += [layer["config"]] if layer["class_name"] == kind else []
    return found


def test_a_model_file_of_another_keras_works(trained: Path, tmp_path: Path) -> None:
    copy = of_another_keras(trained, tmp_path, lambda config: None)
    assert run("-i", trained / "samples", "-o", copy, "-n") == 0
    again = json.loads((copy / "evaluation" / "metrics.json").read_text())
    first = json.loads((copy / "metrics.json").read_text())
    assert again["confusion_matrix"] == first["confusion_matrix"]


def test_a_model_file_with_a_layer_this_keras_lacks_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(config: dict[str, Any]) -> None:
        for name in ("class_name", "registered_name"):
            config["config"]["layers"][1][name] = "LayerOfTheFuture"

    copy = of_another_keras(trained, tmp_path, rename)
    assert run("-i", trained / "samples", "-o", copy, "-n") == 1
    assert "loss_model.keras cannot be loaded with Keras" in capsys.readouterr().err


def test_a_model_file_that_this_keras_computes_otherwise_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_activation(config: dict[str, Any]) -> None:
        layers = layers_of(config, "Dense")
        assert layers[-1]["activation"] == "softmax"
        layers[-1]["activation"] = "sigmoid"

    copy = of_another_keras(trained, tmp_path, other_activation)
    assert run("-i", trained / "samples", "-o", copy, "-n") == 1
    assert "answers otherwise than when it was trained" in capsys.readouterr().err
    assert not (copy / "evaluation").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.update(numerics_version=99), "was made with numerics version 99"),
        (lambda raw: raw["preparation"].update(smoothing="savgol"), "it has preparation.smoothing, of which"),
    ],
)
def test_a_folder_of_another_version_is_refused(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    told: str,
) -> None:
    copy = shutil.copytree(trained / "model", tmp_path / "copy")
    raw = json.loads((copy / "model.json").read_text())
    change(raw)
    (copy / "model.json").write_text(json.dumps(raw))
    assert run("-i", trained / "samples", "-o", copy, "-n") == 1
    assert told in capsys.readouterr().err
    assert not (copy / "evaluation").exists()


def small_model(steps: int, standardised: bool) -> keras.Model:
    """A model of pixels with two bands and two classes."""
    inputs = keras.Input((steps, 1, 1, 2))
    series = Standardise()(inputs) if standardised else inputs
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(series)))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (small_model(6, standardised=False), "has no layer that standardises the bands"),
        (small_model(5, standardised=True), "takes (None, 5, 1, 1, 2) and gives (None, 2)"),
        (keras.Model([first := keras.Input((2,)), keras.Input((2,))], first), "it takes"),
    ],
    ids=["no layer", "other shape", "two inputs"],
)
def test_a_model_file_of_another_kind_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: keras.Model, told: str
) -> None:
    copy = shutil.copytree(trained / "model", tmp_path / "copy")
    ModelFolder(str(copy)).save_model(model, "loss")
    assert run("-i", trained / "samples", "-o", copy, "-n") == 1
    err = capsys.readouterr().err
    assert f"{copy}/loss_model.keras is not the model that model.json describes" in err
    assert told in err


def test_a_hostile_model_file_runs_no_code(trained: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    inputs = keras.Input((6, 1, 1, 2))
    outputs = keras.layers.Lambda(lambda x, path=str(marker): (Path(path).touch(), x)[1])(inputs)
    folder = ModelFolder(str(tmp_path))
    folder.save_model(keras.Model(inputs, outputs), "loss")
    marker.unlink(missing_ok=True)
    with pytest.raises(Exception, match="cannot be loaded with Keras"):
        folder.load_model("loss")
    assert not marker.exists()
