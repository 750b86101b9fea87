"""``train-model -n``: which samples are measured, and what the report says of them and of the model."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from dlts_beam.spec import TimeStep
from tests.trainer.helpers import Fake, make_fake, write_fake
from trainer.__main__ import main
from trainer.dataset import read_samples
from trainer.folder import ModelFolder
from trainer.only_evaluate import _choose
from trainer.seen import seen, splits_table
from trainer.split import from_csv

MINI = ("--model", "mlp", "--model-config", '{"units": 8}', "-e", 2, "-l", 0.003)


def run(*flags: object) -> int:
    return main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weak model, split by block, beside the samples it was trained on."""
    base = tmp_path_factory.mktemp("trained")
    write_fake(base / "samples", make_fake((40, 40), seed=1))
    assert run("-i", base / "samples", "-o", base / "model", *MINI, "--split-by", "block") == 0
    return base


def replace_spec(fake: Fake, **changes: Any) -> Fake:
    """The same samples, of another series."""
    return replace(fake, spec=replace(fake.spec, **changes))


def evaluation(trained: Path) -> tuple[dict, str]:
    """metrics.json and report.html of the last evaluation."""
    folder = trained / "model" / "evaluation"
    return json.loads((folder / "metrics.json").read_text()), (folder / "report.html").read_text()


def setting(page: str, name: str) -> str:
    """A setting as the report has it."""
    (value,) = re.findall(rf"<tr><td>{name}</td><td>(.*?)</td>", page)
    return value


def test_the_report_has_the_models_settings_and_its_worst_samples(trained: Path, tmp_path: Path) -> None:
    other = write_fake(tmp_path / "other", make_fake((30, 30), seed=9))
    assert run("-i", other, "-o", trained / "model", "-n", "--seed", 5) == 0
    _, page = evaluation(trained)
    told = {name: setting(page, name) for name in ("model", "epochs", "learning_rate", "split_by", "seed")}
    assert told == {
        "model": "mlp", "epochs": "2", "learning_rate": "0.003", "split_by": "block", "seed": "2",
    }  # fmt: skip
    assert setting(page, "samples") == f"{other}: 60 samples"
    assert setting(page, "architecture") == "mlp"
    assert {"units 8", "layers 2"} <= set(setting(page, "sizes").split(", "))
    assert "<td>list_models</td>" not in page
    assert "<title>Evaluation report: model</title>" in page
    assert "<h2>Worst samples</h2>" in page
    assert "No random forest stands beside the model here" in page
    assert "The training's own report has one, measured on its test split." in page


def test_a_table_of_splits_that_lacks_samples_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(trained / "model", tmp_path / "copy")
    head = (copy / "splits.csv").read_text().partition("\n")[0]
    (copy / "splits.csv").write_text(head + "\n")
    assert run("-i", trained / "samples", "-o", copy, "-n") == 1
    told = f"{copy}/splits.csv is not the one that the training wrote, so that nobody knows which samples"
    assert told in capsys.readouterr().err


