"""Defect 6 of the parent, its first half: no check of CRS and grid.

Other extents were merged silently and filled with 0. The other half, holes taken for data, has its own test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec.series import SeriesSpec
from pipelines.generate_img_series import main
from tests.images import write_image

FIVES = np.full((2, 3), 5, np.uint8)


def run(folder: Path, *flags: str) -> int:
    output = folder.parent / "series"
    return main(["-i", str(folder), "-o", str(output), *flags, "--direct_running_mode=in_memory"])


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"crs": "EPSG:32721"}, "another CRS (EPSG:32721)"),
        ({"pixel": 20.0}, "another resolution (20 x 20)"),
        ({"col": 0.5}, "another origin (500005, 9000000)"),
    ],
)
def test_an_image_on_another_grid_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict, reason: str
):
    write_image(tmp_path / "i" / "20160101.tif", FIVES)
    write_image(tmp_path / "i" / "20160117.tif", FIVES)
    write_image(tmp_path / "i" / "20160202.tif", FIVES, **other)
    assert run(tmp_path / "i") == 1
    assert f"20160202.tif has {reason}" in capsys.readouterr().err
    assert run(tmp_path / "i", "--align") == 0


def test_what_an_image_does_not_cover_is_not_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_image(tmp_path / "i" / "20160101.tif", FIVES)
    write_image(tmp_path / "i" / "20160117.tif", FIVES, col=1)
    assert run(tmp_path / "i") == 0
    assert "   1  2016-01-17   75.0 %  20160117.tif" in capsys.readouterr().out
    spec = SeriesSpec.from_json((tmp_path / "series" / "series.json").read_bytes())
    with SeriesReader(spec) as reader:
        values, valid = reader.read(spec.grid.window)
    yes, no = True, False
    assert valid[:, 0, :, 0].tolist() == [[yes, yes, yes, no], [no, yes, yes, yes]]
    assert values[:, 0, :, 0].tolist() == [[5, 5, 5, 0], [0, 5, 5, 5]]
