from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from dlts_beam.grid import Grid, Tile, Window, count_tiles, crs_key, iter_tiles, split_window

NORTH_UP = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 9_000_000.0), 4, 6)
DEGREES = Grid("EPSG:4326", (0.1, 0.0, -55.3, 0.0, -0.1, -11.7), 9, 11)
ROTATED = Grid("", (3.0, 1.0, -100.0, 0.5, -2.0, 50.0), 5, 4)
SOUTH_UP = Grid("", (0.3, 0.0, -0.9, 0.0, 0.3, -0.6), 5, 4)
GRIDS = (NORTH_UP, DEGREES, ROTATED, SOUTH_UP)


def test_tiles_cover_every_pixel_exactly_once():
    for height, width, size in itertools.product(range(1, 8), range(1, 8), range(1, 9)):
        hits = np.zeros((height, width), int)
        tiles = list(iter_tiles(height, width, size))
        for tile in tiles:
            hits[tile.window.slices] += 1
            assert tile.window[:2] == (tile.row_index * size, tile.col_index * size)
            assert max(tile.window.height, tile.window.width) <= size
        assert (hits == 1).all()
        assert len(tiles) == count_tiles(height, width, size)


def test_tile_keys_sort_by_position():
    keys = [tile.key for tile in iter_tiles(120, 110, 1)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert Tile(3, 12, Window(0, 0, 1, 1)).key == "r00003c00012"


@pytest.mark.parametrize("size", [0, -1])
def test_tiles_of_no_size_are_refused(size: int):
    with pytest.raises(ValueError, match=f"tile size must be at least 1; got {size}"):
        next(iter_tiles(5, 5, size))


def test_split_covers_every_pixel_once_with_cuts_on_the_grid():
    for row, col, height, width in itertools.product((-3, 0, 2, 5), (-4, 0, 1), range(1, 7), (1, 4, 7)):
        window = Window(row, col, height, width)
        for step_rows, step_cols in itertools.product((1, 3, 4, 20), (1, 2, 5, 20)):
            hits = np.zeros((height, width), int)
            for piece in split_window(window, step_rows, step_cols):
                hits[piece.within(window).slices] += 1
                assert piece.height <= step_rows
                assert piece.width <= step_cols
                assert piece.row == row or piece.row % step_rows == 0
                assert piece.col == col or piece.col % step_cols == 0
            assert (hits == 1).all()


def test_split_refuses_no_size():
    with pytest.raises(ValueError, match="at least 1 x 1; got 0 x 3"):
        next(split_window(Window(0, 0, 2, 2), 0, 3))


def test_intersection_is_what_both_hold():
    boxes = [Window(*box) for box in itertools.product((-1, 0, 2), (-2, 0, 1), (1, 3), (1, 2))]

    def pixels(window: Window | None) -> set[tuple[int, int]]:
        if window is None:
            return set()
        return {(window.row + r, window.col + c) for r in range(window.height) for c in range(window.width)}

    for first, second in itertools.product(boxes, boxes):
        common = first.intersect(second)
        assert pixels(common) == pixels(first) & pixels(second)
        assert common == second.intersect(first)
        assert common is None or common.pixels == len(pixels(common)) > 0


def test_grow_and_within():
    window = Window(2, 3, 4, 5)
    grown = window.grow(2)
    assert grown == Window(0, 1, 8, 9)
    assert window.within(grown) == Window(2, 2, 4, 5)
    assert grown.grow(-2) == window
    array = np.arange(100).reshape(10, 10)
    assert (array[grown.slices][window.within(grown).slices] == array[window.slices]).all()


@pytest.mark.parametrize("grid", GRIDS)
def test_a_pixel_holds_its_centre_and_all_places_inside(grid: Grid):
    for row, col in itertools.product(range(-2, grid.height + 2), range(-2, grid.width + 2)):
        for down, right in itertools.product((0.001, 0.5, 0.999), repeat=2):
            assert grid.rowcol(*grid.xy(row + down, col + right)) == (row, col)
        assert grid.contains(row, col) == (0 <= row < grid.height and 0 <= col < grid.width)


@pytest.mark.parametrize("grid", GRIDS)
def test_upper_and_left_edges_belong_to_the_pixel(grid: Grid):
    """Also where the corner's coordinates cannot be written exactly in binary."""
    for row, col in itertools.product(range(-3, 40), range(-3, 40)):
        assert grid.rowcol(*grid.xy(row, col)) == (row, col)


def test_less_than_one_pixel_outside_is_outside():
    """Truncation toward zero would move these points inside."""
    left, bottom, right, top = NORTH_UP.bounds()
    for nudge in (0.001, 1.0, 29.0):
        assert NORTH_UP.rowcol(left - nudge, top - 1) == (0, -1)
        assert NORTH_UP.rowcol(left + 1, top + nudge) == (-1, 0)
        assert NORTH_UP.rowcol(right + nudge, top - 1) == (0, 6)
        assert NORTH_UP.rowcol(left + 1, bottom - nudge) == (4, 0)
    assert NORTH_UP.rowcol(right, top) == (0, 6)
    assert NORTH_UP.rowcol(left, bottom) == (4, 0)


def test_rowcols_is_rowcol_of_many():
    random = np.random.default_rng(5)
    for grid in GRIDS:
        left, bottom, right, top = grid.bounds()
        x = random.uniform(left - 9, right + 9, (3, 50))
        y = random.uniform(bottom - 9, top + 9, (3, 50))
        rows, cols = grid.rowcols(x, y)
        assert rows.dtype == cols.dtype == np.int64
        assert rows.shape == (3, 50)
        for place in np.ndindex(3, 50):
            assert (rows[place], cols[place]) == grid.rowcol(float(x[place]), float(y[place]))


def test_absurd_coordinates_stay_outside_and_nan_is_refused():
    row, col = NORTH_UP.rowcol(1e300, -1e300)
    assert row > 10**15
    assert col > 10**15
    with pytest.raises(ValueError, match="must be finite"):
        NORTH_UP.rowcol(math.nan, 0.0)


def test_bounds_hold_all_corners():
    assert NORTH_UP.bounds() == (500_000.0, 8_999_880.0, 500_180.0, 9_000_000.0)
    left, bottom, right, top = ROTATED.bounds()
    corners = np.array([ROTATED.xy(r, c) for r in range(6) for c in range(5)])
    assert (corners.min(axis=0) == (left, bottom)).all()
    assert (corners.max(axis=0) == (right, top)).all()


def test_grid_refuses():
    with pytest.raises(ValueError, match="height and width must be at least 1; got 0 x 4"):
        Grid("", NORTH_UP.transform, 0, 4)
    with pytest.raises(ValueError, match="transform must be invertible"):
        Grid("", (1.0, 2.0, 0.0, 2.0, 4.0, 0.0), 3, 3)
    with pytest.raises(ValueError, match="transform must be invertible"):
        Grid("", (1.0, 0.0, 0.0, 0.0, math.nan, 0.0), 3, 3)


def test_whole_window():
    assert NORTH_UP.window == Window(0, 0, 4, 6)


# As GDAL's drivers GTiff and HFA give one CRS, with the same inner part.
_UTM = (
    'PROJCS["WGS 84 / UTM zone 21S",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
    'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-57],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",10000000],'
)
_AXES = ',AXIS["Easting",EAST],AXIS["Northing",NORTH]'
GEOTIFF = _UTM + 'UNIT["metre",1,AUTHORITY["EPSG","9001"]]' + _AXES + ',AUTHORITY["EPSG","32721"]]'
ERDAS = _UTM + 'UNIT["meters",1]' + _AXES + ',AUTHORITY["EPSG","32721"]]'
WKT2 = 'PROJCRS["WGS 84 / UTM zone 21S",BASEGEOGCRS["WGS 84",ID["EPSG",4326]],ID["EPSG",32721]]'


@pytest.mark.parametrize("text", [GEOTIFF, ERDAS, WKT2, WKT2.replace(",", ",\n  ") + "\n", "epsg:32721"])
def test_spellings_of_one_crs_have_one_key(text: str):
    assert crs_key(text) == "EPSG:32721"


def test_codes_of_parts_are_not_the_crs_s():
    """Without a code of the whole, units and datum still have theirs, and half the world shares these."""
    bare = _UTM + 'UNIT["metre",1,AUTHORITY["EPSG","9001"]]'
    texts = [
        bare + "]",
        bare + _AXES + "]",
        bare.replace("-57", "-63") + "]",
        'BOUNDCRS[SOURCECRS[GEOGCRS["x",ID["EPSG",4674]]],TARGETCRS[GEOGCRS["y",ID["EPSG",4326]]]]',
        "",
    ]
    keys = {crs_key(text) for text in texts}
    assert len(keys) == len(texts)
    assert not any(":" in key for key in keys)
    assert crs_key(GEOTIFF.replace('"EPSG","32721"', '"ESRI","102033"')) == "ESRI:102033"
