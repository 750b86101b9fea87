"""``ltae_mlp``: pairs of temporal attention and dense layers, averaged in one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.models.architecture import Architecture
from trainer.models.ltae import LTAE, build_ltae
from trainer.models.mlp import MLP, build_mlp
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx


def build_ltae_mlp(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """``members`` pairs of one ``ltae`` and one ``mlp``; the mean of all their probabilities.

    The branches are models of their own inside this one (`trainer.models.branches_of`): they are trained one
    by one, each on its own loss, and only then averaged. Two kinds of network that err differently gain more
    together than a better one of either kind. Papers: those of the two branches.
    """
    import keras

    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    branches = pairs(shape, settings)
    mean = keras.layers.Average(dtype="float32", name="mean")([branch(inputs) for branch in branches])
    return keras.Model(inputs, mean, name="ltae_mlp")


def pairs(shape: ModelShape, settings: Mapping[str, Any]) -> list[keras.Model]:
    """``members`` times one ``ltae`` and one ``mlp``, of the sizes in ``settings``."""
    of_ltae = {name: settings[f"ltae_{name}"] for name in LTAE.defaults}
    of_mlp = {name: settings[f"mlp_{name}"] for name in MLP.defaults}
    branches = []
    for member in range(settings["members"]):
        branches.append(build_ltae(shape, of_ltae, name=f"ltae{member}"))
        branches.append(build_mlp(shape, of_mlp, name=f"mlp{member}"))
    return branches


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.ltae_mlp import fold_branches

    return fold_branches(model, shape, batch)


LTAE_MLP = Architecture(
    name="ltae_mlp",
    summary="pairs of temporal attention and dense layers over the series of a pixel, averaged",
    build=build_ltae_mlp,
    defaults={
        "members": 1,
        **{f"ltae_{name}": value for name, value in LTAE.defaults.items()},
        **{f"mlp_{name}": value for name, value in MLP.defaults.items()},
    },
    fold=_fold,
    batch=512,
)
