"""The table of accuracy: what is pooled, what is counted, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import accuracy
from benchmarks._accuracy_table import HEAD, NOTES, collect, page

TOLD: dict[str, Any] = {
    "set": "a",
    "title": "Set A",
    "grouping": "block",
    "truth": "001101",
    "tests": [[0, 2, 4], [1, 3, 5]],
    "groups": [0, 1, 0, 1, 2, 2],
}


def _fold(model: str, seed: int, fold: int, **predicted: str) -> dict[str, Any]:
    return {
        "set": "a", "model": model, "seed": seed, "fold": fold, "seconds": 2.0, "predicted": predicted,
    }  # fmt: skip


def test_folds_are_pooled_and_unfinished_runs_left_out() -> None:
    records = [
        TOLD,
        _fold("random_forest", 1, 0, random_forest="010"),
        _fold("random_forest", 1, 1, random_forest="000"),
        _fold("random_forest", 2, 0, random_forest="010"),
        _fold("auto", 1, 1, auto="011", three_pairs="111", ltae_mlp0="011", ltae0="111", mlp0="011"),
        _fold("auto", 1, 0, auto="010", three_pairs="010", ltae_mlp0="110", ltae0="010", mlp0="010"),
    ]
    runs = collect(TOLD, records)
    assert list(runs) == ["auto", "random_forest", "three_pairs", "ltae_mlp", "ltae", "mlp"]
    assert {row: len(found) for row, found in runs.items()} == dict.fromkeys(runs, 1)
    accuracy = {row: found[0].measures(2)[0] for row, found in runs.items()}
    assert accuracy == {
        "auto": 1.0, "random_forest": 4 / 6, "three_pairs": 5 / 6, "ltae_mlp": 5 / 6, "ltae": 5 / 6,
        "mlp": 1.0,
    }  # fmt: skip
    assert runs["auto"][0].seconds == [2.0, 2.0]
    assert runs["mlp"][0].seconds == []
    text = page(records)
    assert "| Set A | 1.0000 | 0.6667 | 2 of 6 samples better | 0.8333 | - | 0.8333 | - | - |" in text
    assert "Not run on this set: small_forest, tempcnn, lstm_fcn, transformer, lstm, conv_bilstm." in text


def test_a_loss_is_printed_as_a_loss() -> None:
    records = [TOLD]
    for fold, truth in enumerate(("010", "011")):
        records += [_fold("random_forest", 1, fold, random_forest=truth), _fold("auto", 1, fold, auto="000")]
    assert "3 of 6 samples worse" in page(records)


def test_samples_of_one_group_have_no_interval() -> None:
    told = TOLD | {"groups": [0] * 6}
    records = [told, _fold("auto", 1, 0, auto="010"), _fold("auto", 1, 1, auto="000")]
    assert "| auto | 0.6667 (one run) | - | " in page(records)


def test_the_page_says_how_auto_was_put_together() -> None:
    said = " ".join(HEAD.split())
    assert "no training setting and no number of epochs was chosen on a test fold" in said
    assert "two of the five would have left the dense network out" in said
    written = (Path(accuracy.__file__).parent.parent / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert written.startswith(HEAD)
    assert written.endswith(NOTES)


def test_no_group_is_on_both_sides_and_every_sample_is_tested_once() -> None:
    generator = np.random.default_rng(0)
    truth, groups = generator.integers(0, 3, 200), generator.integers(0, 40, 200)
    tests = accuracy.held_out(truth, groups, accuracy.RealSet(*accuracy.PORTO, "block", accuracy._blocks))
    assert sorted(np.concatenate(tests).tolist()) == list(range(200))
    where = [set(groups[test].tolist()) for test in tests]
    assert sum(map(len, where)) == len(set.union(*where))


def test_random_splits_train_on_as_many_samples_as_published() -> None:
    last = accuracy.SETS[-1]
    truth = np.repeat([0, 1, 2, 3, 4], [68, 138, 79, 134, 184])
    assert [len(test) for test in accuracy.held_out(truth, np.arange(603), last)] == [541] * 5
    assert last.key == "porto_dos_gauchos_modis_2007_2013_62"
