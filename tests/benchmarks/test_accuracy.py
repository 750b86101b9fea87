"""The table of accuracy: what is pooled, what is counted, what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks._accuracy_notes import NOTES
from benchmarks._accuracy_runs import Record, check_folds, collect, lead
from benchmarks._accuracy_sets import PORTO, SETS, RealSet, _blocks
from benchmarks._accuracy_table import HEAD, page

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
    assert "| Set A | 1.0000 | 0.6667 | 2 of 6 better (0.0 to 3.0) | 0.8333 | - | 0.8333 | - |" in text
    assert "Not run on this set: small_forest, tempcnn, lstm_fcn, transformer, lstm, conv_bilstm." in text


def test_a_loss_is_printed_as_a_loss() -> None:
    records = [TOLD]
    for fold, truth in enumerate(("010", "011")):
        records += [_fold("random_forest", 1, fold, random_forest=truth), _fold("auto", 1, fold, auto="000")]
    assert "| 3 of 6 worse (" in page(records)


def test_samples_of_one_group_have_no_interval() -> None:
    told = TOLD | {"groups": [0] * 6}
    records = [told, _fold("auto", 1, 0, auto="010"), _fold("auto", 1, 1, auto="000")]
    assert "| auto | 0.6667 (one run) | - | " in page(records)


def test_the_page_says_how_auto_was_put_together() -> None:
    said = " ".join(NOTES.split())
    assert "the figures of `auto` may flatter it a little" in said
    assert "two of the five would have left the dense network out" in said
    written = (Path(accuracy.__file__).parent.parent / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert written.startswith(HEAD)
    assert written.endswith(NOTES)


def test_no_group_is_on_both_sides_and_every_sample_is_tested_once() -> None:
    generator = np.random.default_rng(0)
    truth, groups = generator.integers(0, 3, 200), generator.integers(0, 40, 200)
    tests = accuracy.held_out(truth, groups, RealSet(*PORTO, "block", _blocks))
    assert sorted(np.concatenate(tests).tolist()) == list(range(200))
    where = [set(groups[test].tolist()) for test in tests]
    assert sum(map(len, where)) == len(set.union(*where))


def test_random_splits_train_on_as_many_samples_as_published() -> None:
    last = SETS[-1]
    truth = np.repeat([0, 1, 2, 3, 4], [68, 138, 79, 134, 184])
    assert [len(test) for test in accuracy.held_out(truth, np.arange(603), last)] == [541] * 5
    assert last.key == "porto_dos_gauchos_modis_2007_2013_62"


def runs_of(*seeds: tuple[str, str]) -> list[Record]:
    """Records of ``auto`` and the forest, one pair of text for both folds of `TOLD` for each seed."""
    return [
        _fold(model, seed, fold, **{model: text[fold * 3 : fold * 3 + 3]})
        for seed, pair in enumerate(seeds, 1)
        for model, text in zip(("auto", "random_forest"), pair, strict=True)
        for fold in range(2)
    ]


def test_a_lead_is_the_mean_of_the_seeds_and_its_interval_draws_groups() -> None:
    # In the order of the tests: samples 0 2 4 1 3 5, truth 010 011, groups 002 112.
    runs = collect(TOLD, runs_of(("010011", "110011"), ("010011", "010001")))
    ahead, low, high = lead(runs["auto"], runs["random_forest"], TOLD)
    # One more right in the first seed (a sample of group 0), one in the second (of group 1).
    assert ahead == 1.0
    assert (low, high) == (0.0, 1.5)


def test_equals_are_told_as_equal_without_an_interval_of_their_own() -> None:
    assert "| equal (0.0 to 0.0) |" in page([TOLD, *runs_of(("010001", "010001"))])


def test_splits_that_overlap_show_how_they_differ() -> None:
    told = TOLD | {"tests": [[0, 2, 4, 5], [1, 3, 5, 4]]}
    records = [told]
    for fold, text in enumerate(("0101", "0111")):
        records.append(_fold("auto", 1, fold, auto=text))
    text = page(records)
    assert "The splits overlap: 8 predictions of each run are of the same samples." in text
    assert "- auto: 0.8750 ± 0.1768 (1.0000 0.7500)" in text


def test_the_table_lies_beside_the_results_and_says_nothing_of_others(tmp_path: Path) -> None:
    results = tmp_path / "mine.jsonl"
    lines = [json.dumps(record) for record in [TOLD, *runs_of(("010011", "110011"))]]
    results.write_text("\n".join(lines) + "\n")
    accuracy.main(["--results", str(results), "--minutes", "0"])
    written = (tmp_path / "mine.md").read_text()
    assert "| Set A |" in written
    assert "How auto was chosen" not in written


def test_without_a_finished_training_no_page_is_written(tmp_path: Path) -> None:
    results = tmp_path / "mine.jsonl"
    with pytest.raises(SystemExit, match="has no training with all its folds yet"):
        accuracy.main(["--results", str(results), "--minutes", "0"])
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_not_whole_is_named(tmp_path: Path) -> None:
    results = tmp_path / "mine.jsonl"
    results.write_text(json.dumps(TOLD) + '\n{"set": "a", "mod')
    with pytest.raises(SystemExit, match=r"line 2 of .* is not whole: remove it"):
        accuracy.main(["--results", str(results), "--minutes", "0"])


def test_results_of_other_folds_are_not_added_to() -> None:
    check_folds(Path("mine.jsonl"), [TOLD], TOLD)
    with pytest.raises(SystemExit, match="has other samples or folds of a: use another --results"):
        check_folds(Path("mine.jsonl"), [TOLD], TOLD | {"tests": [[0, 1, 4], [2, 3, 5]]})
