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


def lopsided() -> tuple[np.ndarray, np.ndarray, dict]:
    """Reference, prediction and measures of samples on which no two measures are alike."""
    matrix = np.array([[9, 4, 0], [1, 5, 2], [0, 0, 7]])
    truth, predicted = np.indices(matrix.shape).reshape(2, -1).repeat(matrix.ravel(), axis=1)
    ours = evaluate.confusion_matrix(truth, predicted, 3)
    np.testing.assert_array_equal(ours, matrix)
    return truth, predicted, evaluate.metrics(ours, ["soy", "maize", "forest"])


def test_what_metrics_json_says_agrees_with_scikit_learn() -> None:
    truth, predicted, found = lopsided()
    of_class = sk.precision_recall_fscore_support(truth, predicted)
    share = sk.accuracy_score(truth, predicted)
    assert found["samples"] == 28
    assert found["overall_accuracy"] == {"value": pytest.approx(share, abs=1e-6)}
    assert found["kappa"] == {"value": pytest.approx(sk.cohen_kappa_score(truth, predicted), abs=1e-6)}
    assert found["macro_f1"] == {"value": pytest.approx(of_class[2].mean(), abs=1e-6)}
    for k, name in enumerate(("soy", "maize", "forest")):
        precision, recall, f1, support = (values[k] for values in of_class)
        assert found["classes"][name] == {
            "precision": {"value": pytest.approx(precision, abs=1e-6)},
            "recall": {"value": pytest.approx(recall, abs=1e-6)},
            "f1": {"value": pytest.approx(f1, abs=1e-6)},
            "support": support,
        }
    told = found["confusion_matrix"]
    assert (told["rows"], told["columns"]) == ("reference", "predicted")
    assert told["values"] == sk.confusion_matrix(truth, predicted).tolist()


def test_the_terminal_has_users_and_producers_accuracy_under_their_names() -> None:
    _, _, found = lopsided()
    found["random_forest"] = {"overall_accuracy": {"value": 0.5}, "macro_f1": {"value": 0.25}}
    lines = evaluate.table(found).splitlines()
    assert lines[0].split() == ["class", "precision", "recall", "F1", "samples"]
    assert lines[1].split() == ["(users)", "(prod.)"]
    assert lines[2].split() == ["soy", "0.9000", "0.6923", "0.7826", "13"]
    assert lines[3].split() == ["maize", "0.5556", "0.6250", "0.5882", "8"]
    assert lines[4].split() == ["forest", "0.7778", "1.0000", "0.8750", "7"]
    assert lines[5:] == [
        "overall accuracy: 0.7500",
        "kappa: 0.6224",
        "macro F1: 0.7486",
        "random forest on the same samples: overall accuracy 0.5000, macro F1 0.2500",
    ]
