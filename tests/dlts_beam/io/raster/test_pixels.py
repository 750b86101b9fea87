"""Some pixels of a window are what the whole window has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.grid import Window
from dlts_beam.io.raster.pixels import PixelReader
from dlts_beam.spec import Reading
from tests.helpers import make_series, random_cube


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_pixels_are_those_of_the_whole_window(tmp_path: Path, dtype: str):
    cube = random_cube(steps=3, height=9, width=13, bands=2, dtype="int16") % 200
    cube = cube.astype(dtype)
    if dtype.startswith("float"):
        cube[np.random.default_rng(2).random(cube.shape) < 0.1] = np.nan
    reading = Reading(valid_min=2.0, valid_max=180 * 0.5)
    series = make_series(tmp_path, cube, nodata=7, reading=reading, scale=0.5)
    rng = np.random.default_rng(0)
    with PixelReader(series) as reader:
        for window in (Window(0, 0, 9, 13), Window(2, 3, 5, 4), Window(8, 12, 1, 1)):
            stored, valid = reader.read_stored(window)
            for count in (1, window.pixels):
                pixels = np.sort(rng.choice(window.pixels, count, replace=False))
                got, got_valid = reader.read_pixels(window, pixels)
                assert got.dtype == stored.dtype
                for have, want in ((got, stored), (got_valid, valid)):
                    flat = want.reshape(3, window.pixels, 2)[:, pixels]
                    np.testing.assert_array_equal(have, np.moveaxis(flat, 0, 1))
    assert valid.mean() > 0 or window.pixels == 1
