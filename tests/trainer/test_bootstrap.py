from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sk

from trainer import evaluate
from trainer.bootstrap import FEW_GROUPS, add_intervals, caution, one_sided, resampled


def draw(count: int, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, count)
    return truth, np.where(generator.random(count) < right, truth, (truth + 1) % 3)


def intervals(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> dict:
    found = evaluate.metrics(evaluate.confusion_matrix(truth, predicted, 3), ["a", "b", "c"])
    return add_intervals(found, resampled(truth, predicted, groups, 3, seed=2))


def test_the_interval_is_that_of_the_binomial_for_single_samples() -> None:
    truth, predicted = draw(400, 0.8)
    found = intervals(truth, predicted, np.arange(400).astype(str))["overall_accuracy"]
    share = (truth == predicted).mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert found["value"] == pytest.approx(share)
    assert found["low"] == pytest.approx(share - half, abs=0.008)
    assert found["high"] == pytest.approx(share + half, abs=0.008)


def test_groups_that_err_together_widen_the_interval() -> None:
    truth = np.zeros(400, np.int64)
    groups = np.repeat(np.arange(20), 20).astype(str)
    predicted = np.repeat(np.arange(20) % 5 == 0, 20).astype(np.int64)  # whole groups are wrong
    alone = intervals(truth, predicted, np.arange(400).astype(str))["overall_accuracy"]
    together = intervals(truth, predicted, groups)["overall_accuracy"]
    assert alone["value"] == together["value"] == 0.8
    assert together["high"] - together["low"] > 3 * (alone["high"] - alone["low"])


def test_every_replicate_has_as_many_groups_and_the_seed_decides() -> None:
    truth, predicted = draw(60, 0.5)
    groups = (np.arange(60) // 3).astype(str)
    one, again, other = (
        np.stack(list(resampled(truth, predicted, groups, 3, seed, replicates=120))) for seed in (2, 2, 3)
    )
    assert one.shape == (120, 3, 3)
    assert (one.sum(axis=(1, 2)) == 60).all()
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_a_replicate_is_the_sum_of_the_groups_that_were_drawn() -> None:
    truth, predicted = draw(61, 0.5)
    group = np.arange(61) % 7
    of_group = np.stack(
        [evaluate.confusion_matrix(truth[group == g], predicted[group == g], 3) for g in range(7)]
    )
    draws = np.random.default_rng(5).integers(0, 7, (20, 7))
    found = list(resampled(truth, predicted, group.astype(str), 3, seed=5, replicates=20))
    np.testing.assert_array_equal(found, of_group[draws].sum(axis=1))


def test_many_classes_need_little_memory() -> None:
    truth = np.arange(600) % 200
    found = evaluate.metrics(evaluate.confusion_matrix(truth, truth, 200), [str(k) for k in range(200)])
    tracemalloc.start()
    add_intervals(found, resampled(truth, np.roll(truth, 1), truth.astype(str), 200, seed=2, replicates=60))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 200**2 * 8  # ten confusion matrices


def test_undefined_measures_have_no_interval() -> None:
    truth, predicted = np.zeros(10, np.int64), np.zeros(10, np.int64)
    found = intervals(truth, predicted, np.arange(10).astype(str))
    assert found["classes"]["b"]["f1"] == {"value": None, "low": None, "high": None}
    assert found["classes"]["a"]["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_no_error_is_no_proof() -> None:
    assert "after 43 independent groups of samples, up to 6.7% wrong ones" in one_sided(43)
    assert "up to 95.0% wrong ones" in one_sided(1)
    told = one_sided(43, "right")
    assert told.startswith("no sample was right, ")
    assert "after 43 independent groups of samples, up to 6.7% right ones" in told


def test_one_group_has_no_interval() -> None:
    truth, predicted = draw(30, 0.5)
    found = intervals(truth, predicted, np.full(30, "north"))
    share = round(float((truth == predicted).mean()), 6)
    assert found["overall_accuracy"] == {"value": share, "low": None, "high": None}
    entries = [found["kappa"], found["macro_f1"], *(found["classes"][k]["f1"] for k in "abc")]
    assert all(entry["value"] is not None and entry["low"] is entry["high"] is None for entry in entries)
    two = intervals(truth, predicted, np.where(np.arange(30) < 15, "north", "south"))
    assert two["overall_accuracy"]["low"] is not None


def test_few_groups_are_told() -> None:
    assert "of one group" in (caution(1) or "")
    assert "of 3 independent groups only" in (caution(3) or "")
    assert caution(FEW_GROUPS - 1) is not None
    assert caution(FEW_GROUPS) is None


MEASURES = ("overall_accuracy", "kappa", "macro_f1")


def by_scikit_learn(matrix: np.ndarray) -> list[float]:
    """All measures of a confusion matrix, from its samples one by one: three of all, then three per class."""
    truth, predicted = np.indices(matrix.shape).reshape(2, -1).repeat(matrix.ravel(), axis=1)
    of_all = sk.accuracy_score(truth, predicted), sk.cohen_kappa_score(truth, predicted)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, predicted, labels=range(len(matrix)))
    return [*of_all, f1.mean(), *np.ravel([precision, recall, f1], order="F")]


def test_every_measure_has_the_percentiles_of_its_own_values() -> None:
    generator = np.random.default_rng(4)
    truth = np.repeat([0, 1, 2], (60, 30, 25))
    wrong = generator.random(115) < np.array([0.1, 0.3, 0.5])[truth]
    predicted = np.where(wrong, (truth + generator.integers(1, 3, 115)) % 3, truth)
    groups = generator.integers(0, 30, 115).astype(str)
    matrices = list(resampled(truth, predicted, groups, 3, seed=2, replicates=50))
    values = np.array([by_scikit_learn(matrix) for matrix in matrices])
    assert all((matrix.sum(0) * matrix.sum(1)).all() for matrix in matrices)  # all is defined
    plain = evaluate.metrics(evaluate.confusion_matrix(truth, predicted, 3), ["a", "b", "c"])
    found = add_intervals(plain, matrices)
    entries = [(found[name], plain[name]) for name in MEASURES]
    for name in "abc":
        of_class = found["classes"][name], plain["classes"][name]
        entries += [
            (of_class[0][measure], of_class[1][measure]) for measure in ("precision", "recall", "f1")
        ]
        assert of_class[0]["support"] == of_class[1]["support"]
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    assert len(np.unique(low.round(4))) == len(np.unique(high.round(4))) == 12  # none can stand for another
    for number, (entry, before) in enumerate(entries):
        assert entry == {
            "value": before["value"],
            "low": pytest.approx(low[number], abs=1e-6),
            "high": pytest.approx(high[number], abs=1e-6),
        }


def test_draws_in_which_a_measure_is_undefined_do_not_count_for_it() -> None:
    whole = np.array([[2, 2], [1, 3]])
    without_b = np.array([[4, 0], [0, 0]])  # no precision, recall and F1 of b, no kappa
    found = add_intervals(evaluate.metrics(whole, ["a", "b"]), [whole, without_b])
    assert found["classes"]["b"]["precision"] == {"value": 0.6, "low": 0.6, "high": 0.6}
    assert found["classes"]["b"]["recall"] == {"value": 0.75, "low": 0.75, "high": 0.75}
    assert found["kappa"] == {"value": 0.25, "low": 0.25, "high": 0.25}
    of_all = found["overall_accuracy"]
    assert of_all == {"value": 0.625, "low": pytest.approx(0.634375), "high": pytest.approx(0.990625)}
