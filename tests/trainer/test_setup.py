from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dlts_beam.errors import DltsError
from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.cli import parse_args
from trainer.feed import FitData
from trainer.folder import ModelFolder
from trainer.settings import FitSettings
from trainer.setup import Setup, fit_splits, make_setup, split_samples


@pytest.mark.parametrize(
    ("flags", "members"),
    [
        (("--model", "auto"), 3),
        (("--model", "auto", "--model-config", '{"ltae_width": 16}'), 3),
        (("--model", "auto", "--model-config", '{"members": 1}'), 1),
        (("--model", "auto", "--model-config", '{"members": 1}', "--members", "3"), 3),
        (("--model", "ltae_mlp", "--model-config", '{"members": 2}'), 2),
        (("--model", "ltae_mlp", "--model-config", '{"members": 2}', "--members", "4"), 4),
        (("--model", "ltae_mlp"), 1),
    ],
)
def test_the_user_says_how_many_members_there_are(
    tmp_path: Path, flags: tuple[str, ...], members: int
) -> None:
    write_fake(tmp_path / "s", make_fake((4, 4)))
    args = parse_args(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), *flags])
    assert make_setup(args).config["members"] == members


def test_the_model_says_how_many_members_it_has(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((8, 8)))
    config = {"members": 1, "ltae_width": 16, "mlp_units": 8, "forest_trees": 5}
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "auto", "--no-random-forest"]
    flags += ["-e", "1", "--min-updates", "0", "--model-config", json.dumps(config)]
    assert main(flags) == 0
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["config"]["members"] == model["settings"]["members"] == 1
    assert "members_given" not in model["settings"]


class StoppedError(Exception):
    """Ends a training before it begins."""


def given_to_training(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *flags: str
) -> tuple[Setup, keras.Model, FitData, FitSettings]:
    """What the training of ``mlp`` with these flags is given."""
    given: list[Any] = []

    def stop(model: keras.Model, data: FitData, settings: FitSettings, *_: object) -> None:
        given.extend((model, data, settings))
        raise StoppedError

    monkeypatch.setattr("trainer.setup.fit_model", stop)
    given_flags = ["-i", str(folder / "s"), "-o", str(folder / "m"), "--model", "mlp", *flags]
    args = parse_args([*given_flags, "--model-config", '{"units": 4}'])
    setup = make_setup(args)
    with pytest.raises(StoppedError):
        fit_splits(setup, split_samples(setup, args), ModelFolder(args.output_dir), str)
    return setup, *given


def test_weights_and_precision_reach_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = make_fake((24, 8))
    write_fake(tmp_path / "s", fake)
    lines = [f"{name},{0.25 if k % 3 else 1}" for k, name in enumerate(fake.ids)]
    (tmp_path / "s" / "quality.csv").write_text("\n".join(["id,quality", *lines]) + "\n")
    _, model, data, settings = given_to_training(monkeypatch, tmp_path)
    np.testing.assert_array_equal(data.weights, 1)
    assert (model.get_layer("dense0").compute_dtype, settings.mixed_precision) == ("float32", False)

    asked = ("--class-weights", "--quality-weights", "--mixed-precision")
    setup, model, data, settings = given_to_training(monkeypatch, tmp_path, *asked)
    assert (model.get_layer("dense0").compute_dtype, settings.mixed_precision) == ("float16", True)
    assert keras.mixed_precision.global_policy().name == "float32"  # what is built next is saved
    counts = np.bincount(data.class_ids[data.training])
    balanced = counts.sum() / 2 / counts[data.class_ids]
    assert set(setup.quality.tolist()) == {0.25, 1.0}
    np.testing.assert_allclose(data.weights, balanced * setup.quality, rtol=1e-6)


