"""ONNX Runtime, the default on CPUs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.engines.strips import checked_strip
from dlts_beam.errors import DltsError
from dlts_beam.model_folder import MODEL_ONNX, read_onnx
from dlts_beam.spec import ServingSpec


class OnnxEngine:
    """A session of ONNX Runtime on the CPU.

    One thread by default: one worker per core with one thread each is faster than one worker with many.
    """

    def __init__(self, folder: str, spec: ServingSpec, threads: int = 1, digest: str | None = None) -> None:
        """Load ``model.onnx`` of the folder.

        Raises:
            DltsError: if ONNX Runtime is not installed, or the file is missing, broken, of other shapes, or
            not that of the digest.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise DltsError("the engine onnx needs onnxruntime: install dlts-beam[beam]") from error
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        path = storage.join(folder, MODEL_ONNX)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Laying all buffers out before the first run takes a fifth more memory and is no faster here.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        # A worker that waits for its next window must not burn a core that reads it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = read_onnx(folder, digest)
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf) as error:
            raise DltsError(f"ONNX Runtime cannot load {path}; export it again ({error})") from error
        given = [
            (tuple(value.shape), value.type) for value in (*session.get_inputs(), *session.get_outputs())
        ]
        wanted = [(spec.strip_shape, "tensor(float)"), ((spec.batch, spec.classes), "tensor(float)")]
        if given != wanted:
            raise DltsError(
                f"{path} does not match its spec: it has {given}, not {wanted}; export the model again"
            )
        self.spec = spec
        self._session = session
        self._input = session.get_inputs()[0].name

    def predict(self, strip: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.predict`."""
        (probabilities,) = self._session.run(None, {self._input: checked_strip(strip, self.spec)})
        return probabilities
