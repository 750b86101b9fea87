"""Small data and models that fit in a blink."""

from __future__ import annotations

import keras
import numpy as np

from trainer.devices import seed_everything
from trainer.feed import FitData
from trainer.layers import Standardise, Statistics, set_statistics


def make_data(count: int = 40, validation: int = 10) -> FitData:
    generator = np.random.default_rng(0)
    class_ids = np.arange(count) % 2
    series = generator.normal(0, 0.3, (count, 3, 1, 1, 1)).astype(np.float32)
    series[class_ids == 1, 1] += 2
    places = np.arange(count)
    return FitData(
        series=series,
        class_ids=class_ids,
        classes=2,
        training=places[validation:],
        validation=places[:validation],
        weights=np.ones(count, np.float32),
        scale=np.ones(1, np.float32),
    )


def make_model(data: FitData, seed: int = 2) -> keras.Model:
    seed_everything(seed, True)
    # Dense layers are traced in a tenth of an LSTM's time; dropout draws random numbers in training.
    layers = [
        Standardise(),
        keras.layers.Flatten(),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(data.classes, activation="softmax", name="softmax"),
    ]
    model = keras.Sequential([keras.Input(data.series.shape[1:]), *layers])
    set_statistics(model, Statistics.measure(data.series[data.training]))
    return model


def quiet(line: str) -> None:
    assert len(line) < 110
