import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from rasterio.transform import Affine

from dlts_beam.errors import DltsError
from dlts_beam.io.raster.quicklook import write_quicklook
from dlts_beam.spec.classes import ClassRow

CLASSES = (ClassRow(0, 1, "forest", "#00ff00"), ClassRow(1, 7, "water", "#0000ff"))


def write_map(path, values, crs="EPSG:32721"):
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype="uint8",
        nodata=255, crs=crs, transform=Affine(30, 0, 500000, 0, -30, 8000000),
    ) as target:  # fmt: skip
        target.write(values, 1)
    return str(path)


def share_of(picture: np.ndarray, colour: tuple[float, float, float]) -> float:
    return float((np.abs(picture[..., :3] - colour) < 0.01).all(axis=-1).mean())


def test_the_picture_shows_each_class_in_its_colour(tmp_path):
    values = np.full((60, 80), 1, np.uint8)
    values[:, 40:60] = 7
    values[:, 60:] = 255
    source, target = write_map(tmp_path / "map.tif", values), str(tmp_path / "map.png")
    write_quicklook(source, target, CLASSES)
    picture = imread(target)
    forest, water = share_of(picture, (0, 1, 0)), share_of(picture, (0, 0, 1))
    assert forest / water == pytest.approx(2, rel=0.15)
    grey = 0xD9 / 255
    assert share_of(picture, (grey, grey, grey)) > 0.05


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (700, 900)])
@pytest.mark.parametrize("crs", ["EPSG:32721", "EPSG:4326", None])
def test_any_shape_and_crs_gives_a_picture(tmp_path, shape, crs):
    source = write_map(tmp_path / "map.tif", np.ones(shape, np.uint8), crs)
    write_quicklook(source, str(tmp_path / "map.png"), CLASSES, max_size=128)
    assert max(imread(tmp_path / "map.png").shape) < 1200


def test_the_same_map_gives_the_same_bytes(tmp_path):
    source = write_map(tmp_path / "map.tif", np.tile(np.array([[1, 7], [255, 1]], np.uint8), (20, 20)))
    write_quicklook(source, str(tmp_path / "a.png"), CLASSES)
    write_quicklook(source, str(tmp_path / "b.png"), CLASSES)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_wrong_input_is_one_sentence(tmp_path):
    source = write_map(tmp_path / "map.tif", np.full((5, 5), 3, np.uint8))
    with pytest.raises(DltsError, match="holds value 3"):
        write_quicklook(source, str(tmp_path / "map.png"), CLASSES)
    with pytest.raises(DltsError, match="cannot read map"):
        write_quicklook(str(tmp_path / "none.tif"), str(tmp_path / "map.png"), CLASSES)
    with pytest.raises(ValueError, match="max_size"):
        write_quicklook(source, str(tmp_path / "map.png"), CLASSES, max_size=1)
