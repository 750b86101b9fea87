"""What is averaged is chosen without the samples that it is measured on in the end."""

from __future__ import annotations

import numpy as np

from benchmarks.accuracy import FOLDS
from benchmarks.selection import Tested, accuracies, table


def shown(class_ids: list[int]) -> np.ndarray:
    """Probabilities of a branch that is sure."""
    return np.eye(2, dtype=np.float32)[class_ids]


def make_tested(right: dict[int, bool]) -> list[Tested]:
    """Three samples for each fold; ``wise`` is right about a fold where that says so, ``fool`` never.

    Model k left out folds k and k + 1, and was tested on both.
    """
    out = []
    for fold in range(FOLDS):
        both = (fold, (fold + 1) % FOLDS)
        wise = [0 if right[one] else 1 for one in both for _ in range(3)]
        out.append({"wise": shown(wise), "fool": shown([1] * 6), "truth": np.zeros(6), "first": np.array(3)})
    return out


def test_a_fold_is_judged_by_its_neighbours_alone() -> None:
    tested = {"a": make_tested({0: False, 1: True, 2: False, 3: False, 4: True})}
    found = [accuracies(tested, outer)["wise"]["a"] for outer in range(FOLDS)]
    # Of outer fold 0, folds 1 and 4 tell: right both times, though fold 0 itself is wrong.
    assert found == [1.0, 0.0, 0.5, 0.5, 0.0]
    assert set(accuracies(tested, 0)) == {"wise", "fool", "wise + fool"}


def test_the_best_mean_of_all_sets_is_chosen() -> None:
    tested = {
        "a": make_tested(dict.fromkeys(range(5), True)),
        "b": make_tested(dict.fromkeys(range(5), True)),
    }
    lines = table(tested).splitlines()[2:]
    assert len(lines) == FOLDS
    assert lines[0].startswith("| 0 | wise | wise 1.0000")
    assert "fool 0.0000" in lines[0]
