from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from trainer.split import (
    Line,
    assign_folds,
    assign_splits,
    check_splits,
    from_csv,
    leave_out,
    splits_from_column,
    table,
    to_csv,
)


def labelled(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    class_ids = np.random.default_rng(seed).integers(0, classes, count)
    return class_ids, np.array([f"sample {k}" for k in range(count)])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_samples_does_not_matter(seed: int) -> None:
    class_ids, ids = labelled(200, 4)
    blocks = np.array([f"block {k % 23}" for k in range(200)])
    order = np.random.default_rng(seed).permutation(200)
    for groups in (ids, blocks):
        splits = assign_splits(class_ids, groups, seed, 0.15, 0.15)
        np.testing.assert_array_equal(
            assign_splits(class_ids[order], groups[order], seed, 0.15, 0.15), splits[order]
        )


def test_another_seed_gives_another_split() -> None:
    class_ids, ids = labelled(100, 2)
    assert (assign_splits(class_ids, ids, 1, 0.2, 0.2) != assign_splits(class_ids, ids, 2, 0.2, 0.2)).any()


def test_samples_are_stratified_to_one_sample() -> None:
    for counts, validation, test in itertools.product(
        ((40, 7, 3), (100, 100), (10, 11, 12, 13)), (0.0, 0.15, 0.3), (0.0, 0.15, 0.5)
    ):
        class_ids = np.repeat(np.arange(len(counts)), counts)
        ids = np.array([str(k) for k in range(len(class_ids))])
        splits = assign_splits(class_ids, ids, 2, validation, test)
        for class_id, count in enumerate(counts):
            of_class = splits[class_ids == class_id]
            assert abs((of_class == "test").sum() - count * test) <= 1
            assert abs((of_class == "validation").sum() - count * validation) <= 1
            for part, share in (("train", 1.0), ("validation", validation), ("test", test)):
                assert (of_class == part).any() == (share > 0), (counts, validation, test, part)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_on_two_sides_and_ratios_within_a_group(seed: int) -> None:
    class_ids, _ = labelled(600, 3, seed)
    groups = np.array([f"block {k}" for k in np.random.default_rng(seed).integers(0, 60, 600)])
    splits = assign_splits(class_ids, groups, seed, 0.2, 0.2)
    for group in np.unique(groups):
        assert len(np.unique(splits[groups == group])) == 1
    biggest = max(np.unique(groups, return_counts=True)[1])
    for class_id in range(3):
        of_class = splits[class_ids == class_id]
        for part in ("validation", "test"):
            assert abs((of_class == part).sum() - 0.2 * len(of_class)) <= biggest
            assert (of_class == part).any()


def test_a_class_in_three_groups_is_in_every_part() -> None:
    class_ids = np.array([0] * 60 + [1] * 9)
    groups = np.array([f"a{k // 5}" for k in range(60)] + ["x", "x", "x", "y", "y", "y", "z", "z", "z"])
    splits = assign_splits(class_ids, groups, 2, 0.15, 0.15)
    assert set(splits[class_ids == 1]) == {"train", "validation", "test"}
    check_splits(splits, class_ids, ["wide", "rare"])


def test_a_class_missing_from_a_part_is_named() -> None:
    splits = np.array(["train", "train", "test", "train"])
    with pytest.raises(DltsError, match=r"test split has no sample of soy \(1 samples in all\)"):
        check_splits(splits, np.array([0, 1, 0, 0]), ["forest", "soy"])
    with pytest.raises(DltsError, match="no sample is left for training"):
        check_splits(np.array(["test"]), np.array([0]), ["forest"])


def test_a_least_quality_that_leaves_too_few_for_training_is_named() -> None:
    for trained, class_ids in (("unused", [0, 1, 0, 1]), ("train", [0, 1, 0, 0])):
        splits = np.array([trained, "unused", "test", "unused"])
        with pytest.raises(DltsError, match=r"(no sample is left|train split has no).* lower --min-qual"):
            check_splits(splits, np.array(class_ids), ["forest", "soy"])


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.1), (0.1, 1.0), (float("nan"), 0.1)])
def test_fractions_are_checked(validation: float, test: float) -> None:
    class_ids, ids = labelled(10, 2)
    with pytest.raises(DltsError, match=r"-t|--validation-split"):
        assign_splits(class_ids, ids, 2, validation, test)


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_are_stratified_and_keep_groups(folds: int) -> None:
    class_ids, ids = labelled(203, 3)
    plain = assign_folds(class_ids, ids, 2, folds)
    sizes = np.bincount(plain, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for class_id in range(3):
        per_fold = np.bincount(plain[class_ids == class_id], minlength=folds)
        assert per_fold.max() - per_fold.min() <= 1
    blocks = np.array([f"block {k}" for k in np.random.default_rng(3).integers(0, 40, 203)])
    grouped = assign_folds(class_ids, blocks, 2, folds)
    for block in np.unique(blocks):
        assert len(np.unique(grouped[blocks == block])) == 1
    assert np.bincount(grouped, minlength=folds).min() > 203 / folds - 15
    order = np.random.default_rng(4).permutation(203)
    np.testing.assert_array_equal(assign_folds(class_ids[order], blocks[order], 2, folds), grouped[order])
    with pytest.raises(DltsError, match="--folds must lie between 2 and the number of groups"):
        assign_folds(class_ids, blocks, 2, 41)


def test_no_fold_is_empty_however_few_groups_hold_a_class() -> None:
    generator = np.random.default_rng(5)
    for groups, classes, mixed in itertools.product(range(2, 9), range(1, 5), (False, True)):
        group_of = generator.permutation(np.repeat(np.arange(groups), 4))
        class_ids = generator.integers(0, classes, len(group_of)) if mixed else group_of % classes
        names = np.array([f"farm {k}" for k in group_of])
        for folds in range(2, groups + 1):
            found = assign_folds(class_ids, names, 2, folds)
            assert np.bincount(found, minlength=folds).min() > 0, (groups, classes, mixed, folds)
            assert all(len(set(found[names == name])) == 1 for name in names)


def test_a_column_may_hold_the_split() -> None:
    values = np.array([" Train", "val", "TEST", "validation"])
    assert splits_from_column(values, "split").tolist() == ["train", "validation", "test", "validation"]
    with pytest.raises(DltsError, match="'hold-out'"):
        splits_from_column(np.array(["train", "hold-out"]), "split")


def test_csv_round_trip_and_table() -> None:
    ids, splits = np.array(["a", "b"]), np.array(["train", "test"])
    season = (dt.date(2019, 9, 1), dt.date(2020, 8, 28))
    text = to_csv(ids, splits, ["forest, old", "soy"], np.array(["p", "q"]), [season, None])
    assert text.splitlines()[1] == 'a,train,"forest, old",p,2019-09-01/2020-08-28'
    assert from_csv(text, "splits.csv") == [Line("a", "train", "p", season), Line("b", "test", "q", None)]
    assert from_csv("id,split,class\na,test,soy\n", "splits.csv") == [Line("a", "test")]
    for wrong in ("", "id,part\n", "id,split,class\na,test,soy,p,\n"):
        with pytest.raises(DltsError, match="not a table of splits with the columns id, split, class, pixel"):
            from_csv(wrong, "splits.csv")
    with pytest.raises(DltsError, match=r"splits.csv: sample a has the season '2019'; it must look like"):
        from_csv(text.replace("2019-09-01/2020-08-28", "2019"), "splits.csv")
    shown = table(splits, np.array([0, 1]), ["forest, old", "soy"]).splitlines()
    assert shown[1].split() == ["forest,", "old", "1", "0", "0"]
    assert shown[-1].split() == ["all", "1", "0", "1"]


def test_samples_that_are_not_trusted_are_left_out_of_training_alone() -> None:
    splits = np.array(["train", "test", "validation", "train", "test"])
    left = leave_out(splits, np.array([False, False, False, True, True]))
    assert left.tolist() == ["unused", "test", "validation", "train", "test"]
    ids, classes = np.array(list("abcde")), np.array([0, 0, 1, 1, 1])
    lines = from_csv(to_csv(ids, left, list("xxyyy"), ids, [None] * 5), "splits.csv")
    assert [(line.id, line.split) for line in lines] == list(zip(ids, left, strict=True))
    shown = table(left, classes, ["x", "y"])
    assert [line.split() for line in shown.splitlines()] == [
        ["class", "train", "validation", "test", "unused"],
        ["x", "0", "0", "1", "1"],
        ["y", "1", "1", "1", "0"],
        ["all", "1", "1", "2", "1"],
    ]
