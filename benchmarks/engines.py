"""Folded serving models against the machine's matrix product and against ``model.predict``.

    python -m benchmarks.engines [--models conv_bilstm lstm] [--batches 128 256 512] [--threads 1]
    [--no-predict]

Random weights, 24 time steps x 4 bands, the architectures' default sizes. Each round measures everything
once, in turn, so that a change in the machine's speed meets all alike; the best of the rounds is printed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

STEPS, BANDS, CLASSES = 24, 4, 4
GEMM_SIZE = 1024


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["conv_bilstm", "lstm"])
    parser.add_argument("--patch", type=int, default=3)
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--predict-batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-predict", action="store_true", help="leave out the comparison with Keras")
    options = parser.parse_args(argv)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import onnxruntime
    import tensorflow as tf

    from trainer.export import serving_model
    from trainer.models import ModelShape, build_model, find_architecture
    from trainer.serving.cost import count_flops

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    generator = np.random.default_rng(0)

    def session_of(content: bytes) -> onnxruntime.InferenceSession:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.enable_mem_pattern = False
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])

    gemm = session_of(_product(generator))
    square = generator.standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    print(f"{options.threads} thread(s), TF_ENABLE_ONEDNN_OPTS {onednn}")
    print("model         pixels  MFLOP/px   pixels/s  GFLOP/s  GEMM peak  fraction  predict px/s  ratio")
    for name in options.models:
        architecture = find_architecture(name)
        shape = architecture.fit_shape(ModelShape(STEPS, BANDS, options.patch, CLASSES))
        model = build_model(name, shape)
        patches = generator.standard_normal((4096, STEPS, shape.patch, shape.patch, BANDS), np.float32)
        works: dict[str, Callable[[], object]] = {"gemm": lambda: gemm.run(None, {"a": square})}
        if not options.no_predict:
            works["predict"] = partial(model.predict, patches, options.predict_batch, verbose=0)
        flops = {}
        for batch in options.batches:
            served = serving_model(model, architecture, shape, batch)
            flops[batch] = count_flops(served)
            session = session_of(served.SerializeToString())
            wide = (STEPS, shape.patch, batch + 2 * shape.halo, BANDS)
            strip = generator.standard_normal(wide, np.float32)
            works[str(batch)] = lambda session=session, strip=strip: session.run(None, {"strip": strip})
        best = dict.fromkeys(works, np.inf)
        for round_ in range(options.rounds + 1):
            for key, work in works.items():
                took = seconds_of(work)
                if round_:  # the first one warms up
                    best[key] = min(best[key], took)
        peak = 2 * GEMM_SIZE**3 / best["gemm"] / 1e9
        predict = 4096 / best["predict"] if "predict" in best else np.nan
        for batch in options.batches:
            rate, speed = batch / best[str(batch)], flops[batch] / best[str(batch)] / 1e9
            row = f"{name:12s} {batch:7d} {flops[batch] / batch / 1e6:9.2f} {rate:10.0f} {speed:8.1f}"
            print(f"{row} {peak:10.1f} {speed / peak:9.2f} {predict:13.0f} {rate / predict:6.2f}", flush=True)


def _product(generator: np.random.Generator) -> bytes:
    """An ONNX model of one large matrix product, the yardstick of ONNX Runtime itself."""
    from onnx import TensorProto, helper, numpy_helper

    right = generator.standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    wide = [GEMM_SIZE, GEMM_SIZE]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, wide)],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, wide)],
        initializer=[numpy_helper.from_array(right, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


if __name__ == "__main__":
    main()
