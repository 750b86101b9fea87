"""Defect 4 of the parent: textual order, and names cut at their first dot.

It put ``2016_10`` before ``2016_2`` and ``ts_b10`` before ``ts_b2``, and of ``a.2016.tif`` and ``a.2017.tif``
one overwrote the other.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec.series import SeriesSpec
from pipelines.generate_img_series import main
from tests.images import write_image


def series(folder: Path, *flags: str) -> SeriesSpec:
    output = folder.parent / "series"
    assert main(["-i", str(folder), "-o", str(output), *flags, "--direct_running_mode=in_memory"]) == 0
    return SeriesSpec.from_json((output / "series.json").read_bytes())


def first_pixels(spec: SeriesSpec) -> list[list[float]]:
    """The values of the pixel in the corner: a row per time step."""
    with SeriesReader(spec) as reader:
        values, _ = reader.read(spec.grid.window)
    return values[:, 0, 0].tolist()


def test_months_are_numbers(tmp_path: Path):
    for month in (1, 2, 10, 11):
        write_image(tmp_path / "i" / f"ndvi_2016_{month}.tif", np.full((2, 2), month, np.uint8))
    spec = series(tmp_path / "i")
    assert [step.time for step in spec.steps] == ["2016-01-01", "2016-02-01", "2016-10-01", "2016-11-01"]
    assert first_pixels(spec) == [[1], [2], [10], [11]]


def test_bands_are_numbers(tmp_path: Path):
    bands = np.stack([np.full((2, 2), number, np.uint8) for number in range(1, 12)])
    write_image(tmp_path / "i" / "20160101.tif", bands)
    spec = series(tmp_path / "i")
    assert [band.name for band in spec.bands] == [f"b{number}" for number in range(1, 12)]
    assert first_pixels(spec) == [list(range(1, 12))]


def test_files_of_stacked_bands_are_numbers(tmp_path: Path):
    for number in (1, 2, 10):
        write_image(tmp_path / "i" / f"ts_b{number}.tif", np.full((1, 2, 2), number, np.uint8))
    spec = series(tmp_path / "i", "--stacked", "--undated")
    assert [band.name for band in spec.bands] == ["ts_b1", "ts_b2", "ts_b10"]
    assert first_pixels(spec) == [[1, 2, 10]]


def test_undated_steps_are_numbers(tmp_path: Path):
    for number in (1, 2, 10):
        write_image(tmp_path / "i" / f"step{number}.tif", np.full((2, 2), number, np.uint8))
    assert first_pixels(series(tmp_path / "i", "--undated")) == [[1], [2], [10]]


def test_a_name_ends_at_its_last_dot(tmp_path: Path):
    for year in (2017, 2016):
        write_image(tmp_path / "i" / f"a.{year}.tif", np.full((2, 2), year, np.uint16))
    assert first_pixels(series(tmp_path / "i")) == [[2016], [2017]]
