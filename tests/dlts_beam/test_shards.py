"""One shard: what is cut is what plain numpy cuts, in bytes that depend on the plan alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.grid import Grid, Window
from dlts_beam.intervals import Cut
from dlts_beam.records import RecordLayout, decode_days, decode_series, unpack_valid
from dlts_beam.sampling import Candidates, Tiling, plan_shards
from dlts_beam.shards import ShardResult, ShardSettings, write_shard
from dlts_beam.tfrecord import parse_example, read_records

T, H, W, B = 5, 23, 17, 2
GRID = Grid("EPSG:32721", (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_000_000.0), H, W)
CUBE = np.random.default_rng(0).integers(1, 1000, (T, H, W, B)).astype(np.int32)
VALID = np.random.default_rng(1).random(CUBE.shape) < 0.6
CUBE[~VALID] = 0


def settings(
    folder: Path, size: tuple[int, int], patch: int, cuts: tuple[Cut, ...], min_valid: int = 1
) -> ShardSettings:
    layout = RecordLayout(len(cuts[0].steps), patch, B, "int32", ("name",))
    return ShardSettings(str(folder), Tiling(GRID, *size, patch), layout, cuts, 3, min_valid, 90.0)


def read(window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the arrays above; a window outside the grid would raise."""
    rows, cols = window.slices
    return tuple(
        np.moveaxis(cube[:, rows, cols].reshape(T, -1, B)[:, pixels], 0, 1).copy() for cube in (CUBE, VALID)
    )


def whole() -> tuple[Cut, ...]:
    return (Cut(tuple(range(T)), tuple(float(n) for n in range(T))),)


def points(cuts: int = 1) -> Candidates:
    """Every pixel of the grid, each with one of the cuts."""
    row, col = (grid.ravel().astype(np.int64) for grid in np.mgrid[0:H, 0:W])
    number = np.arange(H * W)
    return Candidates(number, row, col, number % 3, number % cuts)


def write_all(
    chosen: ShardSettings, many: Candidates, shards: int | None = 1
) -> tuple[list[dict], list[ShardResult]]:
    kept = [[f"n{n}" for n in range(H * W)]]
    plans = plan_shards(many, kept, chosen.tiling, chosen.layout.nbytes, shards)
    results = [write_shard(plan, chosen, read) for plan in plans]
    files = sorted(Path(chosen.folder).glob("samples-*"))
    return [parse_example(record) for file in files for record in read_records(str(file))], results


def expected(row: int, col: int, steps: tuple[int, ...], patch: int) -> tuple[np.ndarray, np.ndarray]:
    half = patch // 2
    edge = ((0, 1), (half, half), (half, half), (0, 0))  # one time step more: what -1 points at
    out = (np.pad(cube, edge)[list(steps)][:, row : row + patch, col : col + patch] for cube in (CUBE, VALID))
    return tuple(out)


@pytest.mark.parametrize("patch", [1, 3, 7])
@pytest.mark.parametrize("size", [(2, 3), (8, 8), (1, W), (H, W), (100, 100)])
def test_patches_are_whole_however_the_grid_is_cut(tmp_path: Path, patch: int, size: tuple[int, int]):
    chosen = settings(tmp_path, size, patch, whole(), min_valid=0)
    records, results = write_all(chosen, points())
    assert len(records) == H * W == sum(result.samples for result in results)
    series = decode_series([record["series"] for record in records], chosen.layout)
    valid = unpack_valid([record["valid"] for record in records], chosen.layout.shape)
    for n, record in enumerate(records):
        want, want_valid = expected(record["row"], record["col"], tuple(range(T)), patch)
        np.testing.assert_array_equal(series[n], want)
        np.testing.assert_array_equal(valid[n], want_valid)
        assert record["feature"] == record["row"] * W + record["col"]
        assert record["kept/name"].decode() == f"n{record['feature']}"


def test_each_sample_takes_the_time_steps_of_its_own_cut(tmp_path: Path):
    cuts = (
        Cut((0, 1, 2), (10.0, 11.0, 12.0), ("2020-01-01", "2020-02-01")),
        Cut((2, -1, 4), (20.0, 21.0, 22.0), ("2021-01-01", "2021-02-01")),
    )
    chosen = settings(tmp_path, (4, 5), 3, cuts, min_valid=0)
    records, _ = write_all(chosen, points(cuts=2))
    series = decode_series([record["series"] for record in records], chosen.layout)
    valid = unpack_valid([record["valid"] for record in records], chosen.layout.shape)
    days = decode_days([record["days"] for record in records], chosen.layout)
    for n, record in enumerate(records):
        cut = cuts[record["feature"] % 2]
        want, want_valid = expected(record["row"], record["col"], cut.steps, 3)
        np.testing.assert_array_equal(series[n], want)
        np.testing.assert_array_equal(valid[n], want_valid)
        assert days[n].tolist() == list(cut.days)
    assert len({record["id"] for record in records}) == len(records)


def test_too_few_observations_at_the_centre_are_rejected(tmp_path: Path):
    chosen = settings(tmp_path, (8, 8), 3, whole(), min_valid=5)
    records, (result,) = write_all(chosen, points())
    observed = VALID.any(axis=3).sum(axis=0)
    assert {(r["row"], r["col"]) for r in records} == set(zip(*np.nonzero(observed >= 5), strict=True))
    lost = {(row, col) for _, row, col in result.rejected["too few valid observations"]}
    assert lost == set(zip(*np.nonzero(observed < 5), strict=True))
    assert result.samples + len(lost) == H * W
    assert result.class_counts == tuple(np.bincount([r["class_id"] for r in records], minlength=3))


def test_any_layout_gives_the_same_set_and_one_layout_the_same_bytes(tmp_path: Path):
    sets, files = [], []
    for name, size, shards in [("a", (4, 5), 1), ("b", (4, 5), 7), ("c", (64, 64), 2), ("d", (4, 5), 7)]:
        chosen = settings(tmp_path / name, size, 3, whole())
        turned = points() if name != "d" else points().take(np.arange(H * W)[::-1])
        write_all(chosen, turned, shards)
        shards_of = sorted((tmp_path / name).glob("samples-*"))
        sets.append(sorted(record for file in shards_of for record in read_records(str(file))))
        files.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in shards_of])
    assert sets[0] == sets[1] == sets[2]
    assert files[1] == files[3]
    assert [len(names) for names in files] == [1, 7, 1, 7]


def test_all_samples_that_touch_an_unreadable_window_are_rejected(tmp_path: Path):
    chosen = settings(tmp_path, (8, 8), 3, whole(), min_valid=0)
    bad = Window(8, 8, 8, 8)

    def read_some(window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        return None if window == bad else read(window, pixels)

    (plan,) = plan_shards(points(), [[""] * (H * W)], chosen.tiling, 1, 1)
    result = write_shard(plan, chosen, read_some)
    lost = {(row, col) for _, row, col in result.rejected["unreadable source"]}
    assert lost == {(row, col) for row in range(7, 17) for col in range(7, 17)}
    assert result.samples == H * W - len(lost)


def test_a_failure_leaves_no_file(tmp_path: Path):
    chosen = settings(tmp_path, (8, 8), 3, whole())

    def fail(window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if window.row:
            raise RuntimeError("gone")
        return read(window, pixels)

    (plan,) = plan_shards(points(), [[""] * (H * W)], chosen.tiling, 1, 1)
    with pytest.raises(RuntimeError, match="gone"):
        write_shard(plan, chosen, fail)
    assert list(tmp_path.iterdir()) == []
