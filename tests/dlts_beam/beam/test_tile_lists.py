"""Tiles travel as files: the pipeline holds their names alone."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from dlts_beam.beam import tile_lists
from dlts_beam.beam.runner import make_runner, parse_options
from dlts_beam.beam.stage import TileTask
from dlts_beam.beam.tile_lists import ReadTileLists, read_tile_list, write_tile_lists
from dlts_beam.grid import iter_tiles


def tasks(side: int, tile: int = 10) -> list[TileTask]:
    return [TileTask(each, f"{number:064x}") for number, each in enumerate(iter_tiles(side, side, tile))]


def test_every_task_comes_back_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_lists, "TILES_PER_LIST", 7)
    wanted = tasks(95)
    paths = write_tile_lists(str(tmp_path / "new"), wanted)
    assert len(paths) == 15
    assert [task for path in paths for task in read_tile_list(path)] == wanted
    assert write_tile_lists(str(tmp_path), []) == []


def test_a_pipeline_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_lists, "TILES_PER_LIST", 3)
    wanted = tasks(40)
    options = parse_options(["--direct_num_workers", "1"])
    with beam.Pipeline(runner=make_runner(options), options=options) as pipeline:
        found = pipeline | ReadTileLists(write_tile_lists(str(tmp_path), wanted))
        assert_that(found, equal_to(wanted))


def test_the_pipeline_does_not_grow_with_the_tiles(tmp_path: Path) -> None:
    sizes = []
    for side in (100, 600):
        pipeline = beam.Pipeline()
        _ = pipeline | ReadTileLists(write_tile_lists(str(tmp_path), tasks(side)))
        sizes.append(len(pipeline.to_runner_api().SerializeToString()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)  # names are packed a little differently
