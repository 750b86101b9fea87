"""tfx-bsl: its own model handler for Beam's RunInference, over the SavedModel of a serving folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.engines.saved_graph import read_graph
from dlts_beam.engines.strips import checked_strip
from dlts_beam.errors import DltsError
from dlts_beam.model_folder import SAVED_MODEL, local_saved_model
from dlts_beam.spec import ServingSpec

NUMBERS, BYTES = "serve", "serve_bytes"  # endpoints; tfx-bsl can feed the second one only
# The handler makes its session without settings, so these say what is said elsewhere: one thread for each
# worker, and no GPU, whose results would be others.
_SESSION = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1"}


def create_handler(folder: str, spec: ServingSpec) -> Any:
    """tfx-bsl's ``CreateModelHandler`` for a serving folder: requests in, PredictionLogs out, one by one.

    Raises:
        DltsError: if tfx-bsl is not installed, or the SavedModel is missing, broken, of other shapes, or does
        more than computing (`read_graph`).
    """
    for name, value in _SESSION.items():
        os.environ[name] = value
    try:
        from tfx_bsl.public.beam.run_inference import CreateModelHandler
        from tfx_bsl.public.proto.model_spec_pb2 import InferenceSpecType
    except ImportError as error:
        raise DltsError(
            "the engine tfx-bsl needs tfx-bsl, which there is for Linux x86_64 and macOS arm64 only: install"
            " dlts-beam[beam] there, or use --engine onnx or tensorflow"
        ) from error

    path = storage.join(folder, SAVED_MODEL)
    _check_shapes(path, spec)
    # It loads models in a way that TensorFlow calls old, in two lines of warning each time.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    wanted = InferenceSpecType()
    wanted.saved_model_spec.model_path = path
    wanted.saved_model_spec.signature_name.append(BYTES)
    wanted.batch_parameters.min_batch_size = wanted.batch_parameters.max_batch_size = 1
    return CreateModelHandler(wanted)


def load_planned(load: Callable[[], Any], folder: str, spec: ServingSpec, digest: str | None) -> Any:
    """What ``load`` loads from the SavedModel of a serving folder, or the same from the bytes of the digest.

    A handler loads by a path that is read when the work begins, so a copy takes a handler of its own.

    Raises:
        DltsError: TensorFlow cannot, or the model is not that of the digest.
    """
    path = storage.join(folder, SAVED_MODEL)
    if digest is None:
        return load_session(load, path)
    with local_saved_model(folder, digest) as copy:
        return load_session(create_handler(storage.parent(copy), spec).load_model, path)


def load_session(load: Callable[[], Any], path: str) -> Any:
    """What ``load`` loads from the SavedModel at ``path``.

    Raises:
        DltsError: TensorFlow cannot: its weights are cut off, say, which no look at its shapes can tell.
    """
    import tensorflow as tf

    try:
        return load()
    except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
        reason = str(error).removeprefix("Graph execution error:").strip().partition("\n")[0]
        raise DltsError(
            f"tfx-bsl cannot load the SavedModel {path}: train the model again ({reason})"
        ) from error


def _check_shapes(path: str, spec: ServingSpec) -> None:
    """Both endpoints must be there, with the shapes of the spec: in a session it is too late to tell."""
    meta = read_graph(path)
    try:
        (given,) = meta.signature_def[NUMBERS].inputs.values()
        (answer,) = meta.signature_def[BYTES].outputs.values()
    except ValueError as error:
        raise DltsError(f"tfx-bsl cannot serve the SavedModel {path}: export the model again") from error
    shapes = [tuple(int(side.size) for side in found.tensor_shape.dim) for found in (given, answer)]
    wanted = [spec.strip_shape, (1, spec.batch, spec.classes)]
    if shapes != wanted:
        raise DltsError(
            f"{path} takes {shapes[0]} and gives {shapes[1]}, but its spec says {wanted[0]} and {wanted[1]};"
            " export the model again"
        )


def request_of(strip: NDArray[np.float32], spec: ServingSpec) -> bytes:
    """What the endpoint is fed: the strip's numbers as little-endian bytes."""
    return checked_strip(strip, spec).astype("<f4", copy=False).tobytes()


def answer_of(log: Any) -> NDArray[np.float32]:
    """Probabilities (N, K) out of a PredictionLog, which also carries the whole request."""
    import tensorflow as tf

    (answer,) = log.predict_log.response.outputs.values()
    probabilities: NDArray[np.float32] = tf.make_ndarray(answer)[0]
    return probabilities


class TfxBslEngine:
    """The handler outside of a pipeline: one strip after the other."""

    def __init__(self, folder: str, spec: ServingSpec, digest: str | None = None) -> None:
        """Load ``saved_model/`` of the folder.

        Raises:
            DltsError: if tfx-bsl is not installed, or the model is missing, broken, of other shapes, or not
            that of the digest.
        """
        self.spec = spec
        self._handler = create_handler(folder, spec)
        self._session = load_planned(self._handler.load_model, folder, spec, digest)

    def predict(self, strip: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.predict`."""
        (log,) = self._handler.run_inference([request_of(strip, self.spec)], self._session)
        return answer_of(log)
