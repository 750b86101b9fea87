"""Further flags of step 4: probabilities, area of interest, quarantine, intervals, the dry run."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine

from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.postprocess import LEVELS
from pipelines.cli import main as dlts
from tests.fakes import SCALE, Scene, classify, expected_map, make_model, random_scene, read_map

NODATA = 255


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return random_scene(tmp_path / "series", 37, 53)


def load(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.mark.parametrize("extension", ["tif", "img"])
def test_the_map_is_a_view_on_the_probabilities(scene: Scene, tmp_path: Path, extension: str) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    output = tmp_path / f"map.{extension}"
    assert classify(scene, model, output, "--probabilities", "--tile", "16") == 0
    with rasterio.open(tmp_path / f"map.probabilities.{extension}") as dataset:
        assert dataset.dtypes == ("uint16", "uint16")
        assert dataset.nodata == 65535
        assert dataset.descriptions == ("darker", "brighter")
        chances = dataset.read()
    found = read_map(output)
    seen = found != NODATA
    np.testing.assert_array_equal(np.array([3, 7])[chances.argmax(axis=0)][seen], found[seen])
    assert (chances[:, ~seen] == 65535).all()
    assert np.abs(chances[:, seen].sum(axis=0, dtype=int) - LEVELS).max() <= 1
    assert load(tmp_path / f"map.{extension}.json")["probability_levels"] == LEVELS
    assert abs(chances[1][seen] / LEVELS - 0.5).min() < 9 * 4000 * SCALE

    alone = tmp_path / "alone" / f"map.{extension}"
    assert classify(scene, model, alone) == 0
    assert alone.read_bytes() == output.read_bytes()
    cut = tmp_path / "cut" / f"map.{extension}"
    assert classify(scene, model, cut, "--probabilities", "--tile", "32") == 0
    name = f"map.probabilities.{extension}"
    assert (cut.parent / name).read_bytes() == (tmp_path / name).read_bytes()


def test_probabilities_asked_for_later_are_computed_then(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    assert classify(scene, model, output, "--tile", "32") == 0
    before = output.read_bytes()
    assert classify(scene, model, output, "--tile", "32", "--probabilities") == 0
    assert load(tmp_path / "map.tif.run.json")["written"] == 4
    assert output.read_bytes() == before
    assert classify(scene, model, output, "--tile", "32", "--probabilities") == 0
    assert load(tmp_path / "map.tif.run.json")["reused"] == 4
    # And back: the class map alone comes from the same tiles.
    assert classify(scene, model, output, "--tile", "32") == 0
    assert load(tmp_path / "map.tif.run.json")["reused"] == 4
    assert load(tmp_path / "map.tif.json")["probability_levels"] is None


def test_probabilities_of_another_model_do_not_stay_beside_the_map(scene: Scene, tmp_path: Path) -> None:
    output, chances = tmp_path / "map.tif", tmp_path / "map.probabilities.tif"
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, output, "--probabilities") == 0
    assert classify(scene, model, output) == 0
    assert chances.exists()  # still those of this map
    assert classify(scene, model, output, "--probabilities") == 0
    make_model(tmp_path / "model", scene.spec, reverse=True)
    assert classify(scene, model, output) == 0
    assert not chances.exists()
    assert sorted(path.name for path in tmp_path.glob("map*")) == [
        "map.tif", "map.tif.aux.xml", "map.tif.json", "map.tif.run.json",
    ]  # fmt: skip


def test_probabilities_of_the_same_map_stay_however_it_is_cut(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, chances = tmp_path / "map.tif", tmp_path / "map.probabilities.tif"
    model = make_model(tmp_path / "model", scene.spec)
    write_area(tmp_path / "area.gpkg", scene)
    area = ("--roi", str(tmp_path / "area.gpkg"))
    assert classify(scene, model, output, *area, "--tile", "16", "--probabilities") == 0
    assert classify(scene, model, output, *area, "--tile", "32") == 0
    assert chances.exists()
    assert "note:" not in capsys.readouterr().err
    # Nobody knows by now whose they are, so they are told of, not removed.
    assert classify(scene, model, output, "--tile", "16") == 0
    assert f"note: {chances} was there before and is not of this map; " in capsys.readouterr().err
    assert classify(scene, model, output, "--tile", "16", "--probabilities") == 0
    assert classify(scene, model, output, *area, "--tile", "32") == 0
    told = f"note: removed {chances}, which belongs to the map that {output} was before; add --probabilities"
    assert told in capsys.readouterr().err
    assert not chances.exists()


def write_area(path: Path, scene: Scene, crs: str = "EPSG:4326") -> np.ndarray:
    """A triangle as a vector file; gives the pixels whose centre lies in it."""
    grid = scene.spec.grid
    triangle = shapely.Polygon([grid.xy(3.2, 4.1), grid.xy(30.7, 9.3), grid.xy(14.4, 45.9)])
    gpd.GeoDataFrame(geometry=[triangle], crs=grid.crs).to_crs(crs).to_file(path)
    rows, cols = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    a, _, c, _, e, f = grid.transform
    return shapely.contains_xy(triangle, c + a * cols, f + e * rows)


def test_only_the_area_of_interest_is_read_and_classified(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = write_area(tmp_path / "area.gpkg", scene)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    wanted = np.where(inside, expected_map(scene.stored, scene.spec.days, 3), NODATA)
    reads: list[tuple[int, ...]] = []
    read = SeriesReader.read
    monkeypatch.setattr(
        SeriesReader, "read", lambda self, window: (reads.append(window), read(self, window))[1]
    )
    maps = set()
    for tile in ("8", "16", "64"):
        output = tmp_path / tile / "map.tif"
        reads.clear()
        assert classify(scene, model, output, "--roi", str(tmp_path / "area.gpkg"), "--tile", tile) == 0
        np.testing.assert_array_equal(read_map(output), wanted)
        maps.add(output.read_bytes())
        run, certificate = load(output.with_name("map.tif.run.json")), load(output.with_name("map.tif.json"))
        assert len(reads) == run["written"]
        assert run["expected"] + run["outside"] == len(certificate["tiles"])
        if tile == "8":
            assert run["outside"] > 10
        assert classify(scene, model, output, "--roi", str(tmp_path / "area.gpkg"), "--tile", tile) == 0
        assert load(output.with_name("map.tif.run.json"))["reused"] == run["expected"]
    assert len(maps) == 1


def test_a_mask_raster_of_another_grid_keeps_what_is_not_zero(scene: Scene, tmp_path: Path) -> None:
    a, b, c, d, e, f = scene.spec.grid.transform
    keep = np.zeros((5, 6), np.uint8)
    keep[1:3, 2:5] = 1
    profile = {"driver": "GTiff", "height": 5, "width": 6, "count": 1, "dtype": "uint8"}
    profile |= {"crs": scene.spec.grid.crs, "transform": Affine(8 * a, b, c, d, 8 * e, f)}
    with rasterio.open(tmp_path / "mask.tif", "w", **profile) as mask:
        mask.write(keep, 1)
    inside = np.zeros((37, 53), bool)
    inside[8:24, 16:40] = True
    model = make_model(tmp_path / "model", scene.spec)
    assert (
        classify(scene, model, tmp_path / "map.tif", "--mask", str(tmp_path / "mask.tif"), "--tile", "8") == 0
    )
    wanted = np.where(inside, expected_map(scene.stored, scene.spec.days, 1), NODATA)
    np.testing.assert_array_equal(read_map(tmp_path / "map.tif"), wanted)


@pytest.mark.parametrize(
    ("flag", "name", "told"),
    [
        ("--roi", "nothing.gpkg", "there is no file"),
        ("--roi", "text.gpkg", "cannot read"),
        ("--mask", "nothing.tif", "cannot open the mask"),
        ("--roi", "far.gpkg", "no pixel of the series lies in the area"),
    ],
)
def test_bad_areas_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, name: str, told: str
) -> None:
    (tmp_path / "text.gpkg").write_text("no vector file")
    far = shapely.box(0, 0, 10, 10)
    gpd.GeoDataFrame(geometry=[far], crs=scene.spec.grid.crs).to_file(tmp_path / "far.gpkg")
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", flag, str(tmp_path / name)) == 1
    assert told in capsys.readouterr().err


def test_the_layer_of_an_area_is_chosen(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roi, model = tmp_path / "area.gpkg", make_model(tmp_path / "model", scene.spec)
    for name in ("fields", "lakes"):
        gpd.GeoDataFrame(geometry=[shapely.box(-58, -19, -56, -18)], crs=4326).to_file(roi, layer=name)
    assert classify(scene, model, tmp_path / "map.tif", "--roi", str(roi)) == 1
    assert "holds 2 layers: fields, lakes; name one with --roi-layer" in capsys.readouterr().err
    assert classify(scene, model, tmp_path / "map.tif", "--roi", str(roi), "--roi-layer", "lakes") == 0
    assert classify(scene, model, tmp_path / "map.tif", "--roi-layer", "lakes") == 1
    assert "--roi-layer goes with --roi" in capsys.readouterr().err


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


def test_the_trial_reads_the_area_only(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    write_area(tmp_path / "area.gpkg", scene)
    reads, read = [], SeriesReader.read
    monkeypatch.setattr(
        SeriesReader, "read", lambda self, window: (reads.append(window), read(self, window))[1]
    )
    flags = ("--dry-run", "--tile", "8", "--memory", "449MB", "--roi", str(tmp_path / "area.gpkg"))
    assert classify(scene, model, tmp_path / "map.tif", *flags) == 0
    assert len(reads) == 2
    assert "from a trial of 128 pixels" in capsys.readouterr().out


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
