"""From a trained Keras model to a serving folder, with a check that both give the same answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.engines import Engine, load_engine
from dlts_beam.engines.tensorflow import TensorFlowEngine
from dlts_beam.errors import DltsError
from dlts_beam.spec import ServingSpec
from dlts_beam.spec.model import MODEL_JSON
from trainer.models import Architecture, ModelShape
from trainer.serving.generic import convert_model
from trainer.serving.saved_model import export_saved_model
from trainer.serving.strips import serving_spec

if TYPE_CHECKING:
    import keras
    import onnx

    from trainer.layers import Standardise

MODEL_ONNX = "model.onnx"
TOLERANCE = 1e-4
KERAS_BATCH = 64  # patches given to Keras at once in the check: convolutions over patches take much memory

Strip = NDArray[np.float32]


def export_serving(
    model: keras.Model,
    architecture: Architecture,
    shape: ModelShape,
    folder: str,
    samples: NDArray[np.float32] | None = None,
    batch: int | None = None,
) -> ServingSpec:
    """Write ``model.onnx`` and ``saved_model/`` into a folder and check them against Keras.

    Args:
        model: a trained model of the architecture, built for ``shape``.
        architecture: its entry in the registry.
        shape: what it was built for (pixel models: patch 1).
        folder: the serving folder, local or gs://; files of that name are replaced.
        samples: prepared real series (n, T, P, P, B) to check on, beside random ones.
        batch: pixels per strip; by default what was measured to be fastest for the architecture.

    Returns:
        The shapes of the serving model, for ``model.json``.

    Raises:
        DltsError: if a serving model differs from Keras by more than 1e-4 anywhere, or gives NaN.
    """
    spec = serving_spec(shape, batch or architecture.batch)
    served = serving_model(model, architecture, shape, spec.batch)
    storage.write_bytes(storage.join(folder, MODEL_ONNX), served.SerializeToString())
    export_saved_model(model, spec, folder)
    check_serving(model, folder, spec, samples)
    return spec


def serving_model(
    model: keras.Model, architecture: Architecture, shape: ModelShape, batch: int
) -> onnx.ModelProto:
    """The ONNX model for strips of ``batch`` pixels: folded by hand or converted from Keras."""
    if architecture.fold is None:
        return convert_model(model, shape, batch)
    return architecture.fold(model, shape, batch)


def serving_digest(folder: str) -> str:
    """SHA-256 (hex) of the ONNX model in a serving folder."""
    return hashlib.sha256(storage.read_bytes(storage.join(folder, MODEL_ONNX))).hexdigest()


def check_serving(
    model: keras.Model, folder: str, spec: ServingSpec, samples: NDArray[np.float32] | None = None
) -> None:
    """Compare every engine with Keras on random strips and on real samples.

    The endpoint that tfx-bsl feeds is compared with TensorFlow's other one, on one strip. That for GPUs is
    not computed: it is the same function for a strip of 4096 pixels, which take a CPU too long for every
    export; a test of the engines compares it, and ``make gpu-check`` counts where a GPU decides otherwise.

    Raises:
        DltsError: if the largest difference of a probability is above 1e-4, or one is NaN.
    """
    for name in ("onnx", "tensorflow"):
        served = load_engine(folder, spec, name)
        worst, what = _largest_difference(model, served, spec, samples)
        _allow(worst, what, f"the serving model for {name} in {folder}")
        if isinstance(served, TensorFlowEngine):
            strip, _, what = next(_check_strips(model, spec, None))
            worst = float(np.abs(served.predict_bytes(strip) - served.predict(strip)).max())
            _allow(worst, what, f"the serving model for tfx-bsl in {folder}")


def _allow(worst: float, what: str, which: str) -> None:
    if not worst <= TOLERANCE:  # NaN is not
        raise DltsError(
            f"{which} differs from Keras by {worst:.2g} on {what}, where {TOLERANCE:g} is allowed: it was "
            "not exported correctly and must not be used"
        )


def check_loaded(
    model: keras.Model, path: str, folder: str, spec: ServingSpec, samples: NDArray[np.float32]
) -> None:
    """Compare a Keras model that was read from ``path`` with what was exported when it was trained.

    Another version of Keras may read a file without complaint and compute something else.

    Raises:
        DltsError: if the largest difference of a probability is above 1e-4, or one is NaN, or it is a model
            of another kind.
    """
    wanted = ((None, spec.time_steps, spec.patch, spec.patch, spec.bands), (None, spec.classes))
    shapes = _shapes(model)
    if shapes != wanted or _standardise(model, spec.bands) is None:
        found = "has no layer that standardises the bands"
        if shapes is None:
            found = "has no single input and output"
        elif shapes != wanted:
            found = f"takes {shapes[0]} and gives {shapes[1]}"
        raise DltsError(
            f"{path} is not the model that {MODEL_JSON} describes, which takes {wanted[0]}, standardises "
            f"it and gives {wanted[1]}: it {found}; restore the folder, or train again"
        )
    worst, what = _largest_difference(model, load_engine(folder, spec, "onnx"), spec, samples)
    if not worst <= TOLERANCE:
        raise DltsError(
            f"{path} answers otherwise than when it was trained: its probabilities differ by {worst:.2g} on "
            f"{what} from those of {storage.join(folder, MODEL_ONNX)}; it was changed, or this Keras is too "
            "far from the one that wrote it: restore the folder, or train again"
        )


def _shapes(model: keras.Model) -> tuple[Any, Any] | None:
    """Shapes of input and output; None where a stranger's model has none."""
    try:
        return tuple(model.input_shape), tuple(model.output_shape)
    except (AttributeError, TypeError, ValueError):
        return None


