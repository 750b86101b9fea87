from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from trainer import evaluate


def test_measures_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 200)
    predicted = np.where(generator.random(200) < 0.7, truth, generator.integers(0, 4, 200))
    matrix = evaluate.confusion_matrix(truth, predicted, 4)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, predicted))
    assert evaluate.overall_accuracy(matrix) == pytest.approx(sk.accuracy_score(truth, predicted))
    assert evaluate.kappa(matrix) == pytest.approx(sk.cohen_kappa_score(truth, predicted))
    assert evaluate.macro_f1(matrix) == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(truth, predicted)
    ours = evaluate.class_measures(matrix)
    np.testing.assert_allclose(ours["precision"], precision)
    np.testing.assert_allclose(ours["recall"], recall)
    np.testing.assert_allclose(ours["f1"], f1)


def test_what_is_undefined_is_null_and_json() -> None:
    matrix = np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]])
    found = json.loads(json.dumps(evaluate.metrics(matrix, ["a", "b", "c"]), allow_nan=False))
    assert found["overall_accuracy"] == {"value": 0.75}
    assert found["classes"]["a"] == {
        "precision": {"value": 0.75},
        "recall": {"value": 1.0},
        "f1": {"value": 0.857143},
        "support": 3,
    }
    assert found["classes"]["b"]["precision"] == {"value": None}
    assert found["classes"]["c"]["recall"] == {"value": None}
    assert found["confusion_matrix"]["values"] == matrix.tolist()
    assert "overall accuracy: 0.7500" in evaluate.table(found)


def test_ties_go_to_the_lowest_class_as_in_the_map() -> None:
    probabilities = np.array([[0.2, 0.4, 0.4], [0.4, 0.3, 0.3], [0.1, 0.4 - 1e-7, 0.4]], np.float32)
    np.testing.assert_array_equal(evaluate.predicted_classes(probabilities), [1, 0, 1])
