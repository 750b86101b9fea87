"""What an ERDAS Imagine file can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio
from rasterio.enums import Resampling

from dlts_beam.errors import DltsError
from dlts_beam.io.raster.hfa import check_size, check_transform, write_hfa

TRANSFORM = rasterio.Affine(30.0, 0.0, 5e5, 0.0, -30.0, 8e6)


@pytest.mark.parametrize(("height", "width", "pixel"), [(38_000, 38_000, 1), (10_000, 73_000, 2), (1, 1, 9)])
def test_what_fits_is_taken(height: int, width: int, pixel: int) -> None:
    check_size("map.img", height, width, pixel)


@pytest.mark.parametrize(
    ("height", "width", "pixel"),
    [(46_300, 46_300, 1), (39_000, 39_000, 1), (10_000, 77_000, 2), (10_000, 10_000, 16), (1, 40_000_000, 1)],
)
def test_what_may_not_fit_in_one_file_is_refused(height: int, width: int, pixel: int) -> None:
    with pytest.raises(DltsError, match=r"cannot write map\.img: .* use a name that ends in \.tif"):
        check_size("map.img", height, width, pixel)


def test_the_largest_that_is_taken_stays_in_one_file(tmp_path: Path) -> None:
    """GDAL decides when it makes the file, by its size: no pixel need be written."""
    names = {}
    for side in (38_400, 46_300):
        folder = tmp_path / str(side)
        folder.mkdir()
        with rasterio.open(
            folder / "map.img", "w", driver="HFA", height=side, width=side, count=1, dtype="uint8",
            transform=TRANSFORM, COMPRESSED="YES",
        ):  # fmt: skip
            pass
        names[side] = sorted(path.name for path in folder.iterdir())
    check_size("map.img", 38_400, 38_400, 1)
    assert names == {38_400: ["map.img"], 46_300: ["map.ige", "map.img"]}


def test_overviews_go_down_to_one_block(tmp_path: Path) -> None:
    source = tmp_path / "source.tif"
    with rasterio.open(source, "w", driver="GTiff", height=9, width=1100, count=1, dtype="uint8",
                       transform=TRANSFORM):  # fmt: skip
        pass
    write_hfa(str(source), str(tmp_path / "map.img"), Resampling.mode)
    with rasterio.open(tmp_path / "map.img") as dataset:
        assert dataset.overviews(1) == [2, 4]


def test_columns_that_run_westwards_are_refused() -> None:
    """GDAL would write them as if they ran eastwards."""
    for transform in ((30.0, 0.0, 5e5, 0.0, 30.0, 8e6), (-30.0, 2.0, 5e5, 0.0, -30.0, 8e6)):
        check_transform("map.img", transform)
    with pytest.raises(DltsError, match=r"cannot write map\.img: .* use a name that ends in \.tif"):
        check_transform("map.img", (-30.0, 0.0, 5e5, 0.0, -30.0, 8e6))
