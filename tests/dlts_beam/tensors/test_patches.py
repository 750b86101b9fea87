from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlts_beam.grid import Window
from dlts_beam.tensors.patches import extract_patches, iter_strips, replicate_edges, replicate_patch_edges

GRID = Window(0, 0, 5, 6)


def make_cube(height: int, width: int, steps: int = 2, bands: int = 3) -> np.ndarray:
    """All values differ."""
    return (
        np.arange(steps * height * width * bands, dtype=np.float32).reshape(steps, height, width, bands) + 1
    )


@pytest.mark.parametrize("patch", [1, 3, 5])
def test_extract_patches(patch: int):
    cube = make_cube(7, 9)
    places = list(itertools.product(range(8 - patch), range(10 - patch)))
    rows, cols = (np.array(axis) for axis in zip(*places, strict=True))
    patches = extract_patches(cube, rows, cols, patch)
    assert patches.shape == (len(places), 2, patch, patch, 3)
    for got, (row, col) in zip(patches, places, strict=True):
        np.testing.assert_array_equal(got, cube[:, row : row + patch, col : col + patch])


def test_replicate_edges_repeats_the_edge_for_every_window():
    cube = make_cube(*GRID[2:])
    windows = itertools.product(range(5), range(6), range(1, 6), range(1, 7), (0, 1, 3))
    for row, col, height, width, halo in windows:
        window = Window(row, col, height, width)
        if window.intersect(GRID) != window:
            continue
        wanted = window.grow(halo)
        read = wanted.intersect(GRID)
        assert read is not None
        got = replicate_edges(cube[(slice(None), *read.slices)], read, wanted)
        rows = np.clip(np.arange(wanted.row, wanted.row + wanted.height), 0, GRID.height - 1)
        cols = np.clip(np.arange(wanted.col, wanted.col + wanted.width), 0, GRID.width - 1)
        np.testing.assert_array_equal(got, cube[:, rows][:, :, cols])


@pytest.mark.parametrize("half", [0, 1, 2, 4])
def test_patch_edges_are_the_twin_of_window_edges(half: int):
    """At every pixel; what a patch holds outside the grid does not matter."""
    cube = make_cube(*GRID[2:])
    places = list(itertools.product(range(GRID.height), range(GRID.width)))
    rows, cols = (np.array(axis) for axis in zip(*places, strict=True))
    wide = np.pad(cube, ((0, 0), (half, half), (half, half), (0, 0)), constant_values=-7)
    patches = extract_patches(wide, rows, cols, 2 * half + 1)
    kept = patches.copy()
    got = replicate_patch_edges(patches, rows, cols, GRID.height, GRID.width)
    padded = replicate_edges(cube, GRID, GRID.grow(half))
    np.testing.assert_array_equal(got, extract_patches(padded, rows, cols, 2 * half + 1))
    np.testing.assert_array_equal(patches, kept)


def test_patches_inside_are_returned_as_they_are():
    patches = np.ones((2, 1, 3, 3, 1), np.float32)
    assert replicate_patch_edges(patches, np.array([1, 2]), np.array([1, 3]), 4, 5) is patches


def wanted_masks(height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    one = np.zeros((height, width), bool)
    one[-1, -1] = True
    return [
        np.ones((height, width), bool),
        np.zeros((height, width), bool),
        one,
        random.random((height, width)) < 0.3,
        np.arange(height)[:, None] * np.ones(width) == 1,
    ]


@pytest.mark.parametrize("halo", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 7, 16, 100])
def test_strips_hold_every_wanted_patch_once(halo: int, batch: int):
    for height, width in ((1, 1), (1, 9), (4, 5), (6, 3), (5, 16)):
        cube = make_cube(height + 2 * halo, width + 2 * halo)
        for wanted in wanted_masks(height, width):
            seen = np.zeros((height, width), int)
            for strip in iter_strips(cube, halo, batch, wanted):
                assert strip.cube.shape == (2, 1 + 2 * halo, batch + 2 * halo, 3)
                assert strip.cube.dtype == np.float32
                assert strip.cube.flags.c_contiguous
                assert len(strip.outputs) == len(strip.pixels) > 0
                for output, pixel in zip(strip.outputs, strip.pixels, strict=True):
                    row, col = divmod(int(pixel), width)
                    seen[row, col] += 1
                    expected = cube[:, row : row + 2 * halo + 1, col : col + 2 * halo + 1]
                    np.testing.assert_array_equal(strip.cube[:, :, output : output + 2 * halo + 1], expected)
            np.testing.assert_array_equal(seen, wanted.astype(int))


def test_strips_without_a_wanted_pixel_are_left_out():
    cube = make_cube(52, 52, 1, 1)
    wanted = np.zeros((50, 50), bool)
    wanted[20, 20] = True
    assert len(list(iter_strips(cube, 1, 16, wanted))) == 1


def test_a_pixel_model_gets_wanted_pixels_only():
    wanted = np.zeros((50, 50), bool)
    wanted[::7, ::5] = True
    strips = list(iter_strips(make_cube(50, 50, 1, 1), 0, 16, wanted))
    assert len(strips) == -(-int(wanted.sum()) // 16)
    assert (strips[-1].cube[:, :, len(strips[-1].pixels) :] == 0).all()


def test_strips_refuse_another_size():
    with pytest.raises(ValueError, match="wanted must be 4 x 5"):
        next(iter_strips(make_cube(6, 7), 1, 8, np.ones((6, 7), bool)))
