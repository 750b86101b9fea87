"""Hand-made series and models for tests: few pixels, a model whose answer a child can compute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import rasterio
from onnx import TensorProto, helper
from rasterio.crs import CRS
from rasterio.transform import Affine

from dlts_beam.grid import Grid
from dlts_beam.spec import (
    Band,
    ClassTable,
    Ledger,
    ModelSpec,
    PreparationSpec,
    Reading,
    SamplesSpec,
    SeriesSpec,
    ServingSpec,
    Source,
    SourceFile,
    TimeStep,
)

WKT = CRS.from_epsg(32721).to_wkt()
NODATA = 0
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


def make_series(
    folder: Path,
    stored: np.ndarray,
    dates: Sequence[str] | None = None,
    block: int = 16,
    reading: Reading | None = None,
) -> Scene:
    """Write one GeoTIFF per time step and the ``series.json`` that step 1 would write for them.

    Args:
        stored: uint16 (T, H, W, B).
        dates: ISO dates; numbered steps without.
        block: side of the files' storage blocks, a multiple of 16.
    """
    steps, height, width, bands = stored.shape
    grid = Grid(WKT, (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_800_000.0), height, width)
    images_folder = folder / "images"
    images_folder.mkdir(parents=True, exist_ok=True)
    paths, files = [], []
    for step in range(steps):
        path = images_folder / f"image_{step:03d}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=stored.dtype.name,
            crs=CRS.from_wkt(WKT), transform=Affine(*grid.transform), nodata=NODATA,
            tiled=True, blockxsize=block, blockysize=block, compress="deflate", interleave="pixel",
        ) as dataset:  # fmt: skip
            dataset.write(np.moveaxis(stored[step], -1, 0))
        paths.append(path)
        files.append(source_file(path, height, width, block))
    spec = SeriesSpec(
        grid=grid,
        steps=tuple(TimeStep(step, dates[step] if dates is not None else None) for step in range(steps)),
        bands=tuple(Band(b + 1, f"b{b + 1}", stored.dtype.name, float(NODATA)) for b in range(bands)),
        files=tuple(files),
        sources=tuple(tuple((Source(step, b + 1),) for b in range(bands)) for step in range(steps)),
        reading=reading or Reading(),
    )
    (folder / "series.json").write_text(spec.to_json())
    return Scene(folder, tuple(paths), spec, stored)


def source_file(path: Path, height: int, width: int, block: int, row: int = 0, col: int = 0) -> SourceFile:
    """The entry of a file as it is on disk now."""
    status = path.stat()
    return SourceFile(
        str(path), row, col, height, width, status.st_size, str(status.st_mtime_ns), block=(block, block)
    )


def random_scene(
    folder: Path,
    height: int = 37,
    width: int = 53,
    steps: int = 4,
    bands: int = 2,
    cloud: float = 0.2,
    seed: int = 0,
    dates: Sequence[str] | None = None,
) -> Scene:
    """Noise with holes; one corner was never observed, one pixel only once."""
    generator = np.random.default_rng(seed)
    stored = generator.integers(1, 2000, (steps, height, width, bands), np.uint16)
    stored[generator.random((steps, height, width)) < cloud] = NODATA
    stored[:, : height // 6, : width // 6] = NODATA
    if dates is None:
        first = np.datetime64("2020-01-03")
        dates = [str(first + 13 * step) for step in range(steps)]
    return make_series(folder, stored, dates)


def make_model(
    folder: Path,
    series: SeriesSpec,
    patch: int = 1,
    batch: int = 64,
    classes: ClassTable = CLASSES,
    names: Sequence[str] = ("loss",),
    fill: float = 500.0,
    reverse: bool = False,
) -> Path:
    """A model folder with a hand-made serving model: class 1 where the last step is brighter than the first.

    What is compared is the sum over the patch and all bands, so that a patch in the wrong place shows.

    Args:
        reverse: another model of the same shape: class 1 where the last step is darker.
    """
    bands = tuple(band.name for band in series.bands)
    serving = ServingSpec(batch, patch // 2, len(series.steps), len(bands), 2)
    digests = {}
    for name in names:
        content = brightness_model(serving, reverse).SerializeToString()
        path = folder / "serving" / name / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    spec = ModelSpec(
        samples=SamplesSpec(
            series=series.fingerprint(), grid=series.grid, steps=series.steps, bands=series.bands,
            dtype="uint16", patch=patch, classes=classes, class_counts=(1, 1), shards=1, samples=2,
            block_size=300.0, features=Ledger(2, 2), candidates=Ledger(2, 2),
        ),
        steps=series.steps,
        bands=series.bands,
        classes=classes,
        preparation=PreparationSpec(bands, (fill,) * len(bands)),
        architecture="brightness",
        config={},
        settings={},
        serving=serving,
        serving_sha256=digests,
    )  # fmt: skip
    (folder / "model.json").write_text(spec.to_json())
    return folder


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
    stored: np.ndarray, days: np.ndarray, patch: int, classes: ClassTable = CLASSES, fill: float = 500.0
) -> np.ndarray:
    """The fake model's map in plain numpy: gaps filled with `numpy.interp`, patches cut one by one."""
    _, height, width, bands = stored.shape
    filled = np.empty(stored.shape)
    for row in range(height):
        for col in range(width):
            for band in range(bands):
                series = stored[:, row, col, band]
                good = series != NODATA
                filled[:, row, col, band] = np.interp(days, days[good], series[good]) if good.any() else fill
    difference = (filled[-1] - filled[0]).sum(axis=-1)
    half = patch // 2
    padded = np.pad(difference, half, mode="edge")
    total = sum(padded[r : r + height, c : c + width] for r in range(patch) for c in range(patch))
    brighter = 0.5 + total * SCALE > 0.5
    out = np.where(brighter, classes.values[1], classes.values[0]).astype(classes.map_dtype)
    out[(stored == NODATA).all(axis=(0, 3))] = classes.nodata
    return out
