from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.feed import FitData, steps_per_epoch, training_feed, validation_feed
from trainer.fit import FitSettings, fit_model, seed_everything
from trainer.folder import ModelFolder
from trainer.layers import Standardise, Statistics, set_statistics


def make_data(count: int = 40, validation: int = 10) -> FitData:
    generator = np.random.default_rng(0)
    class_ids = np.arange(count) % 2
    series = generator.normal(0, 0.3, (count, 3, 1, 1, 1)).astype(np.float32)
    series[class_ids == 1, 1] += 2
    places = np.arange(count)
    return FitData(series, class_ids, 2, places[validation:], places[:validation], np.ones(count, np.float32))


def make_model(data: FitData, seed: int = 2) -> keras.Model:
    seed_everything(seed)
    # Dense layers are traced in a tenth of an LSTM's time; dropout draws random numbers in training.
    layers = [
        Standardise(),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(data.classes, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input(data.series.shape[1:]), *layers])
    set_statistics(model, Statistics.measure(data.series[data.training]))
    return model


def quiet(line: str) -> None:
    assert len(line) < 110


def test_an_epoch_is_a_permutation_that_seed_and_number_decide() -> None:
    data = make_data(23, 3)

    def batches(first: int, last: int, seed: int = 2) -> list[np.ndarray]:
        return [x[:, :, 0, 0, 0] for x, _, _ in training_feed(data, seed, 6, first, last).as_numpy_iterator()]

    two = batches(0, 2)
    steps = steps_per_epoch(data, 6)
    assert [len(batch) for batch in two] == [6, 6, 6, 2] * 2
    first, second = np.concatenate(two[:steps]), np.concatenate(two[steps:])
    wanted = np.sort(data.series[data.training][:, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.sort(first[:, 0]), wanted)
    np.testing.assert_array_equal(np.sort(second[:, 0]), wanted)
    assert (first != second).any()
    np.testing.assert_array_equal(np.concatenate(batches(1, 2)), second)
    assert (np.concatenate(batches(0, 1, seed=3)) != first).any()


def test_mapped_series_give_the_same_batches(tmp_path: Path) -> None:
    data = make_data()
    mapped = np.memmap(tmp_path / "series", np.float32, "w+", shape=data.series.shape)
    mapped[:] = data.series
    other = FitData(mapped, data.class_ids, 2, data.training, data.validation, data.weights)
    for feed in (lambda d: training_feed(d, 2, 7, 0, 2), validation_feed):
        for ours, theirs in zip(feed(data), feed(other), strict=True):
            for left, right in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(left, right)


def test_training_learns_and_writes_the_three_models(tmp_path: Path) -> None:
    data = make_data()
    model = make_model(data)
    folder = ModelFolder(str(tmp_path))
    progress = fit_model(model, data, FitSettings(epochs=6, learning_rate=0.1), folder, quiet)
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


def test_without_validation_the_training_figures_choose(tmp_path: Path) -> None:
    data = make_data(30, 0)
    lines: list[str] = []
    progress = fit_model(
        make_model(data), data, FitSettings(epochs=2), ModelFolder(str(tmp_path)), lines.append
    )
    assert set(progress.best) == {"last", "acc", "loss"}
    assert len(lines) == 2
    assert "val_loss" not in lines[0]
    assert "val_loss" not in progress.history[0]


def test_a_nan_loss_names_epoch_and_batch_and_keeps_the_last_good_model(tmp_path: Path) -> None:
    data = make_data()
    folder = ModelFolder(str(tmp_path))
    with pytest.raises(DltsError, match=r"in epoch 1, batch \d: no epoch was finished"):
        fit_model(make_model(data), data, FitSettings(epochs=5, learning_rate=1e38), folder, quiet)
    assert not (tmp_path / "last_model.keras").exists()

    model = make_model(data)

    def poison(line: str) -> None:
        if line.startswith("epoch 2"):
            kernel = model.get_layer("hidden").kernel
            kernel.assign(np.full(kernel.shape, np.nan))

    with pytest.raises(DltsError, match=r"in epoch 3, batch 1: the models up to epoch 2"):
        fit_model(model, data, FitSettings(epochs=5), folder, poison)
    for weights in folder.load_model("last").get_weights():
        assert np.isfinite(weights).all()
    assert (tmp_path / "history.csv").read_text().count("\n") == 3


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(DltsError, match="must be"):
        FitSettings(**wrong)  # type: ignore[arg-type]
