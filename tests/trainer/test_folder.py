"""What a new training removes from a model folder, and what a wrong flag leaves in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer import run
from trainer.__main__ import main
from trainer.folder import ModelFolder

# All that train-model writes, and -n.
LEFT = (
    "model.json", "classes.csv", "metrics.json", "report.html", "history.csv", "confusion_matrix.png",
    "last_model.keras", "acc_model.keras", "loss_model.keras", "serving/loss/model.onnx",
    "log/train/events", "evaluation/metrics.json",
)  # fmt: skip


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mark", ["model.json", "splits.csv"])
def test_nothing_of_an_earlier_training_is_left(tmp_path: Path, mark: str) -> None:
    fill(tmp_path, mark, *LEFT[1:], "notes.txt")
    ModelFolder(str(tmp_path)).discard()
    assert set(files(tmp_path)) == {"notes.txt"} | ({mark} - {"model.json"})


def test_where_no_training_was_nothing_is_removed(tmp_path: Path) -> None:
    fill(tmp_path, "classes.csv", "report.html", "log/mine.txt", "evaluation/mine.txt")
    before = files(tmp_path)
    ModelFolder(str(tmp_path)).discard()
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--folds", "99"), "--folds must lie between 2 and"),
        (("--leave-out", "farm"), "--leave-out farm"),
        (("--leave-out", "year"), "without year 2018 there is no sample of class 0 to train on"),
        (("--model-config", '{"width": 65}'), "width must be even and a multiple of heads"),
        (("--model-config", '{"dropout": 50}'), "dropout must be a fraction"),
        (("--devices", "CPU:0,CPU:0"), "named more than once"),
        (("-s", "20240101123456"), "-s/--seed"),
    ],
)
def test_a_wrong_flag_leaves_a_finished_model_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], told: str
) -> None:
    fake = make_fake((12, 12))
    fake.kept["year"] = ["2019" if label else "2018" for label in fake.class_ids]
    write_fake(tmp_path / "s", fake)
    fill(tmp_path / "m", "splits.csv", *LEFT)
    before = files(tmp_path / "m")
    assert main(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "ltae", *flags]) == 1
    found = capsys.readouterr()
    assert told in found.err
    assert "is replaced" not in found.out
    assert files(tmp_path / "m") == before


def test_what_a_killed_training_had_begun_to_write_goes(tmp_path: Path) -> None:
    fill(tmp_path, "model.json", "serving/loss/model.onnx", ".tmp-0a1b2c3d-notes.txt")
    before = files(tmp_path)
    begun = ("checkpoint.npz", "loss_model.keras", "model.json", "splits.csv", "metrics.json")
    fill(tmp_path, *(f".tmp-0a1b2c3d-{name}" for name in begun), "serving/loss/.tmp-0a1b2c3d-model.onnx")
    ModelFolder(str(tmp_path)).clear_leftovers("checkpoint.npz")
    assert files(tmp_path) == before


def test_a_second_training_is_kept_out_of_the_folder_until_the_first_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake(tmp_path / "s", make_fake((12, 12)))
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "lstm", "-e", "1"]
    fill(tmp_path / "m", "splits.csv", *LEFT)
    before = files(tmp_path / "m")
    with ModelFolder(str(tmp_path / "m")).locked():
        assert main([*flags, "--no-random-forest"]) == 1
        assert "is being written by another run (process " in capsys.readouterr().err
    assert files(tmp_path / "m") == before


def test_the_folder_is_held_from_the_first_file_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fake(tmp_path / "s", make_fake((12, 12)))
    held: list[bool] = []

    def note(*_: object) -> None:
        held.append((tmp_path / "m/model.json.lock").exists())

    monkeypatch.setattr(run, "fit_splits", note)
    monkeypatch.setattr(run, "_write", note)
    assert main(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "lstm"]) == 0
    assert held == [True, True]
    assert set(files(tmp_path / "m")) == {"splits.csv"}
