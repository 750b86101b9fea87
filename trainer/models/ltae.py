"""``ltae``: lightweight temporal attention over the series of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx


def build_ltae(shape: ModelShape, settings: Mapping[str, Any], name: str = "ltae") -> keras.Model:
    """Embedded dates, one fixed learned query for each head, one dense layer, softmax.

    Bands and their first differences, dense ``width``, layer normalisation, plus sine and cosine of the days
    since the first date (base 1000), dense ``width``; dense ``heads`` and softmax over time give each head's
    attention, with which it averages its own ``width / heads`` channels; dense, batch norm, ReLU, dropout,
    dense softmax.

    Paper: V. Sainte Fare Garnot and L. Landrieu, "Lightweight temporal self-attention for classifying
    satellite image time series", AALTD 2020. Deviations: single pixels instead of sets of pixels, first
    differences beside the bands, keys and queries as one dense layer (nothing lies between them), heads
    average the second embedding that is also the source of the scores, one dense layer after the heads.

    Raises:
        DltsError: if ``width`` is odd or no multiple of ``heads``.
    """
    import keras
    from keras import layers

    from dlts_beam.errors import DltsError
    from trainer.layers import AddDays, HeadAverage, Standardise, WithDifferences

    width, heads = settings["width"], settings["heads"]
    if width % heads or width % 2:
        raise DltsError(f"ltae: width must be even and a multiple of heads; got {width} and {heads}")
    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    series = Standardise(name="standardise")(inputs)
    series = layers.Reshape((shape.time_steps, shape.bands), name="pixel")(series)
    series = WithDifferences(name="differences")(series)
    series = layers.Dense(width, name="embed")(series)
    series = layers.LayerNormalization(name="embed_norm")(series)
    series = AddDays(shape.days, name="days")(series)
    series = layers.Dense(width, name="values")(series)
    attention = layers.Dense(heads, name="scores")(series)
    attention = layers.Softmax(axis=1, name="attention")(attention)
    attention = layers.Dropout(settings["attention_dropout"], name="attention_dropout")(attention)
    pooled = HeadAverage(name="heads")([series, attention])
    pooled = layers.Dense(settings["units"], name="dense")(pooled)
    pooled = layers.BatchNormalization(name="norm")(pooled)
    pooled = layers.ReLU(name="relu")(pooled)
    pooled = layers.Dropout(settings["dropout"], name="dropout")(pooled)
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(pooled)
    return keras.Model(inputs, outputs, name=name)


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.ltae_mlp import fold_branches

    return fold_branches(model, shape, batch)


LTAE = Architecture(
    name="ltae",
    summary="lightweight temporal attention over the series of a pixel",
    build=build_ltae,
    defaults={"width": 64, "heads": 8, "units": 128, "attention_dropout": 0.1, "dropout": 0.3},
    fold=_fold,
    batch=512,
)
