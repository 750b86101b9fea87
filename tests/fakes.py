"""Hand-made series and models for tests: few pixels, a model whose answer a child can compute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import rasterio
from onnx import TensorProto, helper

from dlts_beam.spec import (
    ClassTable,
    Ledger,
    ModelSpec,
    PreparationSpec,
    SamplesSpec,
    SeriesSpec,
    ServingSpec,
)
from pipelines.classify_img_series import main
from tests.helpers import make_series

NODATA = 0
FILL = 500.0
CLASSES = ClassTable.from_csv("value,name,colour\n3,darker,#8c564b\n7,brighter,#009e73\n")
# A class map of the fake model depends on differences only, so a power of two keeps all sums exact.
SCALE = 2.0**-14


@dataclass(frozen=True)
class Scene:
    """A series on disk and all its stored values.

    Attributes:
        folder: the series folder, with ``series.json``.
        images: one file per time step.
        stored: uint16 (T, H, W, B); 0 is nodata.
    """

    folder: Path
    images: tuple[Path, ...]
    spec: SeriesSpec
    stored: np.ndarray


def write_scene(
    folder: Path, stored: np.ndarray, first: str = "2020-01-03", dated: bool = True, block: int = 16
) -> Scene:
    """Write stored values (T, H, W, B), 13 days apart, as a series whose nodata is 0."""
    spec = make_series(folder, stored, first=first, every=13, nodata=NODATA, dated=dated, block=block)
    return Scene(folder, tuple(Path(file.path) for file in spec.files), spec, stored)


def random_scene(
    folder: Path,
    height: int = 37,
    width: int = 53,
    steps: int = 4,
    bands: int = 2,
    cloud: float = 0.2,
    seed: int = 0,
    first: str = "2020-01-03",
    dated: bool = True,
) -> Scene:
    """Noise with holes in uint16; one corner was never observed."""
    generator = np.random.default_rng(seed)
    stored = generator.integers(1, 2000, (steps, height, width, bands), np.uint16)
    stored[generator.random((steps, height, width)) < cloud] = NODATA
    stored[:, : height // 6, : width // 6] = NODATA
    return write_scene(folder, stored, first, dated)


def make_model(
    folder: Path,
    series: SeriesSpec,
    patch: int = 1,
    batch: int = 64,
    classes: ClassTable = CLASSES,
    names: Sequence[str] = ("loss",),
    preparation: PreparationSpec | None = None,
    reverse: bool = False,
) -> Path:
    """A model folder with a hand-made serving model: class 1 where the last step is brighter than the first.

    What is compared is the sum over the patch and all bands, so that a patch in the wrong place shows.

    Args:
        reverse: another model of the same shape: class 1 where the last step is darker.
    """
    bands = tuple(band.name for band in series.bands)
    preparation = preparation or PreparationSpec(bands, (FILL,) * len(bands))
    timeline = preparation.timeline
    steps = len(series.steps) if timeline is None else timeline.count
    serving = ServingSpec(batch, patch // 2, steps, len(preparation.names), 2)
    content = brightness_model(serving, reverse).SerializeToString()
    for name in names:
        path = folder / "serving" / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    digests = dict.fromkeys(names, hashlib.sha256(content).hexdigest())
    spec = model_spec(series, serving, preparation, classes, digests)
    (folder / "model.json").write_text(spec.to_json())
    return folder


def model_spec(
    series: SeriesSpec,
    serving: ServingSpec,
    preparation: PreparationSpec,
    classes: ClassTable = CLASSES,
    digests: dict[str, str] | None = None,
) -> ModelSpec:
    """``model.json`` of a model that fits the series."""
    count = len(classes)
    samples = SamplesSpec(
        series=series.fingerprint(), grid=series.grid, steps=series.steps, bands=series.bands,
        dtype="uint16", patch=serving.patch, classes=classes, class_counts=(1,) * count, shards=1,
        samples=count, block_size=300.0, features=Ledger(count, count), candidates=Ledger(count, count),
    )  # fmt: skip
    return ModelSpec(
        samples=samples,
        steps=series.steps,
        bands=series.bands,
        classes=classes,
        preparation=preparation,
        architecture="brightness",
        config={},
        settings={},
        serving=serving,
        serving_sha256=digests or {"loss": "0" * 64},
    )


def brightness_model(serving: ServingSpec, reverse: bool = False) -> onnx.ModelProto:
    """Strip in, probabilities (N, 2) out: 0.5 and 0.5, moved by the difference of last and first step."""
    patch, batch, last = serving.patch, serving.batch, serving.time_steps - 1
    nodes, constants = [], {}

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = value
        return name

    def add(kind: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    first_step = add("Gather", "strip", constant("zero", np.array(0)), axis=0)
    last_step = add("Gather", "strip", constant("last", np.array(last)), axis=0)
    pair = (first_step, last_step) if reverse else (last_step, first_step)
    difference = add("Sub", *pair)
    columns = add("ReduceSum", difference, constant("axes", np.array([0, 2])), keepdims=0)
    total = None
    for shift in range(patch):
        start = constant(f"start{shift}", np.array([shift]))
        end = constant(f"end{shift}", np.array([shift + batch]))
        part = add("Slice", columns, start, end)
        total = part if total is None else add("Add", total, part)
    assert total is not None
    half = constant("half", np.array(0.5, np.float32))
    moved = add("Add", add("Mul", total, constant("scale", np.array(SCALE, np.float32))), half)
    bounds = constant("low", np.array(0, np.float32)), constant("high", np.array(1, np.float32))
    second = add("Clip", moved, *bounds)
    first = add("Sub", bounds[1], second)
    column = constant("column", np.array([1]))
    outputs = add("Concat", add("Unsqueeze", first, column), add("Unsqueeze", second, column), axis=1)
    nodes[-1].output[0] = "probabilities"
    assert outputs
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("strip", TensorProto.FLOAT, serving.strip_shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (batch, 2))],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def expected_map(
    stored: np.ndarray, days: np.ndarray, patch: int, classes: ClassTable = CLASSES
) -> np.ndarray:
    """The fake model's map in plain numpy: gaps filled with `numpy.interp`, patches cut one by one."""
    _, height, width, bands = stored.shape
    filled = np.empty(stored.shape)
    for row in range(height):
        for col in range(width):
            for band in range(bands):
                series = stored[:, row, col, band]
                good = series != NODATA
                filled[:, row, col, band] = np.interp(days, days[good], series[good]) if good.any() else FILL
    difference = (filled[-1] - filled[0]).sum(axis=-1)
    half = patch // 2
    padded = np.pad(difference, half, mode="edge")
    total = sum(padded[r : r + height, c : c + width] for r in range(patch) for c in range(patch))
    brighter = 0.5 + total * SCALE > 0.5
    out = np.where(brighter, classes.values[1], classes.values[0]).astype(classes.map_dtype)
    out[(stored == NODATA).all(axis=(0, 3))] = classes.nodata
    return out


def classify(scene: Scene, model: Path, output: Path, *flags: str) -> int:
    """Run step 4 in this process, one worker unless the flags say otherwise; gives the exit status."""
    given = [] if "--direct_num_workers" in flags else ["--direct_num_workers", "1"]
    return main(["-i", str(scene.folder), "-m", str(model), "-o", str(output), *given, *flags])


def load(path: Path) -> dict[str, Any]:
    """The object in a JSON file, such as a certificate."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def read_map(path: Path) -> np.ndarray:
    """The first band."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)
