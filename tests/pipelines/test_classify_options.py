"""Further flags of step 4: quarantine, intervals, the dry run, progress."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from pipelines.cli import main as dlts
from tests.fakes import Scene, classify, expected_map, load, make_model, random_scene, read_map
from tests.pipelines.test_classify_area import write_area

NODATA = 255


def test_unreadable_tiles_are_quarantined_on_request_and_tried_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    flags = ("--tile", "16", "--on-error", "quarantine")
    read = SeriesReader.read

    def broken_corner(reader: SeriesReader, window: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if window[0] >= 32 and window[1] >= 48:
            raise UnreadableSourceError("cannot read image x.tif: a block is damaged")
        return read(reader, window)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SeriesReader, "read", broken_corner)
        assert classify(scene, model, output, "--tile", "16") == 1
        assert "a block is damaged" in capsys.readouterr().err
        assert not output.exists()
        assert classify(scene, model, output, *flags) == 0
    told = capsys.readouterr()
    assert "warning: tile r00002c00003 is nodata: cannot read image x.tif" in told.err
    assert ", 25 quarantined; " in told.out
    wanted = expected_map(scene.stored, scene.spec.days, 1)
    holed = wanted.copy()
    holed[32:, 48:] = NODATA
    np.testing.assert_array_equal(read_map(output), holed)
    run, certificate = load(tmp_path / "map.tif.run.json"), load(tmp_path / "map.tif.json")
    assert run["quarantined"] == 1
    assert run["written"] + run["reused"] == 11
    assert certificate["quarantined_pixels"] == 25
    assert certificate["tiles"][-1]["quarantined"].startswith("cannot read image x.tif")

    assert classify(scene, model, output, *flags) == 0
    run = load(tmp_path / "map.tif.run.json")
    assert (run["written"], run["reused"], run["quarantined"]) == (1, 11, 0)
    np.testing.assert_array_equal(read_map(output), wanted)


def test_the_interval_of_a_long_series_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = random_scene(tmp_path / "long", 20, 20, steps=32, first="2020-01-03")
    season = dataclasses.replace(
        long.spec,
        steps=long.spec.steps[:4],
        sources=long.spec.sources[:4],
        files=long.spec.files[:4],
    )
    model = make_model(tmp_path / "model", season)
    output = tmp_path / "map.tif"
    assert classify(long, model, output) == 1
    assert "the series has 32; --start DATE" in capsys.readouterr().err
    assert classify(long, model, output, "--start", "2020-12-30") == 0
    wanted = expected_map(long.stored[28:], long.spec.days[28:], 1)
    np.testing.assert_array_equal(read_map(output), wanted)
    assert classify(long, model, output, "--start", "2021-01-20") == 1
    assert "only 2 from 2021-01-20 on" in capsys.readouterr().err
    assert classify(long, model, output, "--start", "soon") == 1
    assert "--start needs a date" in capsys.readouterr().err
    assert classify(long, model, output, "--start", "2020-06-01") == 1
    assert "days apart in the year" in capsys.readouterr().err


def test_a_dry_run_tells_and_writes_no_map(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    write_area(tmp_path / "area.gpkg", scene)
    output = tmp_path / "out" / "map.tif"
    flags = ("--dry-run", "--tile", "8", "--roi", str(tmp_path / "area.gpkg"))
    assert classify(scene, model, output, *flags) == 0
    told = capsys.readouterr().out
    for word in ("tiles:", "windows: 8 x 8", "memory:", "to read:", "time:"):
        assert word in told
    assert [path.name for path in output.parent.iterdir()] == ["map.tif.tiles.geojson"]
    tiles = gpd.read_file(tmp_path / "out" / "map.tif.tiles.geojson").to_crs(scene.spec.grid.crs)
    assert len(tiles) == 35
    assert set(tiles["status"]) == {"compute", "outside"}
    assert tiles.area.sum() == pytest.approx(37 * 53 * 900, rel=1e-4)


def test_plan_is_the_dry_run(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    flags = ["-i", str(scene.folder), "-m", str(model), "-o", str(tmp_path / "map.tif")]
    assert dlts(["plan", *flags, "--memory", "600MB"]) == 0
    assert "of 600 MiB" in capsys.readouterr().out
    assert not (tmp_path / "map.tif").exists()


def test_a_tile_counts_in_the_memory_of_a_plan(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = random_scene(tmp_path / "large", 1400, 1400, steps=2, bands=1)
    model = make_model(tmp_path / "model", large.spec)
    flags = ["--dry-run", "--roi", str(tmp_path / "area.gpkg"), "--tile", "1400"]
    write_area(tmp_path / "area.gpkg", large)
    needed = []
    for more in ([], ["--probabilities"]):
        # 3 or 13 bytes a pixel, 1 for the area, and the same windows of 32 MiB.
        assert classify(large, model, tmp_path / "map.tif", *flags, *more, "--memory", "600MB") == 0
        needed.append(int(capsys.readouterr().out.partition("memory:  ")[2].partition(" MiB")[0]))
    assert needed[1] - needed[0] == pytest.approx(10 * 1400 * 1400 / 2**20, abs=1)
    assert classify(large, model, tmp_path / "map.tif", *flags, "--probabilities", "--memory", "460MB") == 1
    told = "--memory 460 MiB is too little for --tile 1400 with --probabilities: a worker needs at least 475"
    assert f"{told} MiB; give it that, or --tile 640" in capsys.readouterr().err
    # The tile that is chosen does not depend on the memory, or a run with less would find none of its tiles.
    for memory in ("449MB", "600MB"):
        given = ("--probabilities", "--memory", memory)
        assert classify(large, model, tmp_path / "map.tif", *flags[:3], *given) == 0
        assert "of 256 x 256 pixels" in capsys.readouterr().out


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    ours, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert classify(scene, model, tmp_path / "map.tif", "--tile", "16") == 0
        told = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert told.startswith("\r[")
    assert "[" + "#" * 30 + "] 12 of 12 tiles, " in told
    capsys.readouterr()
    assert classify(scene, model, tmp_path / "again" / "map.tif", "--tile", "16") == 0
    assert capsys.readouterr().err == ""


def test_the_profile_tells_where_the_time_went(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", "--profile") == 0
    told = capsys.readouterr().out
    for word in ("read (beside the computing)", "prepare", "infer", "label and write", "wait for a read"):
        assert word in told
