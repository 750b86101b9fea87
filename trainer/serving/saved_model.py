"""SavedModels that take strips, for the TensorFlow engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dlts_beam import storage
from dlts_beam.spec import ServingSpec

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "saved_model"
ENDPOINT = "serve"


def strip_function(model: keras.Model, spec: ServingSpec) -> Callable[[Any], Any]:
    """A function of TensorFlow that cuts a strip into its patches and gives the Keras model's answers."""
    import tensorflow as tf

    def serve(strip: Any) -> Any:
        columns = [strip[:, :, column : column + spec.batch] for column in range(spec.patch)]
        patches = tf.transpose(tf.stack(columns, axis=3), (2, 0, 1, 3, 4))
        return model(patches, training=False)

    return serve


def export_saved_model(model: keras.Model, spec: ServingSpec, folder: str) -> None:
    """Write ``saved_model/`` into the folder, with one endpoint: strip in, probabilities out.

    The endpoint cuts the strip into patches and calls the Keras model, so that it holds for every
    architecture. TensorFlow writes to local scratch; the files go on through `dlts_beam.storage`.
    """
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = tf.TensorSpec(spec.strip_shape, tf.float32, name="strip")
    archive.add_endpoint(ENDPOINT, strip_function(model, spec), input_signature=[signature])
    with tempfile.TemporaryDirectory() as scratch:
        archive.write_out(scratch, verbose=False)
        target = storage.join(folder, SAVED_MODEL)
        storage.remove_tree(target)
        for place, _, names in os.walk(scratch):
            for name in sorted(names):
                local = os.path.join(place, name)
                inside = os.path.relpath(local, scratch).split(os.sep)
                storage.upload(local, storage.join(target, *inside))
