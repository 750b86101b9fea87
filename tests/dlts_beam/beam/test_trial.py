"""What ``dlts plan`` tells of runners elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.beam import trial
from dlts_beam.beam.runner import parse_options
from dlts_beam.beam.trial import bytes_to_read, fleet_of
from dlts_beam.errors import DltsError
from dlts_beam.fleet import Fleet
from dlts_beam.grid import Tile, Window, iter_tiles
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.spec import Source
from pipelines.cli import main as dlts
from tests.fakes import Scene, make_model, random_scene
from tests.helpers import make_series, random_cube

DATAFLOW = ("--runner", "DataflowRunner")


@pytest.mark.parametrize(
    ("flags", "fleet"),
    [
        (("--runner", "FlinkRunner", "--parallelism", "12"), Fleet(12)),
        ((*DATAFLOW, "--max_num_workers", "20", "--machine_type", "n2-standard-4"), Fleet(20, 4)),
        ((*DATAFLOW, "--num_workers", "3", "--machine_type", "n2-standard-2"), Fleet(3, 2)),
        ((*DATAFLOW, "--num_workers=3", "--max_num_workers=5", "--machine_type=e2-medium"), Fleet(5, 2)),
    ],
)  # fmt: skip
def test_flags_tell_the_fleet(flags: tuple[str, ...], fleet: Fleet) -> None:
    assert fleet_of(parse_options(flags)) == fleet


@pytest.mark.parametrize(
    ("flags", "notes"),
    [
        (("--runner", "FlinkRunner"), ["--parallelism"]),
        (DATAFLOW, ["--max_num_workers"]),
        ((*DATAFLOW, "--max_num_workers=9", "--machine_type=a2-highgpu-1g"), ["--machine_type"]),
        (
            (*DATAFLOW, "--num_workers", "2", "--machine_type", "n1-standard-4",
             "--dataflow_service_options", "worker_accelerator=type:nvidia-l4;count:1"),
            ["workers with a GPU"],
        ),
    ],
)  # fmt: skip
def test_what_is_assumed_is_noted(flags: tuple[str, ...], notes: list[str]) -> None:
    found = fleet_of(parse_options(flags)).notes
    assert len(found) == len(notes)
    assert all(word in note for word, note in zip(notes, found, strict=True))


def test_workers_with_a_gpu_are_not_estimated() -> None:
    options = parse_options((*DATAFLOW, "--max_num_workers=2", "--machine_type=n1-standard-4"))
    assert fleet_of(options).notes == ()
    assert "workers with a GPU" in fleet_of(options, gpu=True).notes[0]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return random_scene(tmp_path_factory.mktemp("scene"))


def plan(scene: Scene, folder: Path, *flags: str) -> int:
    model = make_model(folder / "model", scene.spec)
    given = ["-i", str(scene.folder), "-m", str(model), "-o", str(folder / "map.tif"), "--tile", "16"]
    return dlts(["plan", *given, *flags])


def test_a_plan_for_dataflow_tells_the_cost(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--max_num_workers", "2", "--machine_type", "n2-standard-4", "--price-per-worker-hour", "0.2")
    assert plan(scene, tmp_path, *DATAFLOW, *flags) == 0
    told = capsys.readouterr().out
    assert "for each of 8 workers" in told
    assert "on 2 workers of 4 processors" in told
    assert "12 of 16 x 16 pixels" in told
    assert "25% of them idle" in told  # 12 tiles, two rounds of eight
    assert "price:" in told
    assert "note:" not in told


def test_a_plan_for_this_machine_tells_the_cost_where_there_is_a_price(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(scene, tmp_path, "--direct_num_workers", "3") == 0
    assert "worker-hours" not in capsys.readouterr().out
    assert plan(scene, tmp_path, "--direct_num_workers", "3", "--price-per-worker-hour", "1") == 0
    assert "worker-hours on 3 workers:" in capsys.readouterr().out


QUARANTINE = ("--on-error", "quarantine")


def test_an_unreadable_tile_is_passed_over_where_the_run_does_so(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, tried = SeriesReader.read, []

    def broken_start(reader: SeriesReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
        tried.append(window[:2])
        if window.row < 16:
            raise UnreadableSourceError("cannot read image x.tif: a block is damaged")
        return read(reader, window)

    monkeypatch.setattr(SeriesReader, "read", broken_start)
    assert plan(scene, tmp_path) == 1
    assert "error: cannot read image x.tif" in capsys.readouterr().err
    tried.clear()
    assert plan(scene, tmp_path, *QUARANTINE) == 0
    told = capsys.readouterr().out
    assert tried == [(0, 0), (16, 32), (0, 16), (0, 32), (0, 48), (16, 0)]  # two that can be read
    assert "from a trial of 512 pixels" in told
    assert "note: 4 of the tiles that were tried cannot be read and would be left without data; the" in told
    assert "first: cannot read image x.tif: a block is damaged" in told


def test_a_plan_says_no_time_where_no_tile_can_be_read(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def changed(reader: SeriesReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
        raise DltsError("image x.tif changed after the series was made")

    monkeypatch.setattr(SeriesReader, "read", changed)
    monkeypatch.setattr(trial, "MOST_TRIED", 4)
    flags = (*DATAFLOW, "--max_num_workers", "2", "--price-per-worker-hour", "0.2")
    assert plan(scene, tmp_path, *flags, *QUARANTINE) == 0
    told = capsys.readouterr().out
    assert "note: no time: all 4 tiles tried cannot be read" in told
    assert "time:  " not in told
    assert "price:" not in told


def test_a_price_is_for_plans(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(scene, tmp_path, "--price-per-worker-hour", "-2") == 1
    assert "--price-per-worker-hour must be 0 or more; got -2" in capsys.readouterr().err
    flags = ["-i", str(scene.folder), "-m", "m", "-o", str(tmp_path / "map.tif")]
    assert dlts(["classify-img-series", *flags, "--price-per-worker-hour", "1"]) == 1
    assert "goes with --dry-run: 'dlts plan'" in capsys.readouterr().err


DISK = "+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84"
LOCAL = 'LOCAL_CS["mine",UNIT["metre",1]]'


@pytest.mark.parametrize(("crs", "placed"), [(DISK, 1), (LOCAL, 0)])
def test_tiles_without_a_place_on_earth_have_no_geometry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crs: str, placed: int
) -> None:
    """One tile of the right half of a satellite's picture lies on the disk with all corners."""
    pixel = 2 * 5.6e6 / 48
    spec = make_series(
        tmp_path / "series", random_cube(4, 48, 32), crs=crs, transform=(pixel, 0, 0, 0, -pixel, 5.6e6)
    )
    model = make_model(tmp_path / "model", spec)
    flags = ["-i", str(tmp_path / "series"), "-m", str(model), "-o", str(tmp_path / "map.tif")]
    assert dlts(["plan", *flags, "--tile", "16"]) == 0
    assert f"note: {6 - placed} of these tiles without geometry:" in capsys.readouterr().out
    tiles = json.loads((tmp_path / "map.tif.tiles.geojson").read_text())["features"]
    shapes = [tile["geometry"] for tile in tiles]
    assert len(shapes) == 6
    assert [shape is not None for shape in shapes].count(True) == placed


