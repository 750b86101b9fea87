"""``conv_bilstm``: convolutions over the patch beside a bidirectional LSTM over its centre."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx


def build_conv_bilstm(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """Two convolutions over the patch, a bidirectional LSTM over the centre pixel, two dense layers.

    The network of the 2018 project dl-time-series. Convolution branch: ``filters`` kernels of 3 x 3 pixels
    and ``depth`` dates with zero padding in space and time, then ``filters`` kernels of 3 x 3 pixels and one
    date without padding, no activation between the two, batch normalisation, ReLU, and all
    (T, P - 2, P - 2, filters) flattened. Series branch: the centre's (T, B), batch normalisation,
    bidirectional LSTM with all its steps, flattened. Both together: dense ReLU, dropout, dense ReLU, dense
    softmax.

    Deviations: K softmax outputs (there: two sigmoids), bands standardised inside the model, and any odd
    patch from 3 up.
    """
    import keras
    from keras import layers

    from trainer.convolutions import TwoConvolutions
    from trainer.layers import Standardise

    centre = shape.patch // 2
    inputs = keras.Input((shape.time_steps, shape.patch, shape.patch, shape.bands), name="series")
    patches = Standardise(name="standardise")(inputs)

    conv = TwoConvolutions(settings["filters"], settings["depth"], name="convolutions")(patches)
    conv = layers.BatchNormalization(name="conv_norm")(conv)
    conv = layers.ReLU(name="conv_relu")(conv)
    conv = layers.Flatten(name="conv_flat")(conv)

    pixel = layers.Cropping3D((0, centre, centre), name="centre")(patches)
    pixel = layers.Reshape((shape.time_steps, shape.bands), name="pixel")(pixel)
    pixel = layers.BatchNormalization(name="pixel_norm")(pixel)
    pixel = layers.Bidirectional(layers.LSTM(settings["units"], return_sequences=True), name="bilstm")(pixel)
    pixel = layers.Flatten(name="pixel_flat")(pixel)

    both = layers.Concatenate(name="both")([conv, pixel])
    both = layers.Dense(settings["dense1"], activation="relu", name="dense1")(both)
    both = layers.Dropout(settings["dropout"], name="dropout")(both)
    both = layers.Dense(settings["dense2"], activation="relu", name="dense2")(both)
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(both)
    return keras.Model(inputs, outputs, name="conv_bilstm")


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.conv_bilstm import fold_conv_bilstm

    return fold_conv_bilstm(model, shape, batch)


CONV_BILSTM = Architecture(
    name="conv_bilstm",
    summary="two convolutions over the patch and a bidirectional LSTM over its centre",
    build=build_conv_bilstm,
    defaults={"filters": 256, "depth": 5, "units": 256, "dense1": 256, "dense2": 64, "dropout": 0.3},
    needs_patch=True,
    min_patch=3,
    fold=_fold,
)
