"""Step 2 from the command line: what it writes is what plain numpy cuts out, and nothing is lost."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.records import RecordLayout, decode_days, decode_series, unpack_valid
from dlts_beam.spec import SamplesSpec, SeriesSpec, sample_id
from dlts_beam.tfrecord import parse_example, read_records
from pipelines.generate_series import main
from tests.helpers import make_series, pixel_centres, random_cube, write_points


def records_of(folder: Path) -> list[dict]:
    """All parsed records of a samples folder."""
    shards = sorted(folder.glob("samples-*.tfrecord.gz"))
    return [parse_example(record) for shard in shards for record in read_records(str(shard))]


def spec_of(folder: Path) -> SamplesSpec:
    return SamplesSpec.from_json((folder / "samples.json").read_text())


def rejected_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "rejected.csv", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def naive_patch(cube: np.ndarray, row: int, col: int, patch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: what is outside or 0 is not valid."""
    steps, height, width, bands = cube.shape
    series = np.zeros((steps, patch, patch, bands), cube.dtype)
    for i in range(patch):
        for j in range(patch):
            r, c = row + i - patch // 2, col + j - patch // 2
            if 0 <= r < height and 0 <= c < width:
                series[:, i, j] = cube[:, r, c]
    return series, series != 0


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, np.ndarray, SeriesSpec]:
    """A series with nodata 0 in a tenth of its values, and 60 points with labels 3, 5 and 9."""
    cube = random_cube(steps=4, height=20, width=30, bands=2)
    cube[np.random.default_rng(5).random(cube.shape) < 0.1] = 0
    series = make_series(tmp_path / "series", cube, nodata=0)
    flat = np.random.default_rng(1).choice(600, 60, replace=False)
    x, y = pixel_centres(series.grid, [(int(place) // 30, int(place) % 30) for place in flat])
    columns = {"class": [(3, 5, 9)[n % 3] for n in range(60)], "plot": [f"plot {n}" for n in range(60)]}
    write_points(tmp_path / "points.gpkg", x, y, **columns)
    return tmp_path, cube, series


def run(folder: Path, *more: str, samples: str = "points.gpkg", output: str = "out") -> int:
    return main(["-i", str(folder / "series"), "-s", str(folder / samples), "-o", str(folder / output), *more])


@pytest.mark.parametrize("patch", [1, 3, 5])
def test_samples_are_what_plain_numpy_cuts_out(scene, patch: int):
    folder, cube, series = scene
    assert run(folder, "--patch", str(patch), "-n", "3", "--keep", "plot") == 0
    spec = spec_of(folder / "out")
    layout = RecordLayout.of(spec)
    records = records_of(folder / "out")
    assert (spec.samples, spec.classes.values, spec.shape) == (len(records), (3, 5, 9), (4, patch, patch, 2))
    series_of = decode_series([r["series"] for r in records], layout)
    valid_of = unpack_valid([r["valid"] for r in records], layout.shape)
    for record, got, got_valid in zip(records, series_of, valid_of, strict=True):
        want, want_valid = naive_patch(cube, record["row"], record["col"], patch)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(got_valid, want_valid)
        x, y = series.grid.xy(record["row"] + 0.5, record["col"] + 0.5)
        assert (record["x"], record["y"]) == (x, y)
        assert record["id"].decode() == sample_id(x, y)
        assert record["class_id"] == record["feature"] % 3
        assert record["kept/plot"].decode() == f"plot {record['feature']}"
    np.testing.assert_array_equal(decode_days([records[0]["days"]], layout)[0], series.days)
    assert sum(spec.class_counts) == len(records) == spec.candidates.used


def test_tensorflow_reads_the_files(scene):
    tf = pytest.importorskip("tensorflow")
    folder, cube, _ = scene
    assert run(folder) == 0
    features = {
        "series": tf.io.FixedLenFeature([], tf.string),
        "class_id": tf.io.FixedLenFeature([], tf.int64),
        "row": tf.io.FixedLenFeature([], tf.int64),
        "col": tf.io.FixedLenFeature([], tf.int64),
        "x": tf.io.FixedLenFeature([], tf.float32),
    }
    shards = [str(path) for path in sorted((folder / "out").glob("*.tfrecord.gz"))]
    seen = 0
    for record in tf.data.TFRecordDataset(shards, "GZIP"):
        parsed = tf.io.parse_single_example(record, features)
        series = tf.io.decode_raw(parsed["series"], tf.uint16).numpy().reshape(4, 3, 3, 2)
        np.testing.assert_array_equal(series[:, 1, 1], cube[:, int(parsed["row"]), int(parsed["col"])])
        seen += 1
    assert seen == spec_of(folder / "out").samples
