from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.model_folder import (
    find_saved_model,
    local_saved_model,
    model_digest,
    read_onnx,
    saved_model_digest,
)
from tests.dlts_beam.test_fit_rule import every, series_of
from tests.fakes import make_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model", series_of(every("2020-01-01", 10, 2)), names=("loss", "acc"))


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ("", "loss"),
        ("/", "loss"),
        ("/acc_model.keras", "acc"),
        ("/loss_model.keras", "loss"),
        ("/serving/acc", "acc"),
    ],
)
def test_a_folder_or_one_model_in_it(folder: Path, named: str, name: str) -> None:
    found = find_saved_model(f"{folder}{named}")
    assert (found.folder, found.name) == (str(folder), name)
    assert found.serving == str(folder / "serving" / name)


@pytest.mark.parametrize("named", ["last_model.keras", "best_model.keras"])
def test_a_model_that_is_not_there_is_told(folder: Path, named: str) -> None:
    with pytest.raises(DltsError, match=r"it has acc_model\.keras, loss_model\.keras"):
        find_saved_model(str(folder / named))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DltsError, match=r"is not a model folder: there is no model\.json"):
        find_saved_model(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"numerics_version": 99}, "was made with numerics version 99"),
        ({"smoothing": "savgol"}, "was made by a newer version: it has smoothing"),
    ],
)
def test_a_folder_of_another_version_is_refused(folder: Path, changes: dict[str, object], told: str) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DltsError, match=rf"^the model spec {path} {told}"):
        find_saved_model(str(folder))


def test_the_digest_is_that_of_the_bytes_and_a_swap_is_refused(folder: Path) -> None:
    model = find_saved_model(str(folder))
    assert model_digest(model, "onnx") == model.spec.serving_sha256["loss"]
    path = folder / "serving" / "loss" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DltsError, match="it was damaged or replaced after the training"):
        model_digest(model, "onnx")


def test_the_digest_for_tensorflow_covers_every_file(folder: Path) -> None:
    model = find_saved_model(str(folder))
    with pytest.raises(DltsError, match="the engine tensorflow needs"):
        model_digest(model, "tensorflow")
    saved = folder / "serving" / "loss" / "saved_model" / "variables"
    saved.mkdir(parents=True)
    (saved / "a").write_bytes(b"1")
    first = model_digest(model, "tensorflow")
    (saved / ".DS_Store").write_bytes(b"what a file manager left")
    assert model_digest(model, "tensorflow") == first
    (saved / "b").write_bytes(b"2")
    assert model_digest(model, "tensorflow") != first


def test_a_swapped_saved_model_is_refused_where_its_digest_was_kept(folder: Path) -> None:
    saved = folder / "serving" / "loss" / "saved_model"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"1")
    (saved / "variables" / "a").write_bytes(b"2")
    old = find_saved_model(str(folder))
    digest = model_digest(old, "tensorflow")
    assert digest == saved_model_digest(old.serving)
    kept = replace(old, spec=replace(old.spec, saved_model_sha256={"loss": digest}))
    assert model_digest(kept, "tensorflow") == digest
    (saved / "variables" / "a").write_bytes(b"3")
    assert model_digest(old, "tensorflow") != digest
    for engine in ("tensorflow", "tfx-bsl"):
        with pytest.raises(DltsError, match=rf"^{saved} is not the model that model\.json describes"):
            model_digest(kept, engine)
    unnamed = replace(old, spec=replace(old.spec, saved_model_sha256={"acc": digest}))
    with pytest.raises(DltsError, match="is not the model that"):
        model_digest(unnamed, "tensorflow")


CHANGED = "changed while the run was on its way: leave it as it is and run the command again"


def test_an_onnx_model_that_was_replaced_since_is_refused(folder: Path) -> None:
    model = find_saved_model(str(folder))
    path = folder / "serving" / "loss" / "model.onnx"
    digest = model_digest(model, "onnx")
    assert read_onnx(model.serving, digest) == read_onnx(model.serving) == path.read_bytes()
    path.write_bytes(b"another")
    assert read_onnx(model.serving) == b"another"
    with pytest.raises(DltsError, match=f"^the model {path} {CHANGED}$"):
        read_onnx(model.serving, digest)


def test_a_saved_model_is_loaded_from_the_bytes_of_its_digest(folder: Path) -> None:
    """Or not at all; without a digest from where it lies."""
    model = find_saved_model(str(folder))
    saved = folder / "serving" / "loss" / "saved_model"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"1")
    (saved / "variables" / "a").write_bytes(b"2")
    digest = model_digest(model, "tensorflow")
    with local_saved_model(model.serving) as path:
        assert path == str(saved)
    with local_saved_model(model.serving, digest) as path:
        (saved / "variables" / "a").write_bytes(b"3")
        copy = Path(path)
        assert [(copy / name).read_bytes() for name in ("saved_model.pb", "variables/a")] == [b"1", b"2"]
    assert not copy.exists()
    with pytest.raises(DltsError, match=f"^the model {saved} {CHANGED}$"), local_saved_model(
        model.serving, digest
    ):
        pass


@pytest.mark.parametrize("name", ["nothere.keras", "serving", "serving/loss/model.onnx"])
def test_a_place_inside_a_model_folder_is_told_from_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(DltsError, match="is no saved model: give the model folder, ") as told:
        find_saved_model(str(tmp_path / name))
    assert str(told.value).endswith(f"such as {tmp_path}/loss_model.keras")