def test_clouds_and_unobserved_samples_are_told_as_in_training(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((30, 30), seed=9)
    fake.stored[:] = 1000 + 100 * np.arange(6)[:, None, None, None]
    cloudy = make_fake((30, 30), seed=9)
    cloudy.stored[::2, 2] = 8000
    cloudy.valid[:2] = False
    told = ("the series look as if clouds were left in", "2 samples are observed at fewer than 1 time steps")
    for name, made, warned in (("clear", fake, False), ("cloudy", cloudy, True)):
        assert run("-i", write_fake(tmp_path / name, made), "-o", trained / "model", "-n") == 0
        out = capsys.readouterr().out
        assert [sentence in out for sentence in told] == [warned, warned]
        assert (told[0] in evaluation(trained)[1]) == warned


def test_worst_samples_are_shown_where_a_class_has_no_sample(trained: Path, tmp_path: Path) -> None:
    fake = make_fake((30, 30), seed=9)
    keep = fake.class_ids == 0
    spec = replace(fake.spec, class_counts=(30, 0), samples=30)
    one = Fake(
        spec, fake.stored[keep], fake.valid[keep], fake.days[keep], fake.class_ids[keep], fake.rows[keep],
        fake.cols[keep], [name for name, kept in zip(fake.ids, keep, strict=True) if kept],
        fake.features[keep], {},
    )  # fmt: skip
    assert run("-i", write_fake(tmp_path / "one", one), "-o", trained / "model", "-n") == 0
    found, page = evaluation(trained)
    assert found["overall_accuracy"]["value"] < 1
    assert "<h2>Worst samples</h2>" in page


def test_samples_of_another_season_do_not_fit(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((10, 10), seed=9)
    steps = tuple(TimeStep(k, f"{np.datetime64('2013-07-26') + 16 * k}") for k in range(6))
    flags = ["-i", write_fake(tmp_path / "half", replace_spec(fake, steps=steps)), "-o", trained / "model"]
    assert run(*flags, "-n") == 1
    err = capsys.readouterr().err
    assert "do not fit the model: their time step 0 is of 2013-07-26, the model's of 2011-01-26, 18" in err
    assert run(*flags, "-n", "--date-tolerance", 183) == 0
    later = tuple(TimeStep(k, f"{np.datetime64('2013-01-29') + 16 * k}") for k in range(6))
    folder = write_fake(tmp_path / "later", replace_spec(fake, steps=later))
    assert run("-i", folder, "-o", trained / "model", "-n") == 0


def test_samples_with_own_intervals_fit_whatever_stands_for_their_season(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for seed, first in ((9, "2013-01-26"), (8, "2013-07-26")):
        steps = tuple(TimeStep(k, f"{np.datetime64(first) + 16 * k}") for k in range(6))
        fake = replace_spec(make_fake((20, 20), seed=seed), steps=steps, interval=True)
        folders.append(write_fake(tmp_path / first, fake))
    flags = ["-o", tmp_path / "m", *MINI, "--no-random-forest"]
    assert run("-i", folders[0], "-i", folders[1], *flags) == 0
    half = write_fake(tmp_path / "half", replace_spec(make_fake((9, 9), seed=7), steps=steps))
    assert run("-i", half, "-o", tmp_path / "m", "-n") == 0
    assert run("-i", folders[1], "-o", trained / "model", "-n") == 0
    assert run("-i", half, "-o", trained / "model", "-n") == 1
    assert "do not fit the model: their time step 0 is of 2013-07-26" in capsys.readouterr().err


def test_training_refuses_dates_that_step_4_would(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-i", trained / "samples", "-o", tmp_path / "m", *MINI]
    assert run(*flags, "--timeline", "0/3520/160") == 1
    assert "--timeline does not fit the samples in" in capsys.readouterr().err
    steps = tuple(TimeStep(k, f"{np.datetime64('2011-07-26') + 16 * k}") for k in range(6))
    other = write_fake(tmp_path / "half", replace_spec(make_fake((10, 10), seed=9), steps=steps))
    assert run("-i", other, *flags) == 1
    assert "cannot train one model: their time step 0 is of 2011-01-26" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_intervals_are_drawn_as_the_model_was_split(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-i", trained / "samples", "-o", trained / "model", "-n"]
    first = json.loads((trained / "model" / "metrics.json").read_text())
    assert run(*flags) == 0
    by_block = evaluation(trained)[0]["overall_accuracy"]
    assert by_block == first["overall_accuracy"]
    assert "intervals are drawn by block, as the model was split" in capsys.readouterr().out
    assert run(*flags, "--split-by", "sample") == 0
    assert evaluation(trained)[0]["overall_accuracy"] != by_block


def test_blocks_of_two_coordinate_systems_are_measured_with_a_caution(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: list[object] = []
    for seed, crs in ((8, "EPSG:32721"), (9, "EPSG:32722")):
        fake = make_fake((20, 20), seed=seed)
        fake = replace_spec(fake, grid=replace(fake.spec.grid, crs=crs))
        flags += ["-i", write_fake(tmp_path / crs[5:], fake)]
    told = "the samples are in 2 coordinate systems (EPSG:32721, EPSG:32722), whose blocks are kept apart"
    assert run(*flags, "-o", trained / "model", "-n") == 0
    out = capsys.readouterr().out
    assert "intervals are drawn by block, as the model was split" in out
    assert f"caution: {told}" in out
    assert told in evaluation(trained)[1]
    assert run(*flags, "-o", tmp_path / "m", *MINI, "--no-random-forest", "--split-by", "block") == 0
    assert f"caution: {told}" in capsys.readouterr().out


def test_samples_without_the_models_groups_are_drawn_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((40, 40), seed=1)
    fake.kept["farm"] = [f"farm {k % 9}" for k in range(80)]
    flags = ["-i", write_fake(tmp_path / "farms", fake), "-o", tmp_path / "m"]
    assert run(*flags, *MINI, "--split-by", "farm", "--no-random-forest") == 0
    other = write_fake(tmp_path / "other", make_fake((10, 10), seed=9))
    assert run("-i", other, "-o", tmp_path / "m", "-n") == 0
    out = capsys.readouterr().out
    assert "the model was split by farm, and these samples cannot be grouped so: intervals are drawn" in out
    assert "The training's own report has one" not in (tmp_path / "m/evaluation/report.html").read_text()
    assert run("-i", other, "-o", tmp_path / "m", "-n", "--split-by", "farm") == 1
    assert "--split-by farm: the samples carry no attribute of that name" in capsys.readouterr().err


def test_the_season_that_trained_is_not_taken_for_the_one_that_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same places in two years have the same ids; 2011 trains, 2012 tests."""
    first, second = make_fake((40, 40), seed=1), make_fake((40, 40), seed=1)
    first.kept["split"] = ["train" if k % 4 else "val" for k in range(80)]
    second.kept["split"] = ["test"] * 80
    second.days += 365
    early, late = write_fake(tmp_path / "y11", first), write_fake(tmp_path / "y12", second)
    model = tmp_path / "m"
    flags = ["-i", early, "-i", late, "-o", model, *MINI, "--no-random-forest", "--split-column", "split"]
    assert run(*flags) == 0
    assert run("-i", early, "-o", model, "-n") == 1
    assert "were used to train the model" in capsys.readouterr().err
    assert run("-i", late, "-o", model, "-n") == 0
    told = "80 of the measured samples lie on pixels that the model was trained on in another season"
    out = capsys.readouterr().out
    assert "80 of 80 samples are measured" in out
    assert f"caution: {told}" in out
    assert told in (model / "evaluation" / "report.html").read_text()
    assert json.loads((model / "evaluation/metrics.json").read_text())["trained_in_another_season"] == 80
    lines = (model / "splits.csv").read_text().splitlines()
    assert lines[0] == "id,split,class,pixel,season"
    (model / "splits.csv").write_text("\n".join(line.rsplit(",", 2)[0] for line in lines) + "\n")
    old = replace(ModelFolder(str(model)).read_spec(), splits_sha256=None)  # as an older version left it
    (model / "model.json").write_text(old.to_json())
    assert run("-i", late, "-o", model, "-n") == 1
    assert re.search(r"splits\.csv has sample \w+ in two splits", capsys.readouterr().err)


def test_all_samples_measure_a_model_without_a_test_split_and_those_it_has_used_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = write_fake(tmp_path / "early", make_fake((12, 12), seed=1))
    fake = make_fake((8, 8), seed=1)
    fake.rows = (fake.rows + 1) % fake.spec.grid.height
    late = write_fake(tmp_path / "late", fake)
    trained = read_samples([early])
    splits = np.where(np.arange(24) % 4 == 0, "validation", "train")
    (tmp_path / "m").mkdir()
    folder = ModelFolder(str(tmp_path / "m"))
    table = splits_table(trained, splits, fake.spec.classes.names)
    (tmp_path / "m" / "splits.csv").write_text(table)

    late_ones = read_samples([late])
    used = seen(from_csv(table, "splits.csv"), late_ones, "splits.csv").used
    assert 0 < used.sum() < 8
    chosen, part, _ = _choose(late_ones, folder)
    assert (int(chosen.sum()), part) == (16, "all")
    told = f"16 of 16 samples are measured (-t 0: all of them); {used.sum()} trained the model or chose"
    assert told in capsys.readouterr().out
    chosen, part, _ = _choose(late_ones.choose(~used), folder)
    assert (int(chosen.sum()), part) == (16 - used.sum(), "new")
    assert "all are new to the model, which was trained with -t 0" in capsys.readouterr().out
    chosen, part, _ = _choose(read_samples([early, late]), folder)
    assert (int(chosen.sum()), part) == (40, "all")


def test_an_evaluation_trains_nothing_and_leaves_the_model_as_it_is(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an evaluation trains nothing")

    monkeypatch.setattr(keras.optimizers.Optimizer, "apply", refuse)
    monkeypatch.setattr(RandomForestClassifier, "fit", refuse)

    def digests() -> dict[Path, str]:
        files = [path for path in (trained / "model").rglob("*") if path.is_file()]
        own = [path for path in files if "evaluation" not in path.parts]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in own}

    before = digests()
    other = write_fake(tmp_path / "other", make_fake((10, 10), seed=9))
    assert run("-i", other, "-o", trained / "model", "-n") == 0
    assert digests() == before
