"""What the report says of settings and splits is what counted."""

from __future__ import annotations

import re

import numpy as np

from trainer import about


def rows(page: str) -> list[list[str]]:
    return [re.findall("<t[dh]>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", page)]


def test_settings_that_had_no_say_are_not_listed() -> None:
    settings = {
        "bands": None, "index": [], "list_models": None, "epochs": 2, "jitter": 0.0, "class_weights": False,
        "optimizer": "nadam", "weight_decay": 0.0001, "lr_decay": "plateau", "warmup": 0.05,
        "timeline": None, "composite": "interpolate",
    }  # fmt: skip
    always = [["setting", "value"], ["epochs", "2"], ["jitter", "0.0"], ["class_weights", "False"]]
    assert rows(about.settings_section(settings)) == [
        *always, ["optimizer", "nadam"], ["lr_decay", "plateau"],
    ]  # fmt: skip
    had = {"optimizer": "adamw", "lr_decay": "cosine", "timeline": "24"}
    assert rows(about.settings_section(settings | had)) == [
        *always, ["optimizer", "adamw"], ["weight_decay", "0.0001"], ["lr_decay", "cosine"],
        ["warmup", "0.05"], ["timeline", "24"], ["composite", "interpolate"],
    ]  # fmt: skip


def test_shares_of_a_split_that_a_column_made_are_not_listed() -> None:
    settings = {"test_split": 0.15, "validation_split": 0.15, "split_column": "part"}
    assert [row[0] for row in rows(about.settings_section(settings))] == ["setting", "split_column"]
    folds = rows(about.settings_section(settings | {"folds": 5}))
    assert [row[0] for row in folds] == ["setting", "validation_split", "split_column", "folds"]


def test_samples_are_counted_per_class_and_split() -> None:
    splits = np.array(["train", "train", "test", "validation", "train"])
    class_ids = np.array([0, 1, 1, 1, 1])
    assert rows(about.split_table(splits, class_ids, ("soy", "maize"))) == [
        ["class", "train", "validation", "test"],
        ["soy", "1", "0", "0"],
        ["maize", "2", "1", "1"],
        ["all", "3", "1", "1"],
    ]
    splits[0] = "unused"
    assert rows(about.split_table(splits, class_ids, ("soy", "maize")))[:2] == [
        ["class", "train", "validation", "test", "unused"],
        ["soy", "0", "0", "0", "1"],
    ]
