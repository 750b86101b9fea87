"""Does the input keep up with the model? Samples per second of the input, of the model, and of both.

    python -m benchmarks.training [--models lstm mlp ltae conv_bilstm] [--samples 2000] [--batch-size 32]

The input is what training reads: arrays prepared from samples, shuffled, gathered and batched by tf.data,
plain, with augmentation, and from a mapped scratch file, drained by a graph that does nothing else. The
model alone trains on a batch that lies ready in memory. Each round measures everything once, in turn, so
that a change in the machine's speed meets all alike; medians of the rounds are printed. The last line is one
JSON object; ``together`` is the share of the slower of input and model that both together reach, within a
round; models below 0.9 are printed as missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

STEPS, BANDS, CLASSES = 24, 4, 4
LEAST_SECONDS = 1.0
GOAL = 0.9
COLUMNS = ("input", "augmented", "mapped", "model", "both")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    from trainer.models import ARCHITECTURES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # A mean of several trains them one by one: each is measured alone.
    single = [name for name, one in ARCHITECTURES.items() if "members" not in one.defaults]
    parser.add_argument(
        "--models", nargs="+", choices=single, default=["lstm", "mlp", "ltae", "conv_bilstm"]
    )
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mixed-precision", action="store_true", help="float16 arithmetic, for GPUs")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(f"{'model':14s} " + " ".join(f"{column:>10s}" for column in COLUMNS) + "  together")
    results = {}
    for name in options.models:
        rounds = measure(
            name, options.samples, options.batch_size, options.rounds, options.mixed_precision
        )
        rates = {column: statistics.median(one[column] for one in rounds) for column in COLUMNS}
        together = statistics.median(one["both"] / min(one["input"], one["model"]) for one in rounds)
        cells = " ".join(f"{rates[column]:10,.0f}" for column in COLUMNS)
        print(f"{name:14s} {cells}  {together:.2f}", flush=True)
        results[name] = {column: round(rates[column], 1) for column in COLUMNS}
        results[name]["together"] = round(together, 3)
    worst = min(result["together"] for result in results.values())
    missed = [name for name, result in results.items() if result["together"] < GOAL]
    print(json.dumps({"samples_per_second": results, "together": worst, "missed": missed}))


def measure(
    name: str, samples: int, batch_size: int, rounds: int, mixed_precision: bool = False
) -> list[dict[str, float]]:
    """Samples per second by column, for each round."""
    import keras
    import tensorflow as tf

    from trainer.augment import make_augment
    from trainer.devices import choose_devices
    from trainer.feed import FitData, steps_per_epoch, training_feed
    from trainer.loop import Loop
    from trainer.models import ModelShape, build_model, find_architecture
    from trainer.settings import FitSettings

    days = tuple(15.0 * step for step in range(STEPS))
    shape = find_architecture(name).fit_shape(ModelShape(STEPS, BANDS, 3, CLASSES, days))
    size = (samples, STEPS, shape.patch, shape.patch, BANDS)
    generator = np.random.default_rng(0)
    data = FitData(
        series=generator.normal(size=size).astype(np.float32),
        class_ids=generator.integers(0, CLASSES, samples),
        classes=CLASSES,
        training=np.arange(samples),
        validation=np.arange(0),
        weights=np.ones(samples, np.float32),
        scale=np.ones(BANDS, np.float32),
    )
    settings = FitSettings(
        batch_size=batch_size, jitter=0.05, time_shift=1, drop_dates=0.05, mixed_precision=mixed_precision
    )
    augment = make_augment(settings, data.scale)
    steps = steps_per_epoch(data, batch_size)
    devices = choose_devices()
    if mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with devices.scope():
            model = build_model(name, shape)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    loop = Loop(model, settings, steps, devices)

    def feed(data: FitData = data, augment: Any = None) -> tf.data.Dataset:
        """More epochs than are measured, so that no end is near that the input need not work for."""
        return training_feed(data, 2, batch_size, 0, 10_000, augment)

    @tf.function(autograph=False)
    def drain(batches: Any) -> tf.Tensor:
        first = (tf.constant(0), tf.constant(0.0))
        return tf.while_loop(
            lambda number, _: number < steps,
            lambda number, seen: (number + 1, seen + tf.reduce_sum(next(batches)[2])),
            first,
        )[1]

    def rate(work: Callable[[Any], object], batches: tf.data.Dataset) -> float:
        """Samples per second of the epochs after the first, which gets it going, for at least so long."""
        iterator = iter(batches)
        work(iterator)
        started, epochs = time.perf_counter(), 0
        while epochs == 0 or time.perf_counter() - started < LEAST_SECONDS:
            work(iterator)
            epochs += 1
        return epochs * samples / (time.perf_counter() - started)

    def read(batches: tf.data.Dataset) -> float:
        return rate(drain, batches)

    def fit(batches: tf.data.Dataset) -> float:
        return rate(lambda iterator: loop.run(iterator, steps, training=True), batches)

    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, np.float32, "w+", shape=size)
        mapped[:] = data.series
        batch = tf.data.Dataset.from_tensor_slices(next(iter(feed()))).batch(batch_size)
        ready = batch.cache().repeat()
        works = {
            "input": lambda: read(feed()),
            "augmented": lambda: read(feed(augment=augment)),
            "mapped": lambda: read(feed(replace(data, series=mapped))),
            "model": lambda: fit(ready),
            "both": lambda: fit(feed()),
        }
        return [{column: work() for column, work in works.items()} for _ in range(rounds)]


if __name__ == "__main__":
    main()
