"""A run that was stopped goes on where it was, and never uses a tile that is not what it would compute."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from dlts_beam import storage
from dlts_beam.beam import write_tiles
from dlts_beam.beam.handler import WindowModelHandler
from dlts_beam.storage import local
from tests.fakes import Scene, classify, make_model, read_map
from tests.pipelines.conftest import RealScene, real_environment
from tests.pipelines.maps import run_record

TILE = ("--tile", "16")
TILES = 12


class StoppedError(Exception):
    """Stands for a kill: nobody catches it."""


@contextmanager
def stopping_after(monkeypatch: pytest.MonkeyPatch, tiles: int) -> Iterator[None]:
    """The run dies when it has committed this many tiles."""
    write, done = write_tiles.write_part, []

    def write_and_die(*arguments: object) -> None:
        if len(done) == tiles:
            raise StoppedError
        done.append(1)
        write(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(write_tiles, "write_part", write_and_die)
        with pytest.raises(RuntimeError, match="StoppedError"):
            yield


def undisturbed(scene: Scene, model: Path, folder: Path) -> tuple[bytes, bytes]:
    """Map and certificate of a run that nothing happened to."""
    assert classify(scene, model, folder / "map.tif", *TILE) == 0
    return (folder / "map.tif").read_bytes(), (folder / "map.tif.json").read_bytes()


def both(output: Path) -> tuple[bytes, bytes]:
    return output.read_bytes(), output.with_name(output.name + ".json").read_bytes()


def touch(scene: Scene, number: int) -> Scene:
    """Another modification time; ``series.json`` is made again, as step 1 would."""
    os.utime(scene.images[number], ns=(10**18 + number, 10**18 + number))
    stamp = storage.stat(scene.images[number]).stamp
    files = list(scene.spec.files)
    files[number] = dataclasses.replace(files[number], stamp=stamp)
    spec = dataclasses.replace(scene.spec, files=tuple(files))
    (scene.folder / "series.json").write_text(spec.to_json())
    return dataclasses.replace(scene, spec=spec)


def test_finished_tiles_are_reused_and_the_map_is_the_same(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    output = tmp_path / "map.tif"
    for done in (2, 3):
        with stopping_after(monkeypatch, done):
            classify(scene, model, output, *TILE)
    assert classify(scene, model, output, *TILE) == 0
    record = run_record(output)
    assert (record["reused"], record["written"]) == (5, TILES - 5)
    assert both(output) == undisturbed(scene, model, tmp_path / "undisturbed")


def test_a_finished_run_repeated_infers_nothing_and_changes_no_byte(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    assert classify(scene, model, output, *TILE) == 0
    before = both(output)
    stamps = [storage.stat(path).stamp for path in (output, tmp_path / "map.tif.json")]

    def never(*_: object) -> None:
        pytest.fail("a model was loaded for a map that is finished")

    monkeypatch.setattr(WindowModelHandler, "load_model", never)
    assert classify(scene, model, output, *TILE) == 0
    assert both(output) == before
    assert [storage.stat(path).stamp for path in (output, tmp_path / "map.tif.json")] == stamps
    assert run_record(output)["reused"] == TILES


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_damaged_part_is_made_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    with stopping_after(monkeypatch, 6):
        classify(scene, model, output, *TILE)
    part = sorted((tmp_path / "map.tif.parts").glob("r*.tif"))[2]
    content = bytearray(part.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    part.write_bytes(content)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 5
    assert both(output) == undisturbed(scene, model, tmp_path / "undisturbed")


def test_a_part_with_other_pixels_is_made_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst damage: a sound file with one wrong pixel."""
    import rasterio

    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    with stopping_after(monkeypatch, 6):
        classify(scene, model, output, *TILE)
    part = sorted((tmp_path / "map.tif.parts").glob("r*.tif"))[2]
    with rasterio.open(part, "r+") as dataset:
        pixels = dataset.read(1)
        pixels[3, 4] = 3 + 7 - pixels[3, 4]
        dataset.write(pixels, 1)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 5
    assert both(output) == undisturbed(scene, model, tmp_path / "undisturbed")


