"""``ltae_mlp_forest``: pairs of temporal attention and dense layers, and a random forest, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlts_beam.errors import DltsError
from trainer.models.architecture import Architecture
from trainer.models.ltae_mlp import LTAE_MLP, pairs
from trainer.models.shape import ModelShape

if TYPE_CHECKING:
    import keras
    import onnx

FOREST_SHARE = 1 / 3  # of the mean; the two kinds of network have as much each
MOST_DEPTH = 16
MOST_LEAVES = 2**21  # some hundred megabytes of weights


def build_ltae_mlp_forest(shape: ModelShape, settings: Mapping[str, Any]) -> keras.Model:
    """The mean of ``ltae``, ``mlp`` and a random forest: ``members`` pairs of networks, and one forest.

    Paper: L. Breiman, Random Forests, Machine Learning 45 (2001), 5-32; those of the networks are with them.
    The forest is a branch like the others, only grown instead of trained by gradients, with scikit-learn's
    defaults save its size (`trainer.forest`). It errs differently from networks: inside the training folds
    of five sets the mean gained by it in every one (docs/accuracy.md). One forest of 100 trees does as well
    in the mean as larger ones, at a fraction of the time.

    Raises:
        DltsError: if the trees would be deeper than 16 splits, or too many.
    """
    import keras

    from trainer.layers import Trees

    if settings["forest_depth"] > MOST_DEPTH:
        raise DltsError(
            f"ltae_mlp_forest: forest_depth must be at most {MOST_DEPTH}; got {settings['forest_depth']} "
            "(every further level doubles the model)"
        )
    leaves = settings["forest_trees"] * 2 ** settings["forest_depth"]
    if leaves > MOST_LEAVES:
        raise DltsError(
            f"ltae_mlp_forest: {settings['forest_trees']} trees of depth {settings['forest_depth']} have "
            f"room for {leaves:,} leaves, and the model would be too large: keep below {MOST_LEAVES:,}"
        )
    inputs = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    networks = keras.layers.Average(dtype="float32", name="networks")(
        [branch(inputs) for branch in pairs(shape, settings)]
    )
    series = keras.Input((shape.time_steps, 1, 1, shape.bands), name="series")
    flat = keras.layers.Flatten(dtype="float32", name="flat")(series)
    trees = Trees(settings["forest_trees"], settings["forest_depth"], shape.classes, name="trees")
    forest = keras.Model(series, trees(flat), name="forest")
    mean = keras.layers.Average(dtype="float32", name="mean")([networks, networks, forest(inputs)])
    return keras.Model(inputs, mean, name="ltae_mlp_forest")


def _fold(model: keras.Model, shape: ModelShape, batch: int) -> onnx.ModelProto:
    from trainer.serving.ltae_mlp import fold_branches

    return fold_branches(model, shape, batch, FOREST_SHARE)


LTAE_MLP_FOREST = Architecture(
    name="ltae_mlp_forest",
    summary="pairs of temporal attention and dense layers, and a random forest, averaged",
    build=build_ltae_mlp_forest,
    defaults={**LTAE_MLP.defaults, "forest_trees": 100, "forest_depth": 8},
    fold=_fold,
    batch=LTAE_MLP.batch,
)
