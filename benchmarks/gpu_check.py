"""What a GPU makes of training and of the serving models. Says so where there is none.

    python -m benchmarks.gpu_check [--models conv_bilstm auto] [--batches 256 1024 4096] [--strips 20]

The same strips go through the TensorFlow engine on the GPU, as step 4 runs it there, and through ONNX Runtime
on one core. ``disagree`` is the share of pixels whose class differs. Training is measured as
`benchmarks.training` does, with float32 and with mixed precision. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._scene import BANDS, CLASSES, NETWORKS, STEPS

WARM_UP = 3
SAMPLES, TRAINING_BATCH = 4096, 256


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print, or say that there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=["conv_bilstm", "auto"])
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--strips", type=int, default=20, help="strips for each measurement")
    parser.add_argument("--training", nargs="*", default=["lstm", "ltae", "conv_bilstm"], metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=3, help="of each training")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        print("TensorFlow finds no GPU on this machine: nothing was measured")
        print(json.dumps({"gpu": None}))
        return
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
    print(f"{len(gpus)} x {name}\nmodel         pixels   GPU px/s   CPU px/s   ratio  disagree")
    rows = []
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        for model in options.models:
            for batch in options.batches:
                row = measure(model, batch, options.strips, Path(scratch) / f"{model}-{batch}")
                rows.append(row)
                print(
                    f"{model:12s} {batch:7d} {row['gpu']:10.0f} {row['cpu']:10.0f}"
                    f" {row['gpu'] / row['cpu']:7.1f}  {row['disagree']:.5f}",
                    flush=True,
                )
    print("model         precision  samples/s  together")
    training = [
        train(model, mixed, options.rounds) for model in options.training for mixed in (False, True)
    ]
    print(json.dumps({"gpu": name, "gpus": len(gpus), "rows": rows, "training": training}))


def train(name: str, mixed_precision: bool, rounds: int) -> dict[str, Any]:
    """Samples per second of a training, input and model together, and what share of the slower that is."""
    from benchmarks import training

    measured = training.measure(name, SAMPLES, TRAINING_BATCH, rounds, mixed_precision)
    rate = statistics.median(one["both"] for one in measured)
    together = statistics.median(one["both"] / min(one["input"], one["model"]) for one in measured)
    precision = "float16" if mixed_precision else "float32"
    print(f"{name:12s} {precision:>10s} {rate:10.0f} {together:9.2f}", flush=True)
    return {"model": name, "precision": precision, "rate": round(rate), "together": round(together, 3)}


def measure(name: str, batch: int, strips: int, folder: Path) -> dict[str, Any]:
    """Pixels per second of both engines on the same strips, and how often their classes differ."""
    from dlts_beam.engines import load_engine
    from trainer.export import serving_model
    from trainer.models import ModelShape, build_model, find_architecture
    from trainer.serving.saved_model import export_saved_model
    from trainer.serving.strips import serving_spec

    network = NETWORKS[name]
    architecture = find_architecture(network.architecture)
    patch = 3 if architecture.needs_patch else 1
    days = tuple(15.0 * step for step in range(STEPS))
    shape = ModelShape(time_steps=STEPS, bands=BANDS, patch=patch, classes=CLASSES, days=days)
    model = build_model(architecture.name, shape, architecture.settings(network.settings))
    spec = serving_spec(shape, batch)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(serving_model(model, architecture, shape, batch).SerializeToString())
    export_saved_model(model, spec, str(folder), gpu_batch=batch)
    generator = np.random.default_rng(0)
    cubes = [generator.standard_normal(spec.strip_shape, np.float32) for _ in range(strips)]
    rates, classes = {}, {}
    for device, engine_name in (("gpu", "tensorflow"), ("cpu", "onnx")):
        engine = load_engine(str(folder), spec, engine_name, gpu=device == "gpu")
        for cube in cubes[:WARM_UP]:
            engine.predict(cube)
        started = time.perf_counter()
        answers = [engine.predict(cube) for cube in cubes]
        rates[device] = strips * batch / (time.perf_counter() - started)
        classes[device] = np.concatenate([answer.argmax(axis=1) for answer in answers])
    disagree = float((classes["gpu"] != classes["cpu"]).mean())
    return {"model": name, "batch": batch, **{k: round(v) for k, v in rates.items()}, "disagree": disagree}


if __name__ == "__main__":
    main()
