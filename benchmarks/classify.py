"""Step 4 against the naive way, a plain loop, the machine's matrix product and a raw read.

    python -m benchmarks.classify [--size 512] [--rounds 3] [--only vs_naive vs_plain_loop …]

A made-up scene of 24 dates x 4 bands in tiled deflate GeoTIFFs, its right half under 30 % cloud; models of
the default sizes with random weights. Every timing is a process of its own and begins when the imports are
done; the two sides of a ratio alternate. The naive way is a plain re-implementation with the same weights:
256 x 256 blocks, a patch tensor per pixel, ``model.predict``, TensorFlow's default settings; holes are data.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

STEPS, BANDS, BLOCK = 24, 4, 256
MODELS = {
    "conv_bilstm": ("conv_bilstm", {}, 4096),
    "lstm256": ("lstm", {}, 32),
    "lstm64": ("lstm", {"units": 64}, 32),
    "auto": ("ltae_mlp", {}, 0),
}
# name: (numerator, denominator, least ratio, goal); a side is (kind, model, workers).
Side = tuple[str, str, int]
RATIOS: dict[str, tuple[Side, Side, float]] = {
    "vs_naive": (("naive", "conv_bilstm", 2), ("ours", "conv_bilstm", 2), 4.0),
    "lstm256_vs_naive": (("naive", "lstm256", 2), ("ours", "lstm256", 2), 3.0),
    "lstm64_vs_naive": (("naive", "lstm64", 2), ("ours", "lstm64", 2), 6.0),
    "auto_vs_naive": (("naive", "conv_bilstm", 2), ("ours", "auto", 2), 50.0),
    "vs_plain_loop": (("plain", "conv_bilstm", 1), ("ours", "conv_bilstm", 1), 0.95),
    "two_workers": (("ours", "conv_bilstm", 1), ("ours", "conv_bilstm", 2), 1.8),
    "read_vs_raw": (("raw", "lstm64", 1), ("read", "lstm64", 1), 0.8),
    "gemm_fraction": (("gemm", "conv_bilstm", 1), ("ours", "conv_bilstm", 1), 0.7),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; goals that were missed are printed as missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="side of the scene in pixels")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=RATIOS, default=list(RATIOS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        kind, model, workers = options.one
        print(json.dumps(KINDS[kind](Path(options.folder), model, int(workers), options.tile)))
        return
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        folder = Path(scratch)
        make_scene(folder / "series", options.size)
        make_models(folder, {side[1] for name in options.only for side in RATIOS[name][:2]})
        report = {name: measure(name, folder, options) for name in options.only}
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    print(json.dumps({"machine": machine, "size": options.size, "onednn": onednn, "ratios": report}))


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Alternate the two sides of a ratio; the ratio is the median of those of the pairs."""
    first, second, least = RATIOS[name]
    pairs = []
    for _ in range(options.rounds):
        pairs.append([in_process(side, folder, options.tile) for side in (first, second)])
    ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
    found = statistics.median(ratios)
    timings = [[round(one["seconds"], 3), round(other["seconds"], 3)] for one, other in pairs]
    verdict = "ok" if found >= least else "MISSED"
    print(
        f"{name:18s} {found:7.2f}  (least {least:g}: {verdict})  {first} {second} seconds {timings}",
        flush=True,
    )
    return {"ratio": round(found, 3), "least": least, "met": found >= least, "seconds": timings}


def in_process(side: Side, folder: Path, tile: int) -> dict[str, float]:
    """Time one side in a fresh process."""
    kind, model, workers = side
    command = [sys.executable, "-m", "benchmarks.classify", "--one", kind, model, str(workers)]
    told = subprocess.run(
        [*command, "--folder", str(folder), "--tile", str(tile)], check=True, capture_output=True, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    ).stdout  # fmt: skip
    result: dict[str, float] = json.loads(told.splitlines()[-1])
    return result


