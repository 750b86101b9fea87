"""Places to shards: laws tested over all small cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dlts_beam.grid import Grid, Window
from dlts_beam.sampling import (
    Candidates,
    Tiling,
    block_ids,
    centres,
    default_block_size,
    inside,
    make_tiling,
    pixels_of,
    plan_shards,
    resolve,
    shard_count,
)
from dlts_beam.spec import Band, SeriesSpec, Source, SourceFile, TimeStep

GRID = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_000_000.0), 7, 5)


def candidates(*rows: tuple[int, int, int, int]) -> Candidates:
    """From (row, col, class id, cut); features are numbered."""
    row, col, class_id, cut = np.array(rows, np.int64).reshape(-1, 4).T
    return Candidates(np.arange(len(rows)), row, col, class_id, cut)


def all_pixels(height: int, width: int) -> Candidates:
    return candidates(*((row, col, 0, 0) for row in range(height) for col in range(width)))


def test_pixels_are_found_by_floor_never_by_truncation():
    x = 500_000 + np.array([0, 29.9, 30, -0.1, -29.9, -30, 149.9, 150, np.nan, np.inf, 1e300])
    y = 8_000_000 - np.array([0, 29.9, 30, 0.1, 0.1, 30, 209.9, 210, 1, 1, 1])
    rows, cols = pixels_of(GRID, x, y)
    assert cols[:8].tolist() == [0, 0, 1, -1, -1, -1, 4, 5]
    assert rows[:8].tolist() == [0, 0, 1, 0, 0, 1, 6, 7]
    assert inside(GRID, rows, cols).tolist() == [True] * 3 + [False] * 3 + [True] + [False] * 4


def test_centres_and_pixels_are_inverse_on_a_turned_grid():
    turned = Grid("EPSG:32721", (3.0, 4.0, 10.0, 4.0, -3.0, 20.0), 6, 9)
    rows, cols = (grid.ravel() for grid in np.mgrid[0:6, 0:9])
    again = pixels_of(turned, *centres(turned, rows, cols))
    np.testing.assert_array_equal(again, (rows, cols))


def test_duplicates_keep_the_first_and_conflicts_nobody():
    points = candidates(
        (1, 1, 0, 0), (2, 2, 1, 0), (1, 1, 0, 0), (2, 2, 2, 0), (3, 3, 1, 0), (2, 2, 1, 0), (1, 1, 1, 1)
    )  # fmt: skip
    kept, duplicate, conflict = resolve(points)
    assert kept.tolist() == [0, 4, 6]  # the last one has a cut of its own
    assert duplicate.tolist() == [2]
    assert conflict.tolist() == [1, 3, 5]


def test_resolving_loses_nothing_and_agrees_with_plain_loops():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 30, 200):
        points = candidates(*rng.integers(0, [4, 4, 2, 2], (count, 4)).tolist())
        resolved = resolve(points)
        assert sorted(np.concatenate(resolved).tolist()) == list(range(count))
        keys = list(zip(points.row.tolist(), points.col.tolist(), points.cut.tolist(), strict=True))
        classes = {key: {points.class_id[n] for n in range(count) if keys[n] == key} for key in keys}
        for n, key in enumerate(keys):
            if len(classes[key]) > 1:
                assert n in resolved.conflict
            else:
                assert (n in resolved.kept) == (keys.index(key) == n)


@pytest.mark.parametrize("patch", [1, 3, 5, 9])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 4), (7, 2), (20, 20)])
def test_every_pixel_of_every_patch_is_read_exactly_once(patch: int, height: int, width: int):
    grid = Grid("EPSG:32721", GRID.transform, 11, 7)
    tiling = Tiling(grid, height, width, patch)
    points = all_pixels(11, 7)
    (only,) = plan_shards(points, (), tiling, 1, 1)
    plan = only.points
    hits = np.zeros((len(plan), 11, 7), int)
    done = np.zeros(len(plan), bool)
    seen: list[Window] = []
    for touched in tiling.touched(plan):
        assert not done[touched.members].any()  # nothing is touched after its last window
        rows, cols = touched.window.slices
        hits[touched.members, rows, cols] += 1
        done[touched.start : touched.stop] = True
        seen.append(touched.window)
    assert done.all()
    assert len(set(seen)) == len(seen)
    for n, (row, col) in enumerate(zip(plan.row, plan.col, strict=True)):
        half = patch // 2
        patch_part = hits[n, max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
        assert (patch_part == 1).all()
        assert (hits[n] <= 1).all()


def test_every_candidate_is_in_exactly_one_shard_and_order_is_stable():
    grid = Grid("EPSG:32721", GRID.transform, 40, 40)
    rng = np.random.default_rng(3)
    places = rng.choice(1600, 300, replace=False)
    points = candidates(*((int(p) // 40, int(p) % 40, 0, 0) for p in places))
    kept = [[f"f{n}" for n in range(300)]]
    for size, shards in itertools.product((4, 16, 64), (None, 1, 3, 8, 1000)):
        plans = list(plan_shards(points, kept, Tiling(grid, size, size, 3), 100, shards))
        assert [plan.shard for plan in plans] == list(range(len(plans)))
        assert {plan.shards for plan in plans} == {len(plans)}
        features = np.concatenate([plan.points.feature for plan in plans])
        assert sorted(features.tolist()) == list(range(300))
        for plan in plans:
            assert len(plan.points)
            assert list(plan.kept[0]) == [f"f{n}" for n in plan.points.feature]
        turned = points.take(np.arange(300)[::-1])
        again = plan_shards(turned, kept, Tiling(grid, size, size, 3), 100, shards)
        np.testing.assert_array_equal(np.concatenate([plan.points.feature for plan in again]), features)


def test_the_number_of_shards_follows_the_data_alone():
    assert shard_count(1, 10, 100) == 1
    assert shard_count(8, 10, 100) == 2
    assert shard_count(1, 1_000_000, 2000) == 15


def series_with(block: tuple[int, int], steps: int = 4, size: int = 2048) -> SeriesSpec:
    return SeriesSpec(
        grid=Grid("EPSG:32721", GRID.transform, size, size),
        steps=tuple(TimeStep(n) for n in range(steps)),
        bands=(Band(1, "b1", "uint16"),),
        files=(SourceFile("a.tif", 0, 0, size, size, 1, "1", block=block),),
        sources=tuple(((Source(0, 1),),) for _ in range(steps)),
    )


@pytest.mark.parametrize(
    ("block", "window"),
    [((256, 256), (256, 256)), ((512, 512), (512, 512)), ((100, 120), (200, 360)), ((1, 2048), (32, 2048)),
     ((16, 2048), (32, 2048)), ((2048, 2048), (2048, 2048))],
)  # fmt: skip
def test_windows_stand_on_the_blocks_of_the_sources(block: tuple[int, int], window: tuple[int, int]):
    tiling = make_tiling(series_with(block), 3)
    assert (tiling.height, tiling.width) == window


def test_windows_shrink_for_long_series():
    tiling = make_tiling(series_with((2048, 2048), steps=400), 3)
    assert tiling.height * tiling.width * 400 * 3 <= 192 << 20
    assert make_tiling(series_with((256, 256), size=10), 3).height == 10


def test_blocks_are_squares_of_map_units():
    x, y = np.array([0.0, 99.9, 100.0, -0.1]), np.array([0.0, -0.1, 250.0, 199.9])
    assert block_ids(x, y, 100.0) == ["0_0", "0_-1", "1_2", "-1_1"]
    assert default_block_size(GRID) == 300.0
    assert default_block_size(Grid("EPSG:32721", GRID.transform, 1000, 400)) == 1500.0
