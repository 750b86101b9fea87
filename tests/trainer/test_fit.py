from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from dlts_beam.errors import DltsError
from tests.trainer.fits import make_data, make_model, quiet
from trainer import fit
from trainer.devices import seed_everything
from trainer.feed import FitData
from trainer.fit import fit_model
from trainer.folder import ModelFolder
from trainer.layers import Standardise, Statistics, set_statistics
from trainer.progress import Progress
from trainer.settings import FitSettings


def test_training_learns_and_writes_the_three_models(tmp_path: Path) -> None:
    data = make_data()
    model = make_model(data)
    folder = ModelFolder(str(tmp_path))
    (progress,) = fit_model(model, data, FitSettings(epochs=6, learning_rate=0.1), folder, quiet)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    losses = [float(row["val_loss"]) for row in rows]
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert progress.best_epoch == {
        "last": 6,
        "loss": 1 + int(np.argmin(losses)),
        "acc": 1 + int(np.argmax(accuracies)),
    }
    assert max(accuracies) == 1
    assert not (tmp_path / "checkpoint.npz").exists()  # a training without a name leaves none
    assert list((tmp_path / "log" / "train").iterdir())
    assert list((tmp_path / "log" / "validation").iterdir())
    truth = np.eye(2)[data.class_ids[data.validation]]
    saved = np.asarray(folder.load_model("loss")(data.series[data.validation]))
    loss = float(keras.losses.CategoricalCrossentropy()(truth, saved))
    assert loss == pytest.approx(min(losses), rel=1e-4)
    last = folder.load_model("last")
    for ours, theirs in zip(model.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_seed_gives_one_model(tmp_path: Path) -> None:
    data = make_data()
    found = []
    for name, seed in (("a", 2), ("b", 2), ("c", 3)):
        model = make_model(data, seed)
        fit_model(model, data, FitSettings(seed=seed, epochs=2), ModelFolder(str(tmp_path / name)), quiet)
        found.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def trained_weights(folder: Path, data: FitData, settings: FitSettings) -> np.ndarray:
    """All weights after a training on ``data``; the statistics are those of `make_data` whatever it holds."""
    model = make_model(make_data(16, 0))
    fit_model(model, data, settings, ModelFolder(str(folder)), quiet)
    return np.concatenate([weights.ravel() for weights in model.get_weights()])


ONE_EPOCH = FitSettings(epochs=1, learning_rate=0.05, batch_size=8)


@pytest.fixture(scope="module")
def plain_weights(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The weights after ``ONE_EPOCH``, with nothing else asked for."""
    return trained_weights(tmp_path_factory.mktemp("plain"), make_data(16, 0), ONE_EPOCH)


@pytest.mark.parametrize(
    "asked", [{"jitter": 0.5}, {"time_shift": 1}, {"drop_dates": 0.5}, {"label_smoothing": 0.2}]
)
def test_what_is_asked_for_changes_what_is_learned(
    tmp_path: Path, plain_weights: np.ndarray, asked: dict[str, Any]
) -> None:
    found = trained_weights(tmp_path, make_data(16, 0), replace(ONE_EPOCH, **asked))
    assert (found != plain_weights).any()


def test_nothing_is_learned_from_samples_that_weigh_nothing(
    tmp_path: Path, plain_weights: np.ndarray
) -> None:
    data = make_data(16, 0)
    weights = np.where(np.arange(16) < 6, 0, 1).astype(np.float32)
    light = replace(data, weights=weights)
    wrong = replace(light, class_ids=np.where(weights > 0, data.class_ids, 1 - data.class_ids))
    found = [
        trained_weights(tmp_path / name, given, ONE_EPOCH) for name, given in (("a", light), ("b", wrong))
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != plain_weights).any()


def test_without_validation_the_last_epoch_is_the_model(tmp_path: Path) -> None:
    data = make_data(30, 0)
    lines: list[str] = []
    (progress,) = fit_model(
        make_model(data), data, FitSettings(epochs=2), ModelFolder(str(tmp_path)), lines.append
    )
    assert progress.best_epoch == {"last": 2, "acc": 2, "loss": 2}
    assert len(lines) == 2
    assert "val_loss" not in lines[0]
    assert "val_loss" not in progress.history[0]


def test_a_nan_loss_names_epoch_and_batch_and_keeps_the_last_good_model(tmp_path: Path) -> None:
    data = make_data()
    folder = ModelFolder(str(tmp_path))
    with pytest.raises(DltsError, match=r"in epoch 1, batch \d: no epoch was finished"):
        fit_model(make_model(data), data, FitSettings(epochs=5, learning_rate=1e38), folder, quiet)
    assert not (tmp_path / "last_model.keras").exists()

    # Behind the ReLU of the hidden layer, what is not a number counts as 0, and the loss stays finite.
    for place, told in (("softmax", "epoch 3, batch 1"), ("hidden", "epoch 3, the weights")):
        model = make_model(data)
        kernel = model.get_layer(place).kernel

        def poison(line: str, kernel: keras.Variable = kernel) -> None:
            if line.startswith("epoch 2"):
                kernel.assign(np.full(kernel.shape, np.nan))

        with pytest.raises(DltsError, match=f"in {told}: the models up to epoch 2"):
            fit_model(model, data, FitSettings(epochs=5), folder, poison)
        for weights in folder.load_model("last").get_weights():
            assert np.isfinite(weights).all()
        assert (tmp_path / "history.csv").read_text().count("\n") == 3


class KilledError(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("kill_at", [1, 2, 4])
def test_killed_and_started_again_it_ends_with_the_same_weights(tmp_path: Path, kill_at: int) -> None:
    data = make_data()
    settings = FitSettings(
        epochs=4, learning_rate=0.05, lr_decay="plateau", jitter=0.1, time_shift=1, checkpoint_seconds=0
    )
    whole, folder = make_model(data), ModelFolder(str(tmp_path / "whole"))
    (wanted,) = fit_model(whole, data, settings, folder, quiet, key="one")

    folder = ModelFolder(str(tmp_path / "killed"))
    beginning: list[str] = []

    def kill(line: str) -> None:
        beginning.append(line)
        if len(beginning) == kill_at:
            raise KilledError  # before the checkpoint of this epoch

    with pytest.raises(KilledError):
        fit_model(make_model(data), data, settings, folder, kill, key="one")
    again, lines = make_model(data), []
    (found,) = fit_model(again, data, settings, folder, lines.append, key="one")
    assert len([line for line in lines if line.startswith("epoch")]) == 4 - (kill_at - 1)
    assert any("going on after epoch" in line for line in lines) == (kill_at > 1)
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.best_epoch == wanted.best_epoch
    for name in ("acc", "loss"):
        for ours, theirs in zip(found.best[name], wanted.best[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    drop = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in found.history] == [
        {k: v for k, v in row.items() if k not in drop} for row in wanted.history
    ]
    # What comes after the training may be killed too.
    third, lines = make_model(data), []
    (same,) = fit_model(third, data, settings, folder, lines.append, key="one")
    assert lines == ["an earlier run was stopped after its training: going on with what comes next"]
    assert (same.history, same.best_epoch) == (found.history, found.best_epoch)
    for ours, theirs in zip(third.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_of_another_training_is_left_alone(tmp_path: Path) -> None:
    data, folder = make_data(), ModelFolder(str(tmp_path))
    settings = FitSettings(epochs=2, checkpoint_seconds=0)

    def kill(line: str) -> None:
        if "2/2" in line:
            raise KilledError

    with pytest.raises(KilledError):
        fit_model(make_model(data), data, settings, folder, kill, key="one")
    lines: list[str] = []
    fit_model(make_model(data), data, settings, folder, lines.append, key="another")
    assert len(lines) == 2


def test_early_stopping_ends_the_training(tmp_path: Path) -> None:
    data = make_data()
    settings = FitSettings(epochs=50, learning_rate=5.0, early_stopping=2)
    lines: list[str] = []
    (progress,) = fit_model(make_model(data), data, settings, ModelFolder(str(tmp_path)), lines.append)
    assert len(progress.history) == progress.best_epoch["loss"] + 2 < 50
    assert "stopped early: no better val_loss in 2 epochs" in lines[-1]


def make_branches(data: FitData) -> tuple[keras.Model, list[keras.Model]]:
    """The mean of two small models, and these."""
    seed_everything(2, True)
    branches = []
    for name in ("left", "right"):
        inner = [Standardise(), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
        branches.append(keras.Sequential([keras.Input(data.series.shape[1:]), *inner], name=name))
    inputs = keras.Input(data.series.shape[1:])
    model = keras.Model(inputs, keras.layers.Average()([branch(inputs) for branch in branches]))
    set_statistics(model, Statistics.measure(data.series[data.training]))
    return model, branches


def test_branches_too_short_for_a_checkpoint_each_have_one_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    model, _ = make_branches(data)
    clock = itertools.count()  # a second passes whenever somebody looks
    monkeypatch.setattr(fit.time, "monotonic", lambda: float(next(clock)))
    saved: list[tuple[int, str]] = []

    def save(path: str, key: str, loop: object, done: Sequence[Progress], current: Progress) -> None:
        saved.append((len(done), current.branch))

    monkeypatch.setattr(fit, "_save", save)
    # An epoch looks three times, so that neither branch takes as long as the time between two checkpoints.
    settings = FitSettings(epochs=3, checkpoint_seconds=12)
    fit_model(model, data, settings, ModelFolder(str(tmp_path)), quiet)
    assert saved == [(1, "right")]


def test_branches_are_trained_one_by_one(tmp_path: Path) -> None:
    data = make_data()
    model, branches = make_branches(data)
    settings = FitSettings(epochs=3, learning_rate=0.05, optimizer="adamw", lr_decay="cosine", warmup=0.2)
    reached = fit_model(model, data, settings, ModelFolder(str(tmp_path)), quiet)
    assert [progress.branch for progress in reached] == ["left", "right"]
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [row["branch"] for row in rows] == ["left"] * 3 + ["right"] * 3
    assert float(rows[-1]["learning_rate"]) < 0.01
    for branch, progress in zip(branches, reached, strict=True):
        for ours, theirs in zip(branch.get_weights(), progress.best["last"], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    batch = data.series[:5]
    mean = (np.asarray(branches[0](batch)) + np.asarray(branches[1](batch))) / 2
    np.testing.assert_allclose(ModelFolder(str(tmp_path)).load_model("last")(batch), mean, rtol=1e-6)
