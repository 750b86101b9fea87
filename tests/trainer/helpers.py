"""Small samples folders for tests: series whose class a child can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dlts_beam.grid import Grid
from dlts_beam.spec import Band, ClassTable, Ledger, SamplesSpec, TimeStep, sample_id, shard_name
from dlts_beam.spec import samples as names

GRID = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 9_000_000.0), 40, 50)


@dataclass
class Fake:
    """What a samples folder will hold; tests change it before writing."""

    spec: SamplesSpec
    stored: np.ndarray
    valid: np.ndarray
    days: np.ndarray
    class_ids: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    ids: list[str]
    features: np.ndarray
    kept: dict[str, list[str]]


def make_fake(
    per_class: Sequence[int] = (30, 30),
    steps: int = 6,
    patch: int = 1,
    bands: int = 2,
    seed: int = 0,
    dtype: str = "int16",
    class_names: Sequence[str] | None = None,
) -> Fake:
    """Class k is bright at time step k modulo steps, with a little noise; places are distinct pixels."""
    generator = np.random.default_rng(seed)
    count = sum(per_class)
    class_ids = np.repeat(np.arange(len(per_class)), per_class)
    generator.shuffle(class_ids)
    stored = generator.normal(1000, 60, (count, steps, patch, patch, bands))
    stored[np.arange(count), class_ids % steps] += 1500
    pixels = generator.permutation(GRID.height * GRID.width)[:count]
    rows, cols = pixels // GRID.width, pixels % GRID.width
    days = np.tile(np.arange(steps) * 16.0 + 15000, (count, 1))
    labels = class_names or [f"class {k}" for k in range(len(per_class))]
    spec = SamplesSpec(
        series="0" * 64,
        grid=GRID,
        steps=tuple(TimeStep(k, f"{np.datetime64('2011-01-26') + 16 * k}") for k in range(steps)),
        bands=tuple(Band(k + 1, f"b{k + 1}", dtype, scale=0.001) for k in range(bands)),
        dtype=dtype,
        patch=patch,
        classes=ClassTable.from_labels(labels),
        class_counts=tuple(int(n) for n in per_class),
        shards=2,
        samples=count,
        block_size=300.0,
        features=Ledger(count, count),
        candidates=Ledger(count, count),
    )
    ids = [sample_id(*GRID.xy(row + 0.5, col + 0.5)) for row, col in zip(rows, cols, strict=True)]
    valid = np.ones(stored.shape, bool)
    return Fake(spec, stored.astype(dtype), valid, days, class_ids, rows, cols, ids, np.arange(count), {})


def write_fake(folder: Path, fake: Fake, shards: int = 2, order: Sequence[int] | None = None) -> str:
    """Write the folder; returns its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = replace(fake.spec, shards=shards, kept=tuple(fake.kept))
    (folder / names.SAMPLES_JSON).write_text(spec.to_json())
    (folder / names.CLASSES_CSV).write_text(spec.classes.to_csv())
    indices = list(order) if order is not None else list(range(len(fake.ids)))
    for shard in range(shards):
        path = str(folder / shard_name(shard, shards))
        with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP")) as writer:
            for index in indices[shard::shards]:
                writer.write(encode(fake, index))
    return str(folder)


def encode(fake: Fake, index: int) -> bytes:
    """One serialised tf.train.Example."""
    row, col = int(fake.rows[index]), int(fake.cols[index])
    x, y = fake.spec.grid.xy(row + 0.5, col + 0.5)
    block = f"{int(x // fake.spec.block_size)}_{int(y // fake.spec.block_size)}"
    features: dict[str, Any] = {
        names.FEATURE_SERIES: fake.stored[index].tobytes(),
        names.FEATURE_VALID: np.packbits(fake.valid[index]).tobytes(),
        names.FEATURE_DAYS: fake.days[index].astype("<f8").tobytes(),
        names.FEATURE_CLASS: int(fake.class_ids[index]),
        names.FEATURE_ID: fake.ids[index].encode(),
        names.FEATURE_ROW: row,
        names.FEATURE_COL: col,
        names.FEATURE_NUMBER: int(fake.features[index]),
        names.FEATURE_X: float(x),
        names.FEATURE_Y: float(y),
        names.FEATURE_BLOCK: block.encode(),
        **{names.FEATURE_KEPT + name: values[index].encode() for name, values in fake.kept.items()},
    }
    return tf.train.Example(
        features=tf.train.Features(feature={k: _feature(v) for k, v in features.items()})
    ).SerializeToString()


def _feature(value: bytes | int | float) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
