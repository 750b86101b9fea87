"""The scene and the models that the benchmarks of step 4 share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.recipes import AUTO_FLAGS

STEPS, BANDS, CLASSES = 24, 4, 4
STORAGE_BLOCK = 256
CLOUD, FIELD = 32, 8


@dataclass(frozen=True)
class Network:
    """One model of the benchmarks.

    Attributes:
        architecture: its name.
        settings: what differs from the architecture's defaults.
        predict_batch: batch of ``model.predict`` in the naive way.
    """

    architecture: str
    predict_batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)


NETWORKS = {
    "conv_bilstm": Network("conv_bilstm", 4096),
    "lstm256": Network("lstm", 32),
    "lstm64": Network("lstm", 32, {"units": 64}),
    # What ``--model auto`` trains, and a single pair of its networks.
    "auto": Network(AUTO_FLAGS["model"], 512, {"members": AUTO_FLAGS["members"]}),
    "pair": Network("ltae_mlp", 512),
}


def make_scene(folder: Path, size: int) -> None:
    """Fields of 8 x 8 pixels with noise, uint16; 30 % clouds of 32 x 32 pixels on the right half.

    Tiled deflate GeoTIFFs, one for each date with all bands, and their ``series.json``.
    """
    from tests.helpers import make_series

    generator = np.random.default_rng(0)
    fields, clouds = -(-size // FIELD), -(-size // CLOUD)
    cube = generator.integers(200, 4000, (STEPS, fields, fields, BANDS)).astype(np.uint16)
    cube = cube.repeat(FIELD, 1).repeat(FIELD, 2)[:, :size, :size]
    cube += generator.integers(0, 60, cube.shape).astype(np.uint16)
    cloud = (generator.random((STEPS, clouds, clouds)) < 0.3).repeat(CLOUD, 1).repeat(CLOUD, 2)
    cloud[:, :, : size // 2] = False
    cube[cloud[:, :size, :size]] = 0
    make_series(folder, cube, nodata=0, block=STORAGE_BLOCK, every=15)


def make_models(folder: Path, names: Iterable[str]) -> None:
    """A model folder of step 3's form for each name, with ``model.keras`` and ``flops.json`` (per pixel)."""
    from dlts_beam.beam.map_plan import load_series
    from dlts_beam.spec import ClassTable, PreparationSpec
    from tests.fakes import model_spec
    from trainer.export import serving_digest, serving_model
    from trainer.models import ModelShape, build_model, find_architecture
    from trainer.serving.cost import count_flops
    from trainer.serving.strips import serving_spec

    series = load_series(str(folder / "series"))
    classes = ClassTable.from_csv("value\n" + "".join(f"{value}\n" for value in range(1, CLASSES + 1)))
    days = tuple(float(day - series.days[0]) for day in series.days)
    for name in names:
        architecture = find_architecture(NETWORKS[name].architecture)
        patch = 3 if architecture.needs_patch else 1
        shape = ModelShape(time_steps=STEPS, bands=BANDS, patch=patch, classes=CLASSES, days=days)
        model = build_model(architecture.name, shape, architecture.settings(NETWORKS[name].settings))
        _give_weights(model, _some_pixels(folder))
        home = folder / name
        serving = home / "serving" / "loss"
        serving.mkdir(parents=True)
        model.save(home / "model.keras")
        onnx = serving_model(model, architecture, shape, architecture.batch)
        (serving / "model.onnx").write_bytes(onnx.SerializeToString())
        preparation = PreparationSpec(tuple(band.name for band in series.bands), (2000.0,) * BANDS)
        spec = serving_spec(shape, architecture.batch)
        made = model_spec(series, spec, preparation, classes, {"loss": serving_digest(str(serving))})
        (home / "model.json").write_text(made.to_json())
        (home / "flops.json").write_text(json.dumps(count_flops(onnx) / architecture.batch))


def _some_pixels(folder: Path) -> np.ndarray:
    """Some pixels of the scene, float32 (N, T, 1, 1, B)."""
    from dlts_beam.beam.map_plan import load_series
    from dlts_beam.grid import Window
    from dlts_beam.io.raster.reader import SeriesReader

    with SeriesReader(load_series(str(folder / "series"))) as reader:
        values, _ = reader.read(Window(0, 0, 64, 64))
    return np.moveaxis(values.reshape(STEPS, -1, BANDS), 0, 1)[:, :, None, None, :]


def _give_weights(model: Any, series: np.ndarray) -> None:
    """The scene's own statistics, batch norms as a training would leave them, and trees: none is trivial.

    Trees that are grown on classes by chance are as large as their depth allows.
    """
    import keras

    from trainer.feed import FitData
    from trainer.forest import grow_forest, is_forest
    from trainer.layers import Statistics, set_statistics
    from trainer.models import branches_of

    set_statistics(model, Statistics.measure(series))
    generator = np.random.default_rng(1)
    class_ids, every = generator.integers(0, CLASSES, len(series)), np.arange(len(series))
    weights, scale = np.ones(len(series), np.float32), np.ones(BANDS, np.float32)
    data = FitData(series, class_ids, CLASSES, every, every[:0], weights, scale)
    for branch in branches_of(model):
        if is_forest(branch):
            grow_forest(branch, data, seed=1)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.get_weights()[0].shape
            around_one, around_zero = (
                generator.uniform(0.5, 1.5, (2, *size)),
                generator.normal(0, 0.2, (2, *size)),
            )
            layer.set_weights([around_one[0], around_zero[0], around_zero[1], around_one[1]])
