"""``mlp``: dense layers over the flattened series of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx


def build_mlp(shape: ModelShape, settings: Mapping[str, Any], name: str = "mlp") -> keras.Model:
    """Standardised per band and date, ``layers`` times (dense, batch norm, ReLU, dropout), softmax.

    A plain multilayer perceptron, as in the comparisons of Z. Wang et al., "Time series classification from
    scratch with deep neural networks", IJCNN 2017. Deviations: by default two layers of 256 units (there:
    three of 500), batch normalisation, and Gaussian noise on the inputs in training instead of dropout. Each
    date has weights of its own, so clouds that were not masked harm it more than they harm others.
    """
    import keras
    from keras import layers

    from trainer.layers import Standardise

    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    values = Standardise(per_step=True, name="standardise")(inputs)
    values = layers.Flatten(name="flat")(values)
    values = layers.GaussianNoise(settings["noise"], name="noise")(values)
    for layer in range(settings["layers"]):
        values = layers.Dense(settings["units"], name=f"dense{layer}")(values)
        values = layers.BatchNormalization(name=f"norm{layer}")(values)
        values = layers.ReLU(name=f"relu{layer}")(values)
        values = layers.Dropout(settings["dropout"], name=f"dropout{layer}")(values)
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(values)
    return keras.Model(inputs, outputs, name=name)


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.ltae_mlp import fold_branches

    return fold_branches(model, shape, batch)


MLP = Architecture(
    name="mlp",
    summary="dense layers over the flattened series of a pixel",
    build=build_mlp,
    defaults={"layers": 2, "units": 256, "dropout": 0.5, "noise": 0.1},
    fold=_fold,
    batch=512,
)
