"""Engines: what runs a serving model. Strips in, probabilities out.

Importing this package loads no runtime; each engine imports its own when a model is loaded.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dlts_beam.errors import DltsError
from dlts_beam.spec import ServingSpec

__all__ = ["ENGINES", "Engine", "load_engine", "require_gpu"]

ENGINES = ("onnx", "tensorflow", "tfx-bsl")


class Engine(Protocol):
    """A loaded serving model. It may be used from several threads at once.

    ``spec`` tells the strips that it takes: its batch is fixed for each kind of device.

    Engines are not pickled: workers load them from the model folder.
    """

    spec: ServingSpec

    def predict(self, strip: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (N, K) of the N patches centred in the strip's middle row.

        Args:
            strip: float32 (T, 1 + 2h, N + 2h, B), prepared, in physical units, exactly of
            ``spec.strip_shape``.
                Output j belongs to the patch centred at column j + h.
        """
        ...


def load_engine(
    folder: str,
    spec: ServingSpec,
    name: str = "onnx",
    threads: int = 1,
    gpu: bool = False,
    digest: str | None = None,
) -> Engine:
    """Load the serving model in a folder.

    Args:
        folder: a serving folder, local or gs://, that holds ``model.onnx`` and ``saved_model/``.
        spec: the shapes that the model must have.
        name: one of ``ENGINES``.
        threads: threads for one prediction; results do not depend on it.
        gpu: compute on the GPU, with the longer strips that it takes; else on the CPU, whatever there is.
        digest: what `model_digest` gave for the model that is wanted; None takes whatever lies there.

    Raises:
        DltsError: if the engine is unknown or not installed, or the model is missing, broken, of other
        shapes, or not the one of the digest.
    """
    if name == "onnx":
        from dlts_beam.engines.onnx import OnnxEngine

        return OnnxEngine(folder, spec, threads, digest)
    if name == "tensorflow":
        from dlts_beam.engines.tensorflow import TensorFlowEngine

        return TensorFlowEngine(folder, spec, threads, gpu, digest)
    if name == "tfx-bsl":
        from dlts_beam.engines.tfx_bsl import TfxBslEngine

        return TfxBslEngine(folder, spec, digest)
    raise DltsError(f"unknown engine {name!r}; there are: {', '.join(ENGINES)}")


def require_gpu() -> None:
    """Refuse a machine without a GPU that TensorFlow can use: it would compute on, many times slower.

    Raises:
        DltsError: there is none, or TensorFlow is not installed.
    """
    from dlts_beam.engines.tensorflow import find_gpus

    if not find_gpus():
        raise DltsError(
            "TensorFlow finds no GPU on this machine: check its driver and CUDA libraries (image target"
            " worker-gpu), or leave --gpu out"
        )
