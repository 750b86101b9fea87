"""``lstm``: one recurrent layer over the series of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx


def build_lstm(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """LSTM over (T, B), last hidden state, dense softmax.

    Paper: S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9(8), 1997, with the
    forget gate of F. Gers et al., 2000. Deviation: the bands are standardised inside the model.
    """
    import keras

    from trainer.layers import Standardise

    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    series = Standardise(name="standardise")(inputs)
    series = keras.layers.Reshape((shape.time_steps, shape.bands), name="pixel")(series)
    state = keras.layers.LSTM(settings["units"], name="lstm")(series)
    outputs = keras.layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(
        state
    )
    return keras.Model(inputs, outputs, name="lstm")


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.lstm import fold_lstm

    return fold_lstm(model, shape, batch)


LSTM = Architecture(
    name="lstm",
    summary="one LSTM over the series of a pixel",
    build=build_lstm,
    defaults={"units": 256},
    fold=_fold,
    batch=512,
)
