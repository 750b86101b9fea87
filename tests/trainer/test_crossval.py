"""Folds that cannot be trained on are told before the first one trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.loop import Loop


def run(folder: Path, *flags: object) -> int:
    given = ["-i", folder / "s", "-o", folder / "m", "--model", "mlp", "--model-config", '{"units": 8}']
    return main([str(flag) for flag in [*given, "-e", 1, *flags]])


def test_every_fold_has_samples_where_each_group_holds_one_class(tmp_path: Path) -> None:
    fake = make_fake((12, 12))
    fake.kept["farm"] = [f"farm{of_class}_{k % 3}" for k, of_class in enumerate(fake.class_ids)]
    write_fake(tmp_path / "s", fake)
    assert run(tmp_path, "--split-by", "farm", "--folds", 4, "--no-random-forest") == 0
    cross = json.loads((tmp_path / "m" / "metrics.json").read_text())["cross_validation"]
    assert [row["fold"] for row in cross["folds"]] == [f"fold {k}" for k in range(1, 5)]
    assert min(row["samples"] for row in cross["folds"]) > 0
    assert sum(row["samples"] for row in cross["folds"]) == cross["samples"] == 24


def test_a_nan_loss_names_its_fold_and_no_folder_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fake(tmp_path / "s", make_fake((12, 12)))
    whole = Loop.run

    def run_two_epochs(loop: Loop, *given: Any, **named: Any) -> tuple[dict[str, float], float]:
        found = whole(loop, *given, **named)
        if int(loop.optimizer.iterations) > 1:
            loop.model.get_layer("probabilities").kernel.assign(np.full((8, 2), np.nan))
        return found

    monkeypatch.setattr(Loop, "run", run_two_epochs)
    assert run(tmp_path, "--folds", 2, "--no-random-forest", "-v", 0, "-b", 64, "-e", 3) == 1
    assert capsys.readouterr().err.startswith(
        "error: fold 1: the loss became NaN or infinite in epoch 2, the weights; lower the learning rate (-l)"
    )


def test_a_class_that_the_last_fold_cannot_learn_is_told_before_the_first_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = make_fake((20, 20))
    # All samples of class 1 lie in the last year.
    fake.kept["year"] = ["2019" if label else str(2010 + k % 3) for k, label in enumerate(fake.class_ids)]
    write_fake(tmp_path / "s", fake)
    assert run(tmp_path, "--leave-out", "year") == 1
    told = capsys.readouterr()
    assert "without year 2019 there is no sample of class 1 to train on" in told.err
    assert "year 2010:" not in told.out
    assert list(tmp_path.glob("m/*")) == []


def test_a_forest_that_learned_from_a_part_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.forest.TREES", 10)
    monkeypatch.setattr("trainer.forest.MOST_SAMPLES", 14)
    monkeypatch.setattr("trainer.crossval.MOST_SAMPLES", 14)
    fake = make_fake((12, 12))
    fake.kept["year"] = ["2010" if k < 16 else "2011" for k in range(24)]
    write_fake(tmp_path / "s", fake)
    assert run(tmp_path, "--leave-out", "year") == 0
    found = json.loads((tmp_path / "m" / "metrics.json").read_text())
    assert found["random_forest"]["note"] == "trained on 14 of 20 samples"
    cross = found["cross_validation"]
    notes = ["", "trained on 14 of 16 samples"]
    assert [row["random_forest_note"] for row in cross["folds"]] == notes
    assert cross["random_forest"]["note"] == "trained on 14 samples where a fold has more"
    out, page = capsys.readouterr().out, (tmp_path / "m" / "report.html").read_text()
    for told in ("trained on 14 of 20 samples", notes[1], cross["random_forest"]["note"]):
        assert told in out
        assert told in page
