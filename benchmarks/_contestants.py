"""What step 4 is measured against, and step 4 itself: each runs alone in a fresh process.

    python -m benchmarks._contestants KIND MODEL WORKERS FOLDER TILE

The last line is one JSON object: ``startup`` (everything before the first tile: imports, model, Beam),
``seconds`` (from the first tile to the finished map) and ``cpu`` (processor seconds of that time, children
included), which counts the work whoever else is busy on the machine.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._processor import processor_seconds
from benchmarks._scene import BANDS, NETWORKS

NAIVE_BLOCK = 256
BEGAN = time.monotonic()
Timing = dict[str, float]


def main(argv: Sequence[str]) -> None:
    """Run one contestant."""
    kind, model, workers, folder, tile = argv
    print(json.dumps(KINDS[kind](Path(folder), model, int(workers), int(tile))))


class Stopwatch:
    """Seconds since it was made, or since a moment told; what was before is start-up."""

    def __init__(self, began: float | None = None, cpu: float | None = None) -> None:
        self._began = time.monotonic() if began is None else began
        self._cpu = processor_seconds() if cpu is None else cpu

    def stop(self) -> Timing:
        """The timing."""
        now, cpu = time.monotonic(), processor_seconds()
        return {"startup": self._began - BEGAN, "seconds": now - self._began, "cpu": cpu - self._cpu}


def ours(folder: Path, model: str, workers: int, tile: int, mode: str = "multi_threading") -> Timing:
    """Step 4 as it is: reading, preparation, Beam, engine, tiles, assembly."""
    with tempfile.TemporaryDirectory(prefix="dlts-map-") as scratch:
        stamp = Path(scratch) / "first"
        os.environ["DLTS_BENCH_FIRST_TILE"] = str(stamp)
        from benchmarks import _clock
        from dlts_beam.beam.map_plan import MapRequest, plan_map
        from dlts_beam.beam.map_run import run_map
        from dlts_beam.beam.runner import parse_options

        flags = [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
        options = parse_options([*flags, "--beam_plugin=benchmarks._clock"])
        request = MapRequest(
            str(folder / "series"), str(folder / model), f"{scratch}/map.tif", tile=tile, memory="600MB"
        )
        outcome = run_map(plan_map(request, options), options)
        watch = Stopwatch(*_clock.first_tile(stamp))
        return watch.stop() | {f"s_{k}": v for k, v in outcome.seconds.items()}


def processes(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """Step 4 with a process for each worker."""
    return ours(folder, model, workers, tile, "multi_processing")


def plain(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """The same engine over the same windows in a loop, one thread, nothing written."""
    from dlts_beam.beam.classify import make_handler
    from dlts_beam.beam.map_plan import MapRequest, plan_map
    from dlts_beam.beam.runner import parse_options
    from dlts_beam.beam.trial import classify_windows
    from dlts_beam.io.raster.reader import SeriesReader

    request = MapRequest(str(folder / "series"), str(folder / model), "map.tif", tile=tile, memory="600MB")
    planned = plan_map(request, parse_options([]))
    handler = make_handler(planned.settings)
    engine = handler.load_model()
    with SeriesReader(planned.job.series, planned.settings.model.preparation.bands) as reader:
        watch = Stopwatch()
        for task in planned.job.tasks:
            for _ in classify_windows(planned.settings, reader, handler, engine, task):
                pass
        return watch.stop()


def naive(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """Block by block, a patch per pixel, ``model.predict``, one write at the end; holes are data."""
    import keras
    import rasterio
    from rasterio.windows import Window as RasterWindow

    import trainer.convolutions
    import trainer.layers  # noqa: F401

    network = _one_after_the_other(keras.models.load_model(folder / model / "model.keras"))
    patch, batch = network.input_shape[2], NETWORKS[model].predict_batch
    half = patch // 2
    paths = sorted((folder / "series" / "images").glob("*.tif"))
    # Tracing is set-up: a whole batch and a part of one, so that nothing is traced while the clock runs.
    network.predict(np.zeros((batch + 8, *network.input_shape[1:]), np.float32), batch_size=batch, verbose=0)
    watch = Stopwatch()
    with rasterio.open(paths[0]) as first:
        height, width = first.shape
    labels = np.zeros((height, width), np.uint8)
    for row in range(0, height, NAIVE_BLOCK):
        for col in range(0, width, NAIVE_BLOCK):
            high, wide = min(NAIVE_BLOCK, height - row), min(NAIVE_BLOCK, width - col)
            cube = np.empty((len(paths), high + 2 * half, wide + 2 * half, BANDS), np.float32)
            for step, path in enumerate(paths):
                with rasterio.open(path) as image:
                    box = RasterWindow(col - half, row - half, wide + 2 * half, high + 2 * half)
                    cube[step] = np.moveaxis(image.read(window=box, boundless=half > 0), 0, -1)
            patches = np.empty((high * wide, len(paths), patch, patch, BANDS), np.float32)
            for i in range(high):
                for j in range(wide):
                    patches[i * wide + j] = cube[:, i : i + patch, j : j + patch]
            chances = network.predict(patches, batch_size=batch, verbose=0)
            labels[row : row + high, col : col + wide] = chances.argmax(axis=1).reshape(high, wide)
    with tempfile.TemporaryDirectory(prefix="dlts-map-") as scratch:
        profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8"}
        with rasterio.open(f"{scratch}/map.tif", "w", **profile) as out:
            out.write(labels, 1)
    return watch.stop()


def _one_after_the_other(network: Any) -> Any:
    """The same network with its two convolutions as two layers of Keras."""
    import keras

    from trainer.convolutions import TwoConvolutions

    class TwoLayers(keras.layers.Layer):
        def __init__(self, filters: int, depth: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.first = keras.layers.Conv3D(filters, (depth, 3, 3), padding="same")
            self.second = keras.layers.Conv3D(filters, (1, 3, 3), padding="valid")

        def call(self, inputs: Any) -> Any:
            return self.second(self.first(inputs))

    def copy(layer: Any) -> Any:
        kind = TwoLayers if isinstance(layer, TwoConvolutions) else type(layer)
        return kind.from_config(layer.get_config())

    plain = keras.models.clone_model(network, clone_function=copy)
    plain.set_weights(network.get_weights())
    return plain


def _windows(folder: Path) -> tuple[Any, list[Any]]:
    """The series and the windows that a raw read and ours both read.

    What was imported is left out of garbage collection from here on, as every command of the product does: a
    single collection, which may fall to either, would take half of the time that is measured.
    """
    from dlts_beam.beam.map_plan import load_series
    from dlts_beam.grid import split_window

    series = load_series(str(folder / "series"))
    gc.collect()
    gc.freeze()
    return series, list(split_window(series.grid.window, NAIVE_BLOCK, NAIVE_BLOCK))


def read(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """The reading stage: values and validity of every window, with the memory settings of a worker."""
    from dlts_beam.beam.handler import keep_freed_memory
    from dlts_beam.io.raster.reader import SeriesReader

    keep_freed_memory()
    series, windows = _windows(folder)
    watch = Stopwatch()
    with SeriesReader(series) as reader:
        for window in windows:
            reader.read(window)
    return watch.stop()


def raw(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """The same bytes with rasterio alone: files opened once, all bands in one call; memory settings alike."""
    import rasterio
    from rasterio.windows import Window as RasterWindow

    from dlts_beam.beam.handler import keep_freed_memory

    keep_freed_memory()
    series, windows = _windows(folder)
    watch = Stopwatch()
    images = [rasterio.open(file.path) for file in series.files]
    for row, col, height, width in windows:
        for image in images:
            image.read(window=RasterWindow(col, row, width, height))
    return watch.stop()


def gemm(folder: Path, model: str, workers: int, tile: int) -> Timing:
    """How long the model's floating-point work takes at the machine's own peak, on one thread."""
    import onnxruntime

    from benchmarks.engines import GEMM_SIZE, _product

    series, _ = _windows(folder)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    generator = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(_product(generator), settings, providers=["CPUExecutionProvider"])
    square = generator.standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    best = {"seconds": np.inf, "cpu": np.inf}
    for _ in range(16):
        watch = Stopwatch()
        session.run(None, {"a": square})
        timing = watch.stop()
        best = {name: min(best[name], timing[name]) for name in best}
    flops = json.loads((folder / model / "flops.json").read_text()) * series.grid.window.pixels
    times = flops / (2 * GEMM_SIZE**3)
    return {"startup": 0.0, **{name: times * value for name, value in best.items()}}


KINDS: dict[str, Callable[[Path, str, int, int], Timing]] = {
    "ours": ours, "processes": processes, "plain": plain, "naive": naive,
    "read": read, "raw": raw, "gemm": gemm,
}  # fmt: skip

if __name__ == "__main__":
    main(sys.argv[1:])