def _standardise(model: keras.Model, bands: int) -> Standardise | None:
    """The layer of the model that knows mean and scale of so many bands."""
    from trainer.layers import Standardise

    for layer in model._flatten_layers():
        if isinstance(layer, Standardise) and layer.built and layer.mean.shape[-1] == bands:
            return layer
    return None


def _largest_difference(
    model: keras.Model, served: Engine, spec: ServingSpec, samples: NDArray[np.float32] | None
) -> tuple[float, str]:
    """Between Keras and an engine; NaN if either gives NaN. And on what it was found."""
    found = (0.0, "any series")
    for strip, columns, what in _check_strips(model, spec, samples):
        wanted = _keras_answers(model, strip, columns, spec)
        worst = float(np.abs(served.predict(strip)[columns] - wanted).max())
        if not worst <= found[0]:
            found = (worst, what)
        if np.isnan(worst):
            break
    return found


def lay_out(samples: NDArray[np.float32], spec: ServingSpec) -> Iterator[tuple[Strip, NDArray[np.intp]]]:
    """Lay patch series (n, T, P, P, B) side by side in strips.

    Yields:
        Strips and, for each, the output columns that belong to the samples, in their order. The last strip is
        filled up with its first sample.
    """
    _, _, columns, _ = spec.strip_shape
    patch = spec.patch
    room = columns // patch
    for start in range(0, len(samples), room):
        some = samples[start : start + room]
        strip = np.empty(spec.strip_shape, np.float32)
        fill = np.tile(some[0], (1, 1, math.ceil(columns / patch), 1))
        strip[:] = fill[:, :, :columns]
        for place, sample in enumerate(some):
            strip[:, :, place * patch : (place + 1) * patch] = sample
        yield strip, np.arange(len(some)) * patch


def _check_strips(
    model: keras.Model, spec: ServingSpec, samples: NDArray[np.float32] | None
) -> Iterator[tuple[Strip, NDArray[np.intp], str]]:
    """Strips, the output columns to compare, and a name for them."""
    generator = np.random.default_rng(0)
    layer = _standardise(model, spec.bands)
    assert layer is not None  # every architecture of ours has one
    mean, scale = (np.asarray(weight) for weight in layer.get_weights()[2:])
    if layer.per_step:
        mean, scale = mean.mean(axis=(0, 1, 2)), scale.mean(axis=(0, 1, 2))
    columns = np.arange(spec.batch)
    for spread, what in ((1.0, "random series"), (6.0, "random series with extreme values")):
        noise = generator.standard_normal(spec.strip_shape, np.float32)
        yield (mean + spread * scale * noise).astype(np.float32), columns, what
    if samples is not None and len(samples):
        for strip, used in lay_out(np.asarray(samples, np.float32), spec):
            yield strip, used, "real samples"


def _keras_answers(
    model: keras.Model, strip: Strip, columns: NDArray[np.intp], spec: ServingSpec
) -> NDArray[np.float32]:
    """What the Keras model says about the patches at the given output columns."""
    patches = np.stack([strip[:, :, column : column + spec.patch] for column in columns])
    parts = [
        np.asarray(model(patches[start : start + KERAS_BATCH], training=False))
        for start in range(0, len(patches), KERAS_BATCH)
    ]
    return np.concatenate(parts)