def make_scene(folder: Path, size: int) -> None:
    """Fields of 8 x 8 pixels with noise; clouds of 32 x 32 pixels on the right half."""
    from tests.helpers import make_series

    generator = np.random.default_rng(0)
    cube = generator.integers(200, 4000, (STEPS, size // 8, size // 8, BANDS)).astype(np.uint16)
    cube = cube.repeat(8, 1).repeat(8, 2)
    cube += generator.integers(0, 60, cube.shape).astype(np.uint16)
    cloud = (generator.random((STEPS, size // 32, size // 32)) < 0.3).repeat(32, 1).repeat(32, 2)
    cloud[:, :, : size // 2] = False
    cube[cloud] = 0
    make_series(folder, cube, nodata=0, block=256, every=15)


def make_models(folder: Path, names: set[str]) -> None:
    """Model folders of step 3's form, and the Keras models beside them."""
    from dlts_beam.beam.map_run import load_series
    from dlts_beam.spec import ClassTable, PreparationSpec
    from tests.fakes import model_spec
    from trainer.export import serving_digest, serving_model
    from trainer.models import ModelShape, build_model, find_architecture
    from trainer.serving.strips import serving_spec

    series = load_series(str(folder / "series"))
    classes = ClassTable.from_csv("value\n1\n2\n3\n4\n")
    days = tuple(float(day - series.days[0]) for day in series.days)
    for name in sorted(names):
        architecture = find_architecture(MODELS[name][0])
        patch = 3 if architecture.needs_patch else 1
        shape = ModelShape(time_steps=STEPS, bands=BANDS, patch=patch, classes=4, days=days)
        model = build_model(architecture.name, shape, architecture.settings(MODELS[name][1]))
        normalise(model, series_values(folder))
        home = folder / name
        serving = home / "serving" / "loss"
        serving.mkdir(parents=True)
        model.save(home / "model.keras")
        onnx = serving_model(model, architecture, shape, architecture.batch)
        (serving / "model.onnx").write_bytes(onnx.SerializeToString())
        bands = tuple(band.name for band in series.bands)
        preparation = PreparationSpec(bands, (2000.0,) * BANDS)
        spec = serving_spec(shape, architecture.batch)
        made = model_spec(series, spec, preparation, classes, {"loss": serving_digest(str(serving))})
        (home / "model.json").write_text(made.to_json())
        flops = count(onnx) / architecture.batch
        (home / "flops.json").write_text(json.dumps(flops))


def count(onnx: Any) -> int:
    """Floating-point operations of one strip."""
    from trainer.serving.cost import count_flops

    return count_flops(onnx)


def series_values(folder: Path) -> np.ndarray:
    """Some pixels of the scene (n, T, 1, 1, B), for the statistics of the normalisation."""
    from dlts_beam.beam.map_run import load_series
    from dlts_beam.grid import Window
    from dlts_beam.io.raster.reader import SeriesReader

    with SeriesReader(load_series(str(folder / "series"))) as reader:
        values, _ = reader.read(Window(0, 0, 64, 64))
    return np.moveaxis(values.reshape(STEPS, -1, BANDS), 0, 1)[:, :, None, None, :]


def normalise(model: Any, series: np.ndarray) -> None:
    """Give the model the statistics of the scene."""
    from trainer.layers import Statistics, set_statistics

    set_statistics(model, Statistics.measure(series))


def ours(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """Step 4 as it is: reading, preparation, Beam, engine, tiles, assembly."""
    import dlts_beam.engines.onnx  # noqa: F401
    from dlts_beam.beam.map_run import MapRequest, plan_map, run_map
    from dlts_beam.beam.runner import parse_options

    options = parse_options(["--direct_num_workers", str(workers)])
    with tempfile.TemporaryDirectory(prefix="dlts-map-") as scratch:
        request = MapRequest(
            str(folder / "series"), str(folder / model), f"{scratch}/map.tif", tile=tile, memory="600MB"
        )
        started = time.perf_counter()
        outcome = run_map(plan_map(request, options), options)
        return {"seconds": time.perf_counter() - started, **{f"s_{k}": v for k, v in outcome.seconds.items()}}


def plain(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """The same engine over the same windows in a loop, one thread, nothing written."""
    from dlts_beam.beam.classify import make_handler
    from dlts_beam.beam.map_run import MapRequest, plan_map
    from dlts_beam.beam.runner import parse_options
    from dlts_beam.beam.trial import classify_windows
    from dlts_beam.io.raster.reader import SeriesReader

    request = MapRequest(str(folder / "series"), str(folder / model), "map.tif", tile=tile, memory="600MB")
    planned = plan_map(request, parse_options([]))
    started = time.perf_counter()
    handler = make_handler(planned.settings)
    engine = handler.load_model()
    with SeriesReader(planned.job.series, planned.settings.model.preparation.bands) as reader:
        for task in planned.job.tasks:
            for _ in classify_windows(planned.settings, reader, handler, engine, task):
                pass
    return {"seconds": time.perf_counter() - started}


def naive(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """Block by block, a patch per pixel, ``model.predict``, one write at the end."""
    import keras
    import rasterio
    from rasterio.windows import Window as RasterWindow

    import trainer.layers  # noqa: F401

    network = keras.models.load_model(folder / model / "model.keras")
    patch = network.input_shape[2]
    half, batch = patch // 2, MODELS[model][2]
    paths = sorted((folder / "series" / "images").glob("*.tif"))
    started = time.perf_counter()
    with rasterio.open(paths[0]) as first:
        height, width = first.shape
    labels = np.zeros((height, width), np.uint8)
    for row in range(0, height, BLOCK):
        for col in range(0, width, BLOCK):
            high, wide = min(BLOCK, height - row), min(BLOCK, width - col)
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
    return {"seconds": time.perf_counter() - started}


def read_windows(folder: Path) -> tuple[Any, list[Any]]:
    """The series and the windows that a raw read and ours both read."""
    from dlts_beam.beam.map_run import load_series
    from dlts_beam.grid import split_window

    series = load_series(str(folder / "series"))
    return series, list(split_window(series.grid.window, BLOCK, BLOCK))


def read(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """The reading stage: values and validity of every window."""
    from dlts_beam.io.raster.reader import SeriesReader

    series, windows = read_windows(folder)
    started = time.perf_counter()
    with SeriesReader(series) as reader:
        for window in windows:
            reader.read(window)
    return {"seconds": time.perf_counter() - started}


def raw(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """The same bytes with rasterio alone: files opened once, all bands in one call."""
    import rasterio
    from rasterio.windows import Window as RasterWindow

    series, windows = read_windows(folder)
    started = time.perf_counter()
    images = [rasterio.open(file.path) for file in series.files]
    for row, col, height, width in windows:
        for image in images:
            image.read(window=RasterWindow(col, row, width, height))
    return {"seconds": time.perf_counter() - started}


def gemm(folder: Path, model: str, workers: int, tile: int) -> dict[str, float]:
    """Seconds that the model's floating-point work would take at the machine's peak, on one thread."""
    import onnxruntime

    from benchmarks.engines import GEMM_SIZE, _product

    series, _ = read_windows(folder)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    generator = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(_product(generator), settings, providers=["CPUExecutionProvider"])
    square = generator.standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32)
    best = np.inf
    for _ in range(8):
        started = time.perf_counter()
        session.run(None, {"a": square})
        best = min(best, time.perf_counter() - started)
    peak = 2 * GEMM_SIZE**3 / best
    flops = json.loads((folder / model / "flops.json").read_text())
    return {"seconds": flops * series.grid.height * series.grid.width / peak, "peak": peak}


KINDS: dict[str, Callable[[Path, str, int, int], dict[str, float]]] = {
    "ours": ours, "plain": plain, "naive": naive, "read": read, "raw": raw, "gemm": gemm,
}  # fmt: skip


def cpu_name() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