def test_bytes_are_counted_by_shares_of_pixels(scene: Scene) -> None:
    from dlts_beam.beam.stage import TileTask

    grid = scene.spec.grid
    tasks = tuple(TileTask(tile, "") for tile in iter_tiles(grid.height, grid.width, 16))
    bands = [band.name for band in scene.spec.bands]
    whole = sum(file.size for file in scene.spec.files)
    assert bytes_to_read(scene.spec, bands, tasks) == pytest.approx(whole, abs=9)
    part = Window(3, 5, 10, 20)
    expected = sum(file.size * 200 / (37 * 53) for file in scene.spec.files)
    assert bytes_to_read(scene.spec, bands, (TileTask(Tile(0, 0, part), ""),)) == int(expected)
    assert bytes_to_read(scene.spec, bands, ()) == 0


def test_files_of_other_bands_are_not_counted(scene: Scene) -> None:
    from dlts_beam.beam.stage import TileTask

    # The first band in one half of the files, the second in the other.
    sources = tuple(((Source(step % 2, 1),), (Source(2 + step % 2, 2),)) for step in range(4))
    series = replace(scene.spec, sources=sources)
    (task,) = (TileTask(tile, "") for tile in iter_tiles(37, 53, 64))
    for number, band in enumerate(series.bands):
        expected = sum(file.size for file in series.files[2 * number : 2 * number + 2])
        assert bytes_to_read(series, [band.name], (task,)) == pytest.approx(expected, abs=9)
