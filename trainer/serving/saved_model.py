"""SavedModels that take strips, for the engines of TensorFlow and tfx-bsl."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlts_beam import storage
from dlts_beam.spec import ServingSpec

if TYPE_CHECKING:
    import keras

SAVED_MODEL = "saved_model"
ENDPOINT = "serve"
# The same for one strip as a string of bytes: all that tfx-bsl can feed to a model.
BYTES_ENDPOINT = "serve_bytes"
# The same for a strip of another length: a GPU works on many pixels at once, and always on as many.
GPU_ENDPOINT = "serve_gpu"
GPU_BATCH = 4096


def strip_function(model: keras.Model, spec: ServingSpec) -> Callable[[Any], Any]:
    """A function of TensorFlow that cuts a strip into its patches and gives the Keras model's answers."""
    import tensorflow as tf

    def serve(strip: Any) -> Any:
        columns = [strip[:, :, column : column + spec.batch] for column in range(spec.patch)]
        patches = tf.transpose(tf.stack(columns, axis=3), (2, 0, 1, 3, 4))
        return model(patches, training=False)

    return serve


def export_saved_model(
    model: keras.Model, spec: ServingSpec, folder: str, gpu_batch: int = GPU_BATCH
) -> None:
    """Write ``saved_model/`` into the folder: strip in, probabilities out.

    One endpoint takes the strip as numbers, one as the bytes of little-endian float32, and one, for GPUs, a
    strip of ``gpu_batch`` pixels. All cut it into patches and call the Keras model, so that they hold for
    every architecture. TensorFlow writes to local scratch; the files go on through `dlts_beam.storage`.
    """
    import keras
    import tensorflow as tf

    signature = [tf.TensorSpec(spec.strip_shape, tf.float32, name="strip")]
    serve = tf.function(strip_function(model, spec), input_signature=signature)

    def serve_bytes(request: Any) -> Any:
        numbers = tf.io.decode_raw(request, tf.float32, little_endian=True)
        return tf.expand_dims(serve(tf.reshape(numbers, spec.strip_shape)), 0)

    wide = replace(spec, batch=gpu_batch)
    wide_signature = [tf.TensorSpec(wide.strip_shape, tf.float32, name="strip")]

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(ENDPOINT, serve, input_signature=signature)
    request = tf.TensorSpec((1,), tf.string, name="request")
    archive.add_endpoint(BYTES_ENDPOINT, serve_bytes, input_signature=[request])
    archive.add_endpoint(GPU_ENDPOINT, strip_function(model, wide), input_signature=wide_signature)
    with tempfile.TemporaryDirectory() as scratch:
        archive.write_out(scratch, verbose=False)
        target = storage.join(folder, SAVED_MODEL)
        storage.remove_tree(target)
        for place, _, names in os.walk(scratch):
            for name in sorted(names):
                local = os.path.join(place, name)
                inside = os.path.relpath(local, scratch).split(os.sep)
                storage.upload(local, storage.join(target, *inside))
