import geopandas
import numpy as np
import pytest
import rasterio

from dlts_beam.errors import DltsError
from dlts_beam.io.scene import write_scene
from dlts_beam.spec.classes import ClassTable
from dlts_beam.synthetic import make_scene, sample_points


def test_a_written_scene_reads_back(tmp_path):
    scene = make_scene(64, seed=2, dates=3)
    points = sample_points(scene, per_class=5)
    files = write_scene(scene, points, str(tmp_path))
    for date, expected in zip(scene.dates, scene.cube, strict=True):
        with rasterio.open(f"{files.images}/DEMO_{date:%Y%m%d}.tif") as image:
            np.testing.assert_array_equal(np.moveaxis(image.read(), 0, -1), expected)
            assert image.descriptions == scene.bands
            assert image.nodata == scene.nodata
            assert image.scales == (scene.scale,) * 4
            assert image.crs.to_epsg() == 32721
            assert tuple(image.transform)[:6] == scene.grid.transform
            assert image.profile["tiled"]
    with rasterio.open(files.truth) as truth:
        np.testing.assert_array_equal(truth.read(1), scene.truth)
        assert truth.nodata == scene.classes.nodata
    table = geopandas.read_file(files.points)
    assert table.crs.to_epsg() == 32721
    np.testing.assert_array_equal(table["class"], points.value)
    np.testing.assert_allclose(table.geometry.x, points.x)
    names = dict(zip(scene.classes.values, scene.classes.names, strict=True))
    assert table["name"].tolist() == [names[value] for value in points.value.tolist()]
    assert ClassTable.from_csv((tmp_path / "classes.csv").read_text()) == scene.classes


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file")
    scene = make_scene(64, dates=2)
    with pytest.raises(DltsError, match="taken"):
        write_scene(scene, sample_points(scene, 2), str(tmp_path / "taken"))
