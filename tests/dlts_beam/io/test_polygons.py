"""Pixels of polygons: by centre, off the edge, and the same choice wherever the grid ends."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from dlts_beam.grid import Grid
from dlts_beam.io import polygons
from dlts_beam.io.polygons import PolygonRule, polygon_pixels

GRID = Grid("EPSG:32721", (10.0, 0.0, 1000.0, 0.0, -10.0, 2000.0), 30, 40)
ALL = PolygonRule(per_polygon=0)


def box(row: float, col: float, height: float, width: float) -> shapely.Polygon:
    """A box in pixel coordinates of the grid."""
    return shapely.box(
        1000 + 10 * col, 2000 - 10 * (row + height), 1000 + 10 * (col + width), 2000 - 10 * row
    )


def pixels(polygon: shapely.Geometry, rule: PolygonRule = ALL, grid: Grid = GRID) -> set[tuple[int, int]]:
    rows, cols = polygon_pixels(polygon, grid, rule)
    return set(zip(rows.tolist(), cols.tolist(), strict=True))


def test_a_pixel_is_inside_when_its_centre_is():
    assert pixels(box(2.4, 3.6, 3, 2)) == {(row, col) for row in (2, 3, 4) for col in (4, 5)}
    assert pixels(box(2.6, 3.6, 0.5, 0.5)) == set()


def test_pixels_agree_with_a_loop_over_centres():
    rng = np.random.default_rng(0)
    for _ in range(20):
        polygon = shapely.Point(*rng.uniform([1000, 1700], [1400, 2000])).buffer(rng.uniform(1, 90))
        want = {
            (row, col)
            for row in range(30)
            for col in range(40)
            if polygon.contains(shapely.Point(*GRID.xy(row + 0.5, col + 0.5)))
        }
        assert pixels(polygon) == want


def test_a_big_polygon_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch):
    polygon = shapely.Point(1200, 1850).buffer(120)
    whole = {erode: pixels(polygon, PolygonRule(0, erode)) for erode in (0, 1, 3)}
    monkeypatch.setattr(polygons, "PIXELS_AT_ONCE", 50)
    assert {erode: pixels(polygon, PolygonRule(0, erode)) for erode in (0, 1, 3)} == whole
    assert len(whole[3]) < len(whole[1]) < len(whole[0])


def test_erosion_keeps_the_whole_neighbourhood_inside():
    assert pixels(box(5, 5, 5, 7), PolygonRule(0, 1)) == {(r, c) for r in (6, 7, 8) for c in range(6, 11)}
    assert pixels(box(5, 5, 5, 7), PolygonRule(0, 3)) == set()
    # The polygon goes on beyond the grid: the grid's edge is no edge of it.
    assert pixels(box(-5, -5, 10, 10), PolygonRule(0, 1)) == {(r, c) for r in range(4) for c in range(4)}


def test_of_multipolygons_holes_and_parts_count():
    ring = box(2, 2, 6, 6).difference(box(4, 4, 2, 2))
    both = shapely.union_all([ring, box(20, 30, 2, 2)])
    square = {(r, c) for r in range(2, 8) for c in range(2, 8)} - {(r, c) for r in (4, 5) for c in (4, 5)}
    assert pixels(both) == square | {(r, c) for r in (20, 21) for c in (30, 31)}


def test_the_choice_depends_on_the_place_alone():
    polygon = shapely.Point(1200, 1850).buffer(100)
    rule = PolygonRule(per_polygon=25)
    chosen = pixels(polygon, rule)
    assert len(chosen) == 25
    assert chosen < pixels(polygon)
    larger = Grid(GRID.crs, (10.0, 0.0, 900.0, 0.0, -10.0, 2050.0), 60, 80)
    assert {(row - 5, col - 10) for row, col in pixels(polygon, rule, larger)} == chosen
    rows, cols = polygon_pixels(polygon, GRID, rule)
    assert (np.lexsort((cols, rows)) == np.arange(25)).all()


def test_the_choice_is_spread_over_the_polygon():
    rows, cols = polygon_pixels(box(0, 0, 30, 40), GRID, PolygonRule(per_polygon=400))
    counts = np.histogram2d(rows, cols, bins=(3, 4), range=((0, 30), (0, 40)))[0]
    assert counts.min() > 18  # 33 expected in each twelfth
    assert counts.max() < 50


def test_outside_the_grid_there_are_none():
    assert pixels(box(-9, -9, 3, 3)) == set()
    assert pixels(box(100, 0, 3, 3)) == set()


def test_rules_are_checked():
    with pytest.raises(ValueError, match="0 or more"):
        PolygonRule(per_polygon=-1)


def test_the_choice_is_spread_where_map_units_are_degrees():
    grid = Grid("EPSG:4326", (0.0001, 0.0, -60.0, 0.0, -0.0001, -10.0), 60, 80)
    rows, cols = polygon_pixels(shapely.box(-60, -10.006, -59.992, -10), grid, PolygonRule(per_polygon=400))
    assert len(rows) == 400
    counts = np.histogram2d(rows, cols, bins=(12, 16), range=((0, 60), (0, 80)))[0]
    assert (counts == 0).mean() < 0.25  # e^-2 expected


def test_an_erosion_wider_than_the_polygon_costs_nothing():
    assert pixels(box(5, 5, 5, 7), PolygonRule(0, 10**9)) == set()
