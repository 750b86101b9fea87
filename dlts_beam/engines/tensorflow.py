"""TensorFlow, for GPUs and for those who ask for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.engines.saved_graph import GRAPH, read_graph
from dlts_beam.engines.strips import checked_strip
from dlts_beam.errors import DltsError
from dlts_beam.model_folder import SAVED_MODEL, local_saved_model
from dlts_beam.spec import ServingSpec

ENDPOINT, GPU_ENDPOINT = "serve", "serve_gpu"


class TensorFlowEngine:
    """The SavedModel of a serving folder, on the CPU or on the first GPU.

    Attributes:
        spec: the shapes; on a GPU the batch is another one.
    """

    def __init__(
        self,
        folder: str,
        spec: ServingSpec,
        threads: int = 1,
        gpu: bool = False,
        digest: str | None = None,
    ) -> None:
        """Load ``saved_model/`` of the folder.

        TensorFlow's thread pools belong to the process: ``threads`` counts only if nothing ran in it before.

        Raises:
            DltsError: if TensorFlow is not installed, or the model is missing, broken, of other
            shapes, not that of the digest, or does more than computing (`read_graph`).
        """
        tf = _import()
        _set_up(tf, threads, gpu)
        endpoint = GPU_ENDPOINT if gpu else ENDPOINT
        path = storage.join(folder, SAVED_MODEL)
        if not storage.exists(storage.join(path, GRAPH)):
            raise DltsError(f"there is no SavedModel in {path}: export the model again, or use --engine onnx")
        try:
            with local_saved_model(folder, digest) as local:
                read_graph(local, path)
                self._loaded = tf.saved_model.load(local)
            self._serve = getattr(self._loaded, endpoint)
        except (OSError, AttributeError, ValueError, IndexError, tf.errors.OpError) as error:
            raise DltsError(
                f"{path} is not a SavedModel of ours: export the model again ({error})"
            ) from error
        concrete = self._loaded.signatures[endpoint]
        (given,) = concrete.structured_input_signature[1].values()
        (answer,) = concrete.structured_outputs.values()
        shapes = tuple(given.shape), tuple(answer.shape)
        if gpu:
            spec = replace(spec, batch=int(shapes[1][0]))
        if shapes != (spec.strip_shape, (spec.batch, spec.classes)):
            raise DltsError(
                f"{path} takes {shapes[0]} and gives {shapes[1]}, but its spec says {spec.strip_shape} and "
                f"{(spec.batch, spec.classes)}; export the model again"
            )
        self.spec = spec
        self._tensor = tf.constant

    def predict(self, strip: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.predict`."""
        return np.asarray(self._serve(self._tensor(checked_strip(strip, self.spec))))

    def predict_bytes(self, strip: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same through the endpoint that tfx-bsl feeds, on the CPU: what an export compares."""
        request = checked_strip(strip, self.spec).astype("<f4", copy=False).tobytes()
        return np.asarray(self._loaded.serve_bytes(self._tensor([request])))[0]


def find_gpus() -> list[str]:
    """Names of the GPUs that TensorFlow can use here.

    Raises:
        DltsError: TensorFlow is not installed.
    """
    return [device.name for device in _import().config.list_physical_devices("GPU")]


def _import() -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DltsError("the engine tensorflow needs TensorFlow: install dlts-beam[trainer]") from error
    return tf


def _set_up(tf: Any, threads: int, gpu: bool) -> None:
    """Thread pools, devices and memory growth, which TensorFlow takes only before it first computes."""
    config = tf.config
    devices = config.list_physical_devices("GPU")
    try:
        config.threading.set_intra_op_parallelism_threads(threads)
        config.threading.set_inter_op_parallelism_threads(1)
        # Results are the same on one kind of device only, so nothing strays to a GPU unasked.
        config.set_visible_devices(devices if gpu else [], "GPU")
        for device in devices:
            config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # Another model or engine runs in this process already; its choice holds, and the results are the
        # same.
        return