@pytest.mark.parametrize(
    ("flags", "days"),
    [((), [0, 16, 32, 48, 64, 80]), (("--timeline", "0/80/40", "--mixed-precision"), [0, 40, 80])],
)
def test_positions_of_the_trained_model_are_the_days_of_the_series(
    tmp_path: Path, flags: tuple[str, ...], days: list[int]
) -> None:
    write_fake(tmp_path / "s", make_fake((8, 8)))
    config = json.dumps({"width": 8, "heads": 2, "units": 4})
    given = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "ltae", "-e", "1", *flags]
    args = parse_args([*given, "--model-config", config])
    setup, folder = make_setup(args), ModelFolder(args.output_dir)
    fitted = fit_splits(setup, split_samples(setup, args), folder, log=lambda line: None)
    assert list(fitted.shape.days) == days
    assert list(folder.load_model("last").get_layer("days").days) == days


def test_a_training_that_memory_does_not_hold_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("trainer.setup.fit_model", exhaust)
    write_fake(tmp_path / "s", make_fake((8, 8)))
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "mlp", "--devices", "CPU"]
    assert main([*flags, "-b", "512", "--model-config", '{"units": 4}']) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: the memory does not hold the training of mlp (")
    assert "in batches of 512 on CPU:0: give smaller batches (-b)" in told


def test_series_are_shifted_by_less_than_their_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake(tmp_path / "s", make_fake((8, 8), steps=6))
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "lstm", "--time-shift"]
    assert main([*flags, "6"]) == 1
    told = "error: --time-shift must be below the number of time steps (6); got"
    assert f"{told} 6\n" in capsys.readouterr().err
    assert main([*flags, "2147483647"]) == 1
    assert f"{told} 2147483647\n" in capsys.readouterr().err
    assert make_setup(parse_args([*flags, "5"])).settings.time_shift == 5
    assert main([*flags, "3", "--timeline", "0/80/40"]) == 1
    assert "time steps (3); got 3" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--leave-out", "year")])
def test_a_class_without_any_quality_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    fake = make_fake((20, 20))
    fake.kept["year"] = [str(2010 + k % 2) for k in range(40)]
    folder = write_fake(tmp_path / "s", fake)
    # In cross-validation, class 1 weighs nothing as soon as 2010 is left out.
    poor = [label == 1 and (not flags or k % 2 == 1) for k, label in enumerate(fake.class_ids)]
    lines = [f"{name},{0 if worst else 1}" for name, worst in zip(fake.ids, poor, strict=True)]
    (tmp_path / "s" / "quality.csv").write_text("\n".join(["id,quality", *lines]) + "\n")
    given = ["-i", folder, "-o", str(tmp_path / "m"), "--model", "mlp", "--quality-weights", *flags]
    assert main(given) == 1
    told = capsys.readouterr()
    assert "all training samples of class class 1 have a quality of 0" in told.err
    assert "epoch" not in told.out
    assert list(tmp_path.glob("m/*")) == []


@pytest.mark.parametrize(("file", "kind"), [("samples.json", "samples"), ("series.json", "series")])
def test_a_folder_of_an_earlier_step_takes_no_model(tmp_path: Path, file: str, kind: str) -> None:
    write_fake(tmp_path / "s", make_fake((4, 4)))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / file).write_text("{}")
    args = parse_args(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "mlp"])
    with pytest.raises(DltsError, match=f"m is a {kind} folder: give the model one of its own with -o"):
        make_setup(args)


def test_no_more_observations_are_needed_than_there_can_be(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((4, 4), steps=6))
    given = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "mlp", "--min-valid"]
    assert make_setup(parse_args([*given, "6"])).preparation.min_valid == 6
    with pytest.raises(DltsError) as refused:
        make_setup(parse_args([*given, "7"]))
    assert str(refused.value) == (
        "--min-valid must be at most the number of time steps (6), or every map would be empty; got 7"
    )
    # A map that goes onto a timeline may be of a series with more images.
    assert make_setup(parse_args([*given, "7", "--timeline", "0/80/16"])).preparation.min_valid == 7
