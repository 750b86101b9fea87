"""A small series with labelled points, and what the tests of step 2 read of its samples."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from dlts_beam.spec import SamplesSpec, SeriesSpec
from dlts_beam.tfrecord import parse_example, read_records
from pipelines.generate_series import main
from tests.helpers import make_series, pixel_centres, random_cube, write_points

SampledScene = tuple[Path, np.ndarray, SeriesSpec]
"""The folder that holds ``series`` and ``points.gpkg``, the stored cube (T, H, W, B), the series' spec."""


def make_scene(folder: Path) -> SampledScene:
    """A series with nodata 0 in a tenth of its values, and 60 points with labels 3, 5 and 9."""
    cube = random_cube(steps=4, height=20, width=30, bands=2)
    cube[np.random.default_rng(5).random(cube.shape) < 0.1] = 0
    series = make_series(folder / "series", cube, nodata=0)
    flat = np.random.default_rng(1).choice(600, 60, replace=False)
    x, y = pixel_centres(series.grid, [(int(place) // 30, int(place) % 30) for place in flat])
    columns = {"class": [(3, 5, 9)[n % 3] for n in range(60)], "plot": [f"plot {n}" for n in range(60)]}
    write_points(folder / "points.gpkg", x, y, **columns)
    return folder, cube, series


def run(folder: Path, *more: str, samples: str = "points.gpkg", output: str = "out") -> int:
    return main(
        ["-i", str(folder / "series"), "-s", str(folder / samples), "-o", str(folder / output), *more]
    )


def records_of(folder: Path) -> list[dict]:
    """All parsed records of a samples folder."""
    shards = sorted(folder.glob("samples-*.tfrecord.gz"))
    return [parse_example(record) for shard in shards for record in read_records(str(shard))]


def spec_of(folder: Path) -> SamplesSpec:
    return SamplesSpec.from_json((folder / "samples.json").read_text())


def rejected_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "rejected.csv", newline="") as file:
        return list(csv.DictReader(file))
