"""Defect 3 of dl-time-series: points at the raster's edge, left of it or above it, and in another CRS.

There, a point on the outermost row crashed everything, a point up to one pixel left of or above the raster
was moved inside without a word, and the CRS of points and raster were never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from dlts_beam.records import RecordLayout, decode_series, unpack_valid
from dlts_beam.spec import SamplesSpec
from dlts_beam.tfrecord import parse_example, read_records
from pipelines.generate_img_series import main as generate_img_series
from pipelines.generate_series import main
from tests.helpers import TRANSFORM, make_series, write_points

HEIGHT, WIDTH = 5, 4
# cube[time, row, col, band] = 100 * time + 10 * row + col + 1: every value tells where it came from.
TIME, ROW, COL = np.mgrid[0:2, 0:HEIGHT, 0:WIDTH]
CUBE = (100 * TIME + 10 * ROW + COL + 1).astype(np.int16)[..., None]


def extract(tmp_path: Path, pixels: Sequence[tuple[float, float]]) -> tuple[SamplesSpec, dict[int, dict]]:
    """Run step 2 on points at (row, col), fractions allowed; records by number of the point."""
    make_series(tmp_path / "series", CUBE, nodata=0)
    x = [TRANSFORM[2] + 30 * col for _, col in pixels]
    y = [TRANSFORM[5] - 30 * row for row, _ in pixels]
    write_points(tmp_path / "points.gpkg", x, y, **{"class": [n % 2 for n in range(len(pixels))]})
    flags = ["-i", tmp_path / "series", "-s", tmp_path / "points.gpkg", "-o", tmp_path / "out"]
    assert main([str(flag) for flag in flags]) == 0
    return read(tmp_path / "out")


def read(folder: Path) -> tuple[SamplesSpec, dict[int, dict]]:
    spec = SamplesSpec.from_json((folder / "samples.json").read_text())
    found = {}
    for path in sorted(folder.glob("*.tfrecord.gz")):
        for record in read_records(str(path)):
            parsed = parse_example(record)
            found[parsed["feature"]] = parsed
    return spec, found


def test_points_in_the_outermost_pixels_are_samples_with_the_outside_not_valid(tmp_path: Path):
    corners = [(0.5, 0.5), (0.5, 3.5), (4.5, 0.5), (4.5, 3.5)]
    spec, found = extract(tmp_path, corners)
    assert spec.samples == 4
    layout = RecordLayout.of(spec)
    first = decode_series([found[0]["series"]], layout)[0, :, :, :, 0]
    assert first[0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 11, 12]]
    assert first[1].tolist() == [[0, 0, 0], [0, 101, 102], [0, 111, 112]]
    last = decode_series([found[3]["series"]], layout)[0, 0, :, :, 0]
    assert last.tolist() == [[33, 34, 0], [43, 44, 0], [0, 0, 0]]
    for record in found.values():
        series = decode_series([record["series"]], layout)
        np.testing.assert_array_equal(unpack_valid([record["valid"]], layout.shape), series != 0)


def test_points_just_left_of_or_above_the_raster_are_outside(tmp_path: Path):
    out = [(2.5, -0.01), (2.5, -0.99), (-0.01, 1.5), (-0.99, 1.5), (-0.5, -0.5), (5.01, 1.5), (2.5, 4.01)]
    spec, found = extract(tmp_path, [(2.5, 1.5), (0.01, 0.01), *out])
    assert {number: (record["row"], record["col"]) for number, record in found.items()} == {
        0: (2, 1),
        1: (0, 0),
    }
    assert spec.features.rejected == {"outside the grid": len(out)}
    rejected = (tmp_path / "out" / "rejected.csv").read_text().splitlines()
    assert len(rejected) == 1 + len(out)


@pytest.fixture(scope="module")
def porto(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Real images and points: Porto dos Gauchos 2012, 37 x 27 pixels, and its series."""
    source = real_data / "porto_dos_gauchos_modis_2012"
    folder = tmp_path_factory.mktemp("porto")
    assert (
        generate_img_series(["-i", str(source / "images"), "-b", "2", "5", "-o", str(folder / "series")]) == 0
    )
    return source, folder


def run_porto(porto: tuple[Path, Path], points: str) -> Path:
    source, folder = porto
    out = folder / Path(points).name
    flags = ["-i", folder / "series", "-s", source / "samples" / points, "-n", "5", "-o", out]
    assert main([str(flag) for flag in flags]) == 0
    return out


def test_the_28_real_points_on_the_outermost_rows_and_columns_are_samples(porto: tuple[Path, Path]):
    spec, found = read(run_porto(porto, "points.gpkg"))
    assert (spec.samples, spec.class_counts) == (291, (68, 23, 79, 46, 75))
    height, width = spec.grid.height, spec.grid.width
    edge = [
        record
        for record in found.values()
        if record["row"] in (0, height - 1) or record["col"] in (0, width - 1)
    ]
    assert len(edge) == 28
    layout = RecordLayout.of(spec)
    for record in edge:
        valid = unpack_valid([record["valid"]], layout.shape)[0]
        rows, cols = record["row"] + np.arange(-1, 2), record["col"] + np.arange(-1, 2)
        inside = ((rows >= 0) & (rows < height))[:, None] & ((cols >= 0) & (cols < width))
        # These two bands have no gaps: what is not valid is exactly what lies outside.
        np.testing.assert_array_equal(valid, np.broadcast_to(inside[None, :, :, None], valid.shape))


@pytest.mark.parametrize("points", ["points_wgs84.geojson", "points.shp"])
def test_points_in_another_crs_or_format_give_the_same_bytes(porto: tuple[Path, Path], points: str):
    first, second = run_porto(porto, "points.gpkg"), run_porto(porto, points)
    for path in first.glob("*.tfrecord.gz"):
        assert (second / path.name).read_bytes() == path.read_bytes()


def test_points_with_a_wrong_crs_are_all_outside(
    porto: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    source, folder = porto
    frame = gpd.read_file(source / "samples" / "points_wgs84.geojson")
    frame.set_crs("EPSG:3857", allow_override=True).to_file(folder / "wrong.gpkg")
    flags = ["-i", folder / "series", "-s", folder / "wrong.gpkg", "-o", folder / "wrong"]
    assert main([str(flag) for flag in flags]) == 1
    assert "all 291 features lie outside the series" in capsys.readouterr().err
