"""Faults of files, injected: a clear failure or a quarantined tile, never a wrong map."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from rasterio.errors import RasterioIOError

from dlts_beam import retry, storage
from dlts_beam.beam import map_run
from dlts_beam.beam.map_plan import MapPlan
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.handles import HandlePool
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.spec import SourceFile
from dlts_beam.storage import local
from tests.fakes import Scene, classify, expected_map, make_model, random_scene, read_map
from tests.pipelines.maps import is_right, run_record

TILE = ("--tile", "16")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry.retried, "__defaults__", (retry.is_transient, 0.001))


def test_a_read_that_fails_twice_is_tried_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = SeriesReader.read, []

    def sometimes(reader: SeriesReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
        calls.append(window)
        if len(calls) % 3:
            raise UnreadableSourceError("the network blinked")
        return read(reader, window)

    monkeypatch.setattr(SeriesReader, "read", sometimes)
    assert classify(scene, make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif", *TILE) == 0
    assert len(calls) == 36
    assert is_right(scene, tmp_path / "map.tif")


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_write_that_fails_twice_is_tried_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    publish, failed = local._publish, {}

    def sometimes(aside: str, path: str) -> None:
        if path.endswith("1.tif") and failed.setdefault(path, 0) < 2:
            failed[path] += 1
            error = OSError(code, os.strerror(code), path)
            raise local.explain(error, path, "write") from error
        publish(aside, path)

    monkeypatch.setattr(local, "_publish", sometimes)
    assert classify(scene, make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif", *TILE) == 0
    assert len(failed) == 3
    assert is_right(scene, tmp_path / "map.tif")


def test_an_image_that_gdal_cannot_read_twice_is_read_at_the_third_try(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault sits below our reader: the handle fails, is dropped, and a fresh one works."""
    get, failed = HandlePool.get, []

    class Broken:
        def read(self, *arguments: object, **settings: object) -> None:
            raise RasterioIOError("the network blinked")

    def sometimes(pool: HandlePool, file: SourceFile, nodata: float | None) -> object:
        if file.path == str(scene.images[1]) and len(failed) < 2:
            failed.append(file.path)
            return Broken()
        return get(pool, file, nodata)

    monkeypatch.setattr(HandlePool, "get", sometimes)
    assert classify(scene, make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif", *TILE) == 0
    assert len(failed) == 2
    assert is_right(scene, tmp_path / "map.tif")


@pytest.mark.parametrize("name", ["map.tif", "map.tif.json", "map.tif.run.json"])
def test_publishing_is_tried_again_too(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    publish, failed = local._publish, []

    def sometimes(aside: str, path: str) -> None:
        if os.path.basename(path) == name and len(failed) < 2:
            failed.append(path)
            error = OSError(errno.EIO, os.strerror(errno.EIO), path)
            raise local.explain(error, path, "write") from error
        publish(aside, path)

    monkeypatch.setattr(local, "_publish", sometimes)
    assert classify(scene, make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif", *TILE) == 0
    assert len(failed) == 2
    assert is_right(scene, tmp_path / "map.tif")


def test_pauses_between_tries_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", pauses.append)
    error = DltsError("busy")
    error.__cause__ = OSError(errno.EBUSY, "busy")
    tries = iter([error, error, None])

    def work() -> str:
        failed = next(tries)
        if failed is not None:
            raise failed
        return "done"

    assert retry.retried(work, retry.is_transient, 0.2) == "done"
    assert pauses == [0.2, 0.8]


def test_a_corrupt_block_fails_or_is_quarantined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = random_scene(tmp_path / "series", 64, 64)
    model = make_model(tmp_path / "model", scene.spec)
    path = scene.images[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 600] = b"\xff" * 600
    path.write_bytes(content)
    scene = stamped(scene)
    assert classify(scene, model, tmp_path / "map.tif", *TILE) == 1
    assert f"error: cannot read image {path}" in capsys.readouterr().err
    assert not (tmp_path / "map.tif").exists()
    assert classify(scene, model, tmp_path / "map.tif", *TILE, "--on-error", "quarantine") == 0
    record = run_record(tmp_path / "map.tif")
    assert 1 <= record["quarantined"] <= 3
    found, wanted = read_map(tmp_path / "map.tif"), expected_map(scene.stored, scene.spec.days, 1)
    for tile in record["quarantine"]:
        row, col = 16 * int(tile[1:6]), 16 * int(tile[7:])
        assert (found[row : row + 16, col : col + 16] == 255).all()
        wanted[row : row + 16, col : col + 16] = 255
    np.testing.assert_array_equal(found, wanted)


def lose_in_mid_run(scene: Scene, how: str, row: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image that vanishes or changes once a window from that row on was read; gives its path."""
    read, path = SeriesReader.read, scene.images[2]

    def and_then(reader: SeriesReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
        result = read(reader, window)
        if window.row >= row and path.exists():
            path.unlink() if how == "vanishes" else os.utime(path, ns=(5, 5))
        return result

    monkeypatch.setattr(SeriesReader, "read", and_then)
    return path


@pytest.fixture(params=["vanishes", "changes"])
def how(request: pytest.FixtureRequest) -> str:
    """What happens to an image in mid-run."""
    return request.param


def test_an_input_that_goes_in_mid_run_is_told(scene, tmp_path, monkeypatch, capsys, how) -> None:
    path = lose_in_mid_run(scene, how, 32, monkeypatch)
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", *TILE) == 1
    told = capsys.readouterr().err
    assert f"error: image {path} changed" in told if how == "changes" else f"cannot read {path}" in told
    assert not (tmp_path / "map.tif").exists()
    assert not (tmp_path / "map.tif.json").exists()


def test_an_input_that_goes_in_mid_run_never_ends_in_a_wrong_map(
    scene, tmp_path, monkeypatch, capsys, how
) -> None:
    """Also where the run goes on after errors: its open handles would read new pixels without a word."""
    path = lose_in_mid_run(scene, how, 16, monkeypatch)
    model, output = make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif"
    status = classify(scene, model, output, *TILE, "--on-error", "quarantine")
    if how == "changes":
        assert status == 1
        assert f"error: image {path} changed" in capsys.readouterr().err
        assert not output.exists()
        return
    # Of a file that is open, Unix keeps the pixels: they are right, and no tile need be given up.
    assert status == 0
    found, wanted = read_map(output), expected_map(scene.stored, scene.spec.days, 1)
    seen = found != 255
    np.testing.assert_array_equal(found[seen], wanted[seen])
    assert run_record(output)["written"] + run_record(output)["quarantined"] == 12


def test_a_model_that_is_replaced_in_mid_run_makes_no_map(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its certificate would name the model that was planned with, and later runs would keep its tiles."""
    model, output = make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif"
    check = map_run.check_places

    def and_then(planned: MapPlan, options: PipelineOptions) -> frozenset[int]:
        make_model(model, scene.spec, reverse=True)
        return check(planned, options)

    with monkeypatch.context() as patch:
        patch.setattr(map_run, "check_places", and_then)
        assert classify(scene, model, output, *TILE) == 1
    path = model / "serving" / "loss" / "model.onnx"
    assert f"error: the model {path} changed while the run was on its way" in capsys.readouterr().err
    assert not output.exists()
    make_model(model, scene.spec)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 0
    assert is_right(scene, output)


def test_an_input_that_is_gone_is_quarantined_on_request(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    scene.images[2].unlink()
    assert classify(scene, model, tmp_path / "map.tif", *TILE, "--on-error", "quarantine") == 0
    assert run_record(tmp_path / "map.tif")["quarantined"] == 12
    assert (read_map(tmp_path / "map.tif") == 255).all()


def test_a_second_run_on_the_same_output_is_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    with storage.exclusive(tmp_path / "map.tif.lock", "x"):
        assert classify(scene, model, tmp_path / "map.tif") == 1
    assert f"map.tif is being written by another run (process {os.getpid()} on" in capsys.readouterr().err
    assert classify(scene, model, tmp_path / "map.tif") == 0
    assert not (tmp_path / "map.tif.lock").exists()


def test_remains_of_a_killed_run_go(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    (tmp_path / ".tmp-0a1b2c3d-map.tif").write_text("half a map")
    (tmp_path / ".tmp-0a1b2c3d-map.tif.aux.xml").write_text("half a side file")
    (tmp_path / ".tmp-0a1b2c3d-map.tif.xyz").mkdir()
    (tmp_path / ".tmp-0a1b2c3d-map.tif.json").write_text("{")
    (tmp_path / ".tmp-0a1b2c3d-mymap.tif").write_text("somebody else's")
    assert classify(scene, model, tmp_path / "map.tif") == 0
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")]
    assert left == [".tmp-0a1b2c3d-mymap.tif"]


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_other_local_modes_give_the_same_bytes(scene: Scene, tmp_path: Path, mode: str) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    assert classify(scene, model, tmp_path / "map.tif", *TILE, "--probabilities") == 0
    workers = "1" if mode == "in_memory" else "2"
    flags = ("--probabilities", "--direct_running_mode", mode, "--direct_num_workers", workers)
    assert classify(scene, model, tmp_path / mode / "map.tif", *TILE, *flags) == 0
    for name in ("map.tif", "map.tif.json", "map.tif.aux.xml", "map.probabilities.tif"):
        assert (tmp_path / name).read_bytes() == (tmp_path / mode / name).read_bytes()


def stamped(scene: Scene) -> Scene:
    """``series.json`` with the files' present fingerprints."""
    files = []
    for file in scene.spec.files:
        found = storage.stat(file.path)
        files.append(dataclasses.replace(file, size=found.size, stamp=found.stamp))
    spec = dataclasses.replace(scene.spec, files=tuple(files))
    (scene.folder / "series.json").write_text(spec.to_json())
    return dataclasses.replace(scene, spec=spec)
