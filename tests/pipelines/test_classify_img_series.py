"""Step 4 as a command: what it writes, what it refuses, and how it tells."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.spec import TimeStep
from dlts_beam.storage import local
from pipelines.classify_img_series import main
from tests.fakes import Scene, classify, make_model, random_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return random_scene(tmp_path / "series", 20, 30)


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """The one sentence of a refusal."""
    told = capsys.readouterr().err
    assert status == 1
    assert "Traceback" not in told
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def with_spec(scene: Scene, **changes: object) -> Scene:
    """The scene with another ``series.json``."""
    spec = dataclasses.replace(scene.spec, **changes)  # type: ignore[arg-type]
    (scene.folder / "series.json").write_text(spec.to_json())
    return dataclasses.replace(scene, spec=spec)


def test_help_lists_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    for flag in ("-i", "--input-dir", "-m", "--model", "-o", "--output", "--tile", "--memory", "--runner"):
        assert flag in told


def test_a_run_tells_what_it_did(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    output = tmp_path / "out" / "map.tif"
    assert classify(scene, model, output, "--tile", "8") == 0
    assert "30 x 20 pixels" in capsys.readouterr().out
    certificate = json.loads((tmp_path / "out" / "map.tif.json").read_text())
    run = json.loads((tmp_path / "out" / "map.tif.run.json").read_text())
    assert [tile["name"] for tile in certificate["tiles"]][:5] == [
        "r00000c00000", "r00000c00001", "r00000c00002", "r00000c00003", "r00001c00000",
    ]  # fmt: skip
    assert (run["expected"], run["written"], run["reused"], run["quarantined"]) == (12, 12, 0, 0)
    assert {"read", "prepare", "infer", "write", "wait", "total"} <= set(run["seconds"])
    assert certificate["classified"] + certificate["nodata_pixels"] == 600
    assert sum(certificate["class_pixels"].values()) == certificate["classified"]
    assert certificate["series"] == scene.spec.fingerprint()
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "map.tif", "map.tif.aux.xml", "map.tif.json", "map.tif.run.json",
    ]  # fmt: skip


@pytest.mark.parametrize("named", ["acc_model.keras", "serving/acc"])
def test_one_saved_model_of_the_folder_may_be_named(scene: Scene, tmp_path: Path, named: str) -> None:
    model = make_model(tmp_path / "model", scene.spec, names=("loss", "acc"))
    assert classify(scene, model / named, tmp_path / "map.tif") == 0


def test_another_year_and_order_of_bands_fit(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    later = tuple(
        TimeStep(step.number, (step.time or "").replace("2020", "2023")) for step in scene.spec.steps
    )
    swapped = with_spec(
        scene,
        steps=later,
        bands=scene.spec.bands[::-1],
        sources=tuple(layers[::-1] for layers in scene.spec.sources),
    )
    assert classify(swapped, model, tmp_path / "later.tif") == 0
    with_spec(scene)
    assert classify(scene, model, tmp_path / "map.tif") == 0
    assert (tmp_path / "later.tif").read_bytes() == (tmp_path / "map.tif").read_bytes()


def test_undated_series_are_told_of(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    undated = with_spec(scene, steps=tuple(TimeStep(step) for step in range(4)))
    assert classify(undated, model, tmp_path / "map.tif") == 0
    assert "only the number of time steps was compared" in capsys.readouterr().err


def test_models_that_do_not_fit_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "map.tif"
    model = make_model(tmp_path / "model", scene.spec)
    renamed = tuple(dataclasses.replace(band, name=f"x{band.number}") for band in scene.spec.bands)
    status = classify(with_spec(scene, bands=renamed), model, output)
    assert "needs band b1, b2, and the series has x1, x2" in refused(capsys, status)

    fewer = with_spec(scene, steps=scene.spec.steps[:3], sources=scene.spec.sources[:3])
    assert "trained on 4 time steps, and the series has 3" in refused(capsys, classify(fewer, model, output))

    summer = tuple(TimeStep(step.number, f"2020-07-{10 + step.number}") for step in scene.spec.steps)
    sentence = refused(capsys, classify(with_spec(scene, steps=summer), model, output))
    assert "time step 0 is of 2020-07-10, the model's of 2020-01-03" in sentence
    assert classify(with_spec(scene, steps=summer), model, output, "--date-tolerance", "183") == 0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--tile", "0"], "--tile must lie in 1..16384"),
        (["--memory", "much"], "cannot read 'much' as an amount of memory"),
        (["--memory", "10MB"], "is too little for this series and model: a worker needs at least"),
        (["--tyle", "64"], "did you mean --tile"),
        (["--runner", "Flunk"], "unknown runner Flunk"),
    ],
)
def test_bad_flags_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], told: str
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    assert told in refused(capsys, classify(scene, model, tmp_path / "map.tif", *flags))


def test_missing_and_foreign_folders_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    empty = dataclasses.replace(scene, folder=tmp_path / "nothing")
    assert "there is no series.json in" in refused(capsys, classify(empty, model, output))
    assert "is not a model folder" in refused(capsys, classify(scene, tmp_path / "nothing", output))
    status = classify(scene, model / "acc_model.keras", output)
    assert "has no saved model acc_model.keras; it has loss_model.keras" in refused(capsys, status)
    (model / "serving/loss/model.onnx").unlink()
    assert "there is no such file" in refused(capsys, classify(scene, model, output))


@pytest.mark.parametrize("name", ["map.png", "map", "map.jp2"])
def test_other_formats_are_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    assert "must end in .tif" in refused(capsys, classify(scene, model, tmp_path / name))


def test_the_map_is_never_written_over_what_it_is_made_from(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    before = scene.images[1].read_bytes()
    assert "the map is made from this file" in refused(capsys, classify(scene, model, scene.images[1]))
    link = tmp_path / "link.tif"
    link.symlink_to(scene.images[1])
    assert "the map is made from this file" in refused(capsys, classify(scene, model, link))
    assert scene.images[1].read_bytes() == before
    mask = tmp_path / "mask.probabilities.tif"
    shutil.copy(scene.images[0], mask)
    flags = ("--mask", str(mask), "--probabilities")
    assert "the map is made from this file" in refused(
        capsys, classify(scene, model, tmp_path / "mask.tif", *flags)
    )
    assert classify(scene, model, tmp_path / "mask.tif", *flags[:2]) == 0
    (tmp_path / "folder.tif").mkdir()
    assert "it is a folder" in refused(capsys, classify(scene, model, tmp_path / "folder.tif"))


def test_unwritable_outputs_are_refused_before_any_work(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    (tmp_path / "file").write_text("not a folder")
    status = classify(scene, model, tmp_path / "file" / "map.tif")
    assert "a file stands where a folder is expected" in refused(capsys, status)


def test_a_truncated_image_is_named_with_band_date_and_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = random_scene(tmp_path / "series", 64, 64)
    model = make_model(tmp_path / "model", scene.spec)
    scene = damage(scene, 2)
    sentence = refused(capsys, classify(scene, model, tmp_path / "map.tif", "--tile", "32"))
    assert f"cannot read image {scene.images[2]}, band 1, 2" in sentence
    assert "2020-01-29" in sentence
    assert "window row" in sentence
    assert not (tmp_path / "map.tif").exists()


def test_an_image_that_changed_after_step_1_is_refused(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    os.utime(scene.images[1], ns=(1, 1))
    sentence = refused(capsys, classify(scene, model, tmp_path / "map.tif"))
    assert f"image {scene.images[1]} changed" in sentence
    scene.images[1].unlink()
    assert "no such file" in refused(capsys, classify(scene, model, tmp_path / "map.tif"))


@pytest.mark.parametrize("full_at", ["r00000c00001.tif", "map.tif", "map.tif.json"])
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    scene: Scene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    full_at: str,
) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    publish = local._publish

    def full(aside: str, path: str) -> None:
        if os.path.basename(path) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        publish(aside, path)

    with monkeypatch.context() as patch:
        patch.setattr(local, "_publish", full)
        assert "the disk is full" in refused(capsys, classify(scene, model, output, "--tile", "16"))
    assert not (tmp_path / "map.tif.json").exists()
    left = [path.name for path in tmp_path.rglob(".tmp-*")]
    assert left == []
    assert classify(scene, model, output, "--tile", "16") == 0
    other = tmp_path / "other" / "map.tif"
    assert classify(scene, model, other, "--tile", "16") == 0
    assert other.read_bytes() == output.read_bytes()


def damage(scene: Scene, step: int) -> Scene:
    """Overwrite the second half of an image's data; ``series.json`` knows the new fingerprint."""
    path = scene.images[step]
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = np.random.default_rng(0).bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    status = path.stat()
    files = list(scene.spec.files)
    files[step] = dataclasses.replace(files[step], size=status.st_size, stamp=str(status.st_mtime_ns))
    return with_spec(scene, files=tuple(files))
