"""``transformer``: self-attention over the dates of one pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras


def build_transformer(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """Embedded dates, ``layers`` encoder layers of self-attention, maximum over time, softmax.

    Dense ``width``, layer normalisation, plus sine and cosine of the days since the first date (base 1000);
    each encoder layer adds attention of ``heads`` heads, then two dense layers (``hidden``, ReLU, ``width``),
    with layer normalisation before both; layer normalisation, maximum over time, dense softmax.

    Papers: A. Vaswani et al., "Attention is all you need", NeurIPS 2017; M. Rußwurm and M. Körner,
    "Self-attention for raw optical satellite time series classification", ISPRS Journal 169, 2020.
    Deviations: positions are days, not step numbers; normalisation before instead of after each part (it
    trains without warm-up); two layers instead of three.

    Raises:
        DltsError: if ``width`` is odd or no multiple of ``heads``.
    """
    import keras
    from keras import layers

    from dlts_beam.errors import DltsError
    from trainer.layers import AddDays, Standardise

    width, heads, dropout = settings["width"], settings["heads"], settings["dropout"]
    if width % heads or width % 2:
        raise DltsError(f"transformer: width must be even and a multiple of heads; got {width} and {heads}")
    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    series = Standardise(name="standardise")(inputs)
    series = layers.Reshape((shape.time_steps, shape.bands), name="pixel")(series)
    series = layers.Dense(width, name="embed")(series)
    series = layers.LayerNormalization(name="embed_norm")(series)
    series = AddDays(shape.days, name="days")(series)
    for layer in range(settings["layers"]):
        seen = layers.LayerNormalization(name=f"attention_norm{layer}")(series)
        attention = layers.MultiHeadAttention(
            heads, width // heads, dropout=dropout, name=f"attention{layer}"
        )
        series = layers.Add(name=f"add{layer}a")([series, attention(seen, seen)])
        seen = layers.LayerNormalization(name=f"dense_norm{layer}")(series)
        seen = layers.Dense(settings["hidden"], activation="relu", name=f"hidden{layer}")(seen)
        seen = layers.Dense(width, name=f"dense{layer}")(seen)
        seen = layers.Dropout(dropout, name=f"dropout{layer}")(seen)
        series = layers.Add(name=f"add{layer}b")([series, seen])
    series = layers.LayerNormalization(name="norm")(series)
    values = layers.GlobalMaxPooling1D(name="pool")(series)
    outputs = layers.Dense(shape.classes, activation="softmax", dtype="float32", name="probabilities")(values)
    return keras.Model(inputs, outputs, name="transformer")


TRANSFORMER = Architecture(
    name="transformer",
    summary="self-attention over the series of a pixel",
    build=build_transformer,
    defaults={"width": 64, "heads": 4, "hidden": 128, "layers": 2, "dropout": 0.1},
)
