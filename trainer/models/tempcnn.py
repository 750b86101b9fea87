"""``tempcnn``: convolutions over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras


def build_tempcnn(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """Three convolutions over the dates of a pixel, one dense layer, softmax.

    Three times (``filters`` kernels of ``kernel`` dates, zero padding, batch norm, ReLU, dropout), flattened,
    dense, batch norm, ReLU, dropout, dense softmax.

    Paper: C. Pelletier, G. Webb and F. Petitjean, "Temporal convolutional neural network for the
    classification of satellite image time series", Remote Sensing 11(5), 2019. Deviations: the model itself
    clips each band and standardises it by its mean and standard deviation, and regularisation by weight decay
    is left to the optimiser.
    """
    import keras
    from keras import layers

    from trainer.layers import Standardise

    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    series = Standardise(name="standardise")(inputs)
    series = layers.Reshape((shape.time_steps, shape.bands), name="pixel")(series)
    for layer in range(3):
        conv = layers.Conv1D(settings["filters"], settings["kernel"], padding="same", name=f"conv{layer}")
        series = conv(series)
        series = layers.BatchNormalization(name=f"norm{layer}")(series)
        series = layers.ReLU(name=f"relu{layer}")(series)
        series = layers.Dropout(settings["dropout"], name=f"dropout{layer}")(series)
    values = layers.Flatten(name="flat")(series)
    values = layers.Dense(settings["units"], name="dense")(values)
    values = layers.BatchNormalization(name="norm")(values)
    values = layers.ReLU(name="relu")(values)
    values = layers.Dropout(settings["dropout"], name="dropout")(values)
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(values)
    return keras.Model(inputs, outputs, name="tempcnn")


TEMPCNN = Architecture(
    name="tempcnn",
    summary="convolutions over the series of a pixel",
    build=build_tempcnn,
    defaults={"filters": 64, "kernel": 5, "units": 256, "dropout": 0.5},
)
