"""The architectures, one per file, behind one registry.

A new architecture is one new file and one line in ``ARCHITECTURES``. Nothing here loads Keras before a model
is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dlts_beam.errors import DltsError
from trainer.models.architecture import Architecture
from trainer.models.conv_bilstm import CONV_BILSTM
from trainer.models.lstm import LSTM
from trainer.models.lstm_fcn import LSTM_FCN
from trainer.models.ltae import LTAE
from trainer.models.ltae_mlp import LTAE_MLP
from trainer.models.ltae_mlp_forest import LTAE_MLP_FOREST
from trainer.models.mlp import MLP
from trainer.models.shape import ModelShape
from trainer.models.tempcnn import TEMPCNN
from trainer.models.transformer import TRANSFORMER
from trainer.recipes import AUTO

if TYPE_CHECKING:
    import keras

__all__ = ["ARCHITECTURES", "Architecture", "ModelShape", "branches_of", "build_model", "find_architecture"]

ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        CONV_BILSTM,
        LSTM,
        LSTM_FCN,
        LTAE,
        LTAE_MLP,
        LTAE_MLP_FOREST,
        MLP,
        TEMPCNN,
        TRANSFORMER,
    )
}


def find_architecture(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        DltsError: if there is none; the sentence lists those there are.
    """
    if name not in ARCHITECTURES:
        raise DltsError(f"unknown model {name!r}; there are: {', '.join(ARCHITECTURES)}; and {AUTO}")
    return ARCHITECTURES[name]


def build_model(name: str, shape: ModelShape, settings: Mapping[str, Any] | None = None) -> keras.Model:
    """An uncompiled model of the named architecture.

    Args:
        name: its name in the registry.
        shape: the shape of the samples; a pixel model is built with patch 1 whatever their patch is.
        settings: values in place of the architecture's defaults.

    Returns:
        A model that takes float32 ``(batch, T, P, P, B)`` in physical units and gives float32 ``(batch, K)``.

    Raises:
        DltsError: for an unknown name or setting, a patch that is too small, or sizes that no model can have
            or that the memory does not hold.
    """
    import tensorflow as tf

    architecture = find_architecture(name)
    fitted, sizes = architecture.fit_shape(shape), architecture.settings(settings)
    try:
        return architecture.build(fitted, sizes)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise _unbuildable(name, sizes, "the memory does not hold it") from error
    except (ValueError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")  # then comes where in Keras it happened
        raise _unbuildable(name, sizes, reason[:200]) from error


def _unbuildable(name: str, sizes: Mapping[str, Any], reason: str) -> DltsError:
    told = ", ".join(f"{size} {value:,}" for size, value in sizes.items())
    return DltsError(f"{name} cannot be built with {told} ({reason}): give other sizes with --model-config")


def branches_of(model: keras.Model) -> list[keras.Model]:
    """The models inside a model that are trained one by one; the model itself where there are none.

    They share their weights with the model, so training them trains it. One that holds trees is grown instead
    (`trainer.forest`).
    """
    import keras

    return [layer for layer in model.layers if isinstance(layer, keras.Model)] or [model]
