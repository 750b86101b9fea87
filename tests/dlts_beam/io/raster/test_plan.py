"""The one check of step 1: what a reference image must be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.io.raster.headers import crs_name, parse_crs
from tests.images import plan, write_image

ONES = np.ones((2, 3, 4), np.int16)


def test_a_reference_without_crs_needs_the_flag(tmp_path: Path):
    like = write_image(tmp_path / "like.tif", ONES, crs=None)
    write_image(tmp_path / "i" / "20180812.tif", ONES)
    with pytest.raises(DltsError, match=r"--like .*/like.tif has no coordinate reference system: give --crs"):
        plan(tmp_path / "i", like=like)
    for crs in ("EPSG:32720", None):
        write_image(tmp_path / "i" / "20180812.tif", ONES, crs=crs)
        spec = plan(tmp_path / "i", like=like, extent="like", crs=parse_crs("EPSG:32720"))
        assert crs_name(spec.grid.crs) == "EPSG:32720"


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("align", [False, True])
def test_a_reference_that_no_image_touches_is_refused(tmp_path: Path, stacked: bool, align: bool):
    like = write_image(tmp_path / "like.tif", ONES, row=50, col=70)
    write_image(tmp_path / "i" / "20180812.tif", ONES, row=0.5 if align else 0)
    settings = {"like": like, "stacked": stacked, "undated": True, "align": align}
    with pytest.raises(DltsError, match=r"no image lies on the grid of --like .*/like.tif: choose another"):
        plan(tmp_path / "i", extent="like", **settings)
    assert plan(tmp_path / "i", extent="union", **settings).sources[0][0]
