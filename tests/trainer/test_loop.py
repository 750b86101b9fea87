"""The loop itself: what it measures, and what must not depend on how it goes about it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from tests.trainer.fits import make_data, quiet
from trainer import loop as under_test
from trainer.devices import Devices, seed_everything
from trainer.feed import FitData, training_feed
from trainer.fit import fit_model
from trainer.folder import ModelFolder
from trainer.layers import Standardise, Statistics, set_statistics
from trainer.loop import Loop
from trainer.models import ARCHITECTURES, ModelShape, build_model
from trainer.settings import FitSettings

ALONE = Devices(("CPU:0",))


def make_twins(data: FitData) -> keras.Model:
    """The mean of two branches that differ in nothing but their initial weights and random states."""
    seed_everything(2, True)
    branches = []
    for name in ("left", "right"):
        inner = [
            Standardise(name="standardise"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(4, name="dense"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(0.3, name="dropout"),
            keras.layers.Dense(2, activation="softmax", name="out"),
        ]
        branches.append(keras.Sequential([keras.Input(data.series.shape[1:], name="in"), *inner], name=name))
    inputs = keras.Input(data.series.shape[1:])
    model = keras.Model(inputs, keras.layers.Average()([branch(inputs) for branch in branches]))
    set_statistics(model, Statistics.measure(data.series[data.training]))
    return model


@pytest.mark.parametrize("change", ["a graph for each branch", "a call for each batch"])
def test_neither_shared_graphs_nor_long_calls_change_a_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    data = make_data()
    settings = FitSettings(epochs=3, learning_rate=0.05, optimizer="adamw", batch_size=4)
    made: list[Loop] = []
    whole = under_test.Loop.__init__

    def count(self: Loop, *args: object) -> None:
        made.append(self)
        whole(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(under_test.Loop, "__init__", count)
    models = [make_twins(data), make_twins(data)]
    found = [fit_model(models[0], data, settings, ModelFolder(str(tmp_path / "a")), quiet)]
    assert len(made) == 1
    if change == "a graph for each branch":
        monkeypatch.setattr(under_test.Loop, "fits", lambda self, model: False)
    else:
        monkeypatch.setattr(under_test, "CALL_SECONDS", 0.0)
    found.append(fit_model(models[1], data, settings, ModelFolder(str(tmp_path / "b")), quiet))
    assert len(made) == (3 if change == "a graph for each branch" else 2)
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    left, right = ([{**row, "seconds": 0} for one in reached for row in one.history] for reached in found)
    assert left == right
    assert left[0]["loss"] != left[3]["loss"]  # the twins are no copies


def test_it_measures_the_mean_over_samples_and_the_rate_after_the_last_update() -> None:
    data = make_data(23, 0)
    model = make_twins(data)
    loop = Loop(model, FitSettings(lr_decay="cosine", learning_rate=0.1), 8, ALONE)
    found, rate = loop.run(iter(training_feed(data, 2, 6, 0, 1)), 4, training=False)
    probabilities = np.asarray(model(data.series))
    own = probabilities[np.arange(23), data.class_ids]
    assert found["loss"] == pytest.approx(float(-np.log(own).mean()), rel=1e-5)
    assert found["accuracy"] == pytest.approx((probabilities.argmax(1) == data.class_ids).mean())
    assert rate == pytest.approx(0.1)
    _, rate = loop.run(iter(training_feed(data, 2, 6, 0, 1)), 4, training=True)
    assert rate == pytest.approx(0.05)  # half of the way down


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_learns_from_long_series_of_one_band(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    patch = 3 if ARCHITECTURES[name].needs_patch else 1
    class_ids = np.arange(40) % 2
    series = generator.normal(900, 100, (40, 150, patch, patch, 1)).astype(np.float32)
    series[class_ids == 1] += 200
    places = np.arange(40)
    data = FitData(series, class_ids, 2, places, places[:0], np.ones(40, np.float32), np.ones(1, np.float32))
    small = {
        key: 8 for key, value in ARCHITECTURES[name].defaults.items() if isinstance(value, int) and value > 8
    }
    seed_everything(2, True)
    model = build_model(name, ModelShape(150, 1, patch, 2), small)
    set_statistics(model, Statistics.measure(series))
    settings = FitSettings(epochs=4, learning_rate=0.01, optimizer="adamw", batch_size=8)
    for progress in fit_model(model, data, settings, ModelFolder(str(tmp_path)), quiet):
        losses = [row["loss"] for row in progress.history]
        assert np.isfinite(losses).all()
        before = losses[0] if len(losses) > 1 else np.log(2)  # a forest has one epoch; a guess loses log 2
        assert losses[-1] < 0.8 * before