def test_tiles_of_another_model_are_not_used(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    with stopping_after(monkeypatch, 6):
        classify(scene, model, output, *TILE)
    make_model(tmp_path / "model", scene.spec, reverse=True)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 0
    assert both(output) == undisturbed(scene, model, tmp_path / "undisturbed")
    # The finished map is of the new model: the old one's tiles are not found in it either.
    make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 0


def test_tiles_of_a_touched_input_are_not_used(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    with stopping_after(monkeypatch, 6):
        classify(scene, model, output, *TILE)
    scene = touch(scene, 1)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 0
    scene = touch(scene, 2)
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == 0


def test_a_damaged_map_is_repaired_from_what_is_left_of_it(scene: Scene, tmp_path: Path) -> None:
    import rasterio

    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    assert classify(scene, model, output, *TILE) == 0
    before = both(output)
    with rasterio.open(output, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.write(np.full((1, 4, 4), 3, np.uint8), window=((2, 6), (40, 44)))
    assert both(output) != before
    assert classify(scene, model, output, *TILE) == 0
    record = run_record(output)
    assert (record["reused"], record["written"]) == (TILES - 1, 1)
    assert both(output) == before


def test_an_older_certificate_never_stands_beside_a_newer_map(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies between the map and its certificate."""
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    before, _ = undisturbed(scene, model, tmp_path)
    make_model(tmp_path / "model", scene.spec, reverse=True)
    publish = local._publish

    def die(aside: str, path: str) -> None:
        if path.endswith("map.tif.json"):
            raise StoppedError
        publish(aside, path)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_publish", die)
        with pytest.raises(StoppedError):
            classify(scene, model, output, *TILE)
    assert output.read_bytes() != before
    assert not (tmp_path / "map.tif.json").exists()
    assert classify(scene, model, output, *TILE) == 0
    assert run_record(output)["reused"] == TILES
    assert both(output) == undisturbed(scene, model, tmp_path / "undisturbed")


def test_a_missing_tile_ends_the_run_with_a_sentence(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dlts_beam.beam import map_run

    take = map_run.take_records
    monkeypatch.setattr(map_run, "take_records", lambda parts: take(parts)[:-1])
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, tmp_path / "map.tif", *TILE) == 1
    assert f"error: 1 of {TILES} tiles are missing" in capsys.readouterr().err
    assert not (tmp_path / "map.tif").exists()


# Ten kills, each when so many of the 49 tiles are committed; the last one comes while the map is assembled.
KILL_AT = (0, 2, 6, 11, 16, 21, 27, 33, 40, 49)


def test_ten_kills_change_no_byte_of_a_real_map(
    real_scene: RealScene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(output: Path) -> list[str]:
        given = ["-i", str(real_scene.series), "-m", str(real_scene.model), "-o", str(output), "--tile", "64"]
        return [sys.executable, "-m", "pipelines.classify_img_series", *given]

    output = tmp_path / "killed" / "map.tif"
    commits = [kill_at(command(output), output, count) for count in KILL_AT]
    for each in (output, tmp_path / "undisturbed" / "map.tif"):
        subprocess.run(command(each), check=True, capture_output=True, env=real_environment())
    with capsys.disabled():
        print(f"\n  tiles committed at each kill, of 49: {commits}")
    assert sum(0 < count < 49 for count in commits) >= 6
    assert commits == sorted(commits)
    assert run_record(output)["reused"] >= commits[-1]
    assert both(output) == both(tmp_path / "undisturbed" / "map.tif")
    assert len(np.unique(read_map(output))) > 1
    assert not [path for path in output.parent.iterdir() if path.name.startswith(".tmp")]


def kill_at(command: list[str], output: Path, count: int) -> int:
    """Start a run and kill its process group when ``count`` tiles are there; gives how many there were."""
    parts = output.with_name(output.name + ".parts")
    process = subprocess.Popen(
        command,
        start_new_session=True,
        env=real_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if count == 0 or len(list(parts.glob("r*.tif"))) >= count:
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return len(list(parts.glob("r*.tif")))
