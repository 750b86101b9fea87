"""What the mask or the alpha band of an image hides gets no sample: steps 1 and 2 together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.grid import Grid
from pipelines.generate_img_series import main as generate_img_series
from tests.helpers import pixel_centres, write_points
from tests.images import CRS, write_image
from tests.pipelines.sampling import records_of, rejected_of, run, spec_of

GRID = Grid(CRS, (10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), 8, 9)
QUICK = ["--direct_running_mode=in_memory"]


@pytest.mark.parametrize("kind", ["mask", "alpha"])
@pytest.mark.parametrize("shift", [0, 0.1])
def test_a_pixel_that_is_hidden_on_all_dates_gives_no_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, shift: float
):
    like = write_image(tmp_path / "like.tif", np.ones((8, 9), np.uint8))
    values = np.random.default_rng(0).integers(1, 200, (4, 8, 9)).astype(np.uint8)
    seen = np.ones((8, 9), bool)
    seen[2, 3] = seen[5, 5] = False
    values[3] = np.where(seen, 255, 0)
    for day in (12, 28):
        path = tmp_path / "i" / f"201808{day}.tif"
        if kind == "mask":
            write_image(path, values[:3], shift, shift, mask=seen)
        else:
            write_image(path, values, shift, shift, photometric="RGB", alpha="yes")
    flags = ["-i", str(tmp_path / "i"), "-o", str(tmp_path / "series"), "--like", str(like), "--align"]
    if kind == "alpha":
        flags += ["-b", "1", "2", "3"]
    assert generate_img_series([*flags, *QUICK]) == 0
    told = "alpha: pixels where band 4 is 0 are missing; it is no band of the series unless -b names it"
    assert (told in capsys.readouterr().out) == (kind == "alpha")
    pixels = [(2, 3), (2, 4), (5, 5), (6, 6), (7, 8)]
    x, y = pixel_centres(GRID, pixels)
    write_points(tmp_path / "points.gpkg", x, y, CRS, **{"class": [1, 2, 1, 2, 1]})
    assert run(tmp_path, "--no-summary") == 0
    assert len(spec_of(tmp_path / "out").bands) == 3
    assert sorted((r["row"], r["col"]) for r in records_of(tmp_path / "out")) == [(2, 4), (6, 6), (7, 8)]
    refused = [(row["row"], row["col"], row["reason"]) for row in rejected_of(tmp_path / "out")]
    assert sorted(refused) == [(*map(str, pixel), "too few valid observations") for pixel in ((2, 3), (5, 5))]
