"""The lattice: places of images on it, what keeps them off it, and the area they cover."""

from __future__ import annotations

import itertools

import numpy as np

from dlts_beam.acquisitions.lattice import (
    Box,
    covered_pixels,
    differences,
    intersection,
    place,
    sub_grid,
    union,
)
from dlts_beam.grid import Grid, Window

LATTICE = Grid("A", (10.0, 0.0, 500.0, 0.0, -10.0, 900.0), 20, 30)


def moved(
    row: float, col: float, pixel: float = 10.0, crs: str = "A", size: tuple[int, int] = (5, 7)
) -> Grid:
    return Grid(crs, (pixel, 0.0, 500 + 10 * col, 0.0, -pixel, 900 - 10 * row), *size)


def test_every_grid_of_the_lattice_lies_on_it_where_it_was_cut():
    for row, col, height, width in itertools.product((-9, 0, 3), (-2, 0, 11), (1, 4), (1, 6)):
        window = Window(row, col, height, width)
        assert differences(sub_grid(LATTICE, window), LATTICE) == []
        assert place(sub_grid(LATTICE, window), LATTICE) == window


def test_what_keeps_an_image_off_the_lattice_is_named():
    assert differences(moved(0, 0, crs="B"), LATTICE) == ["CRS"]
    assert differences(moved(0, 0, pixel=20), LATTICE) == ["resolution"]
    assert differences(moved(0.5, 0), LATTICE) == ["origin"]
    assert differences(moved(0, -3.2), LATTICE) == ["origin"]
    south_up = Grid("A", (10.0, 0.0, 500.0, 0.0, 10.0, 900.0), 5, 7)
    assert differences(south_up, LATTICE) == ["resolution"]


def test_a_thousandth_of_a_pixel_is_tolerated_and_no_more():
    assert differences(moved(5e-4, -5e-4), LATTICE) == []
    assert differences(moved(2e-3, 0), LATTICE) == ["origin"]
    # Rounded pixel sizes add up over the image.
    assert differences(moved(0, 0, pixel=10.0001, size=(5, 7)), LATTICE) == []
    assert differences(moved(0, 0, pixel=10.0001, size=(5, 700)), LATTICE) == ["resolution"]


def test_rotated_lattices_count_too():
    rotated = Grid("A", (8.0, 6.0, 0.0, 6.0, -8.0, 0.0), 10, 10)
    part = sub_grid(rotated, Window(3, -4, 2, 2))
    assert differences(part, rotated) == []
    assert place(part, rotated) == Window(3, -4, 2, 2)
    assert differences(part, LATTICE) == ["resolution"]


def test_outer_windows_hold_their_boxes_without_a_rounding_error():
    assert Box(0.0, 0.0, 4.0, 5.0).outer() == Window(0, 0, 4, 5)
    assert Box(-1e-7, 1e-7, 4 + 1e-7, 5 - 1e-7).outer() == Window(0, 0, 4, 5)
    assert Box(-0.5, 0.5, 4.2, 5.0).outer() == Window(-1, 0, 6, 5)
    assert not Box(0, 0, 4, 4).overlaps(Box(4 - 1e-6, 0, 8, 4))
    assert Box(0, 0, 4, 4).overlaps(Box(3.5, 3.5, 8, 8))


def test_union_intersection_and_coverage_agree_with_painted_pixels():
    rng = np.random.default_rng(3)
    for _ in range(200):
        windows = [Window(*map(int, (*rng.integers(0, 6, 2), *rng.integers(1, 6, 2)))) for _ in range(3)]
        painted = np.zeros((12, 12), int)
        for window in windows:
            painted[window.slices] += 1
        whole = Window(0, 0, 12, 12)
        assert covered_pixels(windows, whole) == (painted > 0).sum()
        part = Window(2, 3, 4, 5)
        assert covered_pixels(windows, part) == (painted[part.slices] > 0).sum()
        common = intersection(windows)
        assert (common.pixels if common else 0) == (painted == 3).sum()
        rows, cols = np.nonzero(painted)
        box = union(windows)
        assert (box.row, box.col) == (rows.min(), cols.min())
        assert (box.row + box.height, box.col + box.width) == (rows.max() + 1, cols.max() + 1)
