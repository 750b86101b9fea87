"""``lstm_fcn``: an LSTM beside convolutions over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras


def build_lstm_fcn(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """The last state of an LSTM and the mean over time of three convolutions, together into a softmax.

    Convolutions of ``filters``, twice as many, and ``filters`` kernels of 8, 5 and 3 dates, each with zero
    padding, batch norm and ReLU, then the mean over time; LSTM, dropout.

    Paper: F. Karim, S. Majumdar, H. Darabi and S. Chen, "LSTM fully convolutional networks for time series
    classification", IEEE Access 6, 2018. Deviations: the LSTM runs over time (there a "dimension shuffle"
    shows it the whole univariate series as one step), its dropout is 0.5 (there 0.8), bands are standardised
    inside the model.
    """
    import keras
    from keras import layers

    from trainer.layers import Standardise

    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    series = Standardise(name="standardise")(inputs)
    series = layers.Reshape((shape.time_steps, shape.bands), name="pixel")(series)
    state = layers.LSTM(settings["units"], name="lstm")(series)
    state = layers.Dropout(settings["dropout"], name="dropout")(state)
    conv = series
    for layer, (times, kernel) in enumerate(((1, 8), (2, 5), (1, 3))):
        conv = layers.Conv1D(times * settings["filters"], kernel, padding="same", name=f"conv{layer}")(conv)
        conv = layers.BatchNormalization(name=f"norm{layer}")(conv)
        conv = layers.ReLU(name=f"relu{layer}")(conv)
    conv = layers.GlobalAveragePooling1D(name="pool")(conv)
    both = layers.Concatenate(name="both")([state, conv])
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(both)
    return keras.Model(inputs, outputs, name="lstm_fcn")


LSTM_FCN = Architecture(
    name="lstm_fcn",
    summary="an LSTM and convolutions over the series of a pixel",
    build=build_lstm_fcn,
    defaults={"units": 128, "filters": 128, "dropout": 0.5},
)
