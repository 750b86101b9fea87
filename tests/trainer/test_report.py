"""What the report says stands under its own name."""

from __future__ import annotations

import re

import numpy as np

from trainer import evaluate, report

MATRIX = np.array([[9, 4, 0], [1, 5, 2], [0, 0, 7]])


def cells(page: str) -> list[list[str]]:
    """The texts of the rows of all tables; what is no text is left out."""
    rows = re.findall("<tr>(.*?)</tr>", page)
    return [
        [re.sub("<.*?>", "", cell) for cell in re.findall("<t[dh].*?>(.*?)</t[dh]>", row)] for row in rows
    ]


def test_the_classes_have_users_and_producers_accuracy_under_their_names() -> None:
    found = evaluate.metrics(MATRIX, ["soy", "maize", "forest"])
    found["kappa"] |= {"low": 0.4, "high": 0.8}
    found["classes"]["maize"]["recall"] |= {"low": 0.25, "high": 0.875}
    page = report.accuracy_section(found, ["#111111", "#222222", "#333333"], "test", b"")
    assert cells(page) == [
        ["class", "precision (user's)", "recall (producer's)", "F1", "samples", ""],
        ["soy", "0.9000", "0.6923", "0.7826", "13", ""],
        ["maize", "0.5556", "0.6250 (0.2500 to 0.8750)", "0.5882", "8", ""],
        ["forest", "0.7778", "1.0000", "0.8750", "7", ""],
    ]
    bars = re.findall(r'class="bar" style="width:(.*?)em;background:(.*?)"', page)
    assert bars == [("4.7", "#111111"), ("3.53", "#222222"), ("5.25", "#333333")]  # 6 em are an F1 of 1
    assert '<span class="big">0.7500</span> overall accuracy' in page
    assert "kappa 0.6224 (0.4000 to 0.8000), macro F1 0.7486<" in page


def test_the_forest_stands_beside_the_model_on_the_split_and_in_folds() -> None:
    def summary(number: int) -> dict:
        measures = ("overall_accuracy", "kappa", "macro_f1")
        return {name: {"value": number + k / 10} for k, name in enumerate(measures)}

    folds = [{"fold": "fold 1", "samples": 9, "overall_accuracy": 0.5, "random_forest": 0.25}]
    cross = summary(3) | {"how": "2 folds by farm", "folds": folds, "random_forest": summary(4)}
    found = summary(1) | {"random_forest": summary(2), "cross_validation": cross}
    assert cells(report.comparison_section(found)) == [
        ["", "overall accuracy", "kappa", "macro F1"],
        ["this model", "1.0000", "1.1000", "1.2000"],
        ["random forest, same samples", "2.0000", "2.1000", "2.2000"],
        ["this model, 2 folds by farm", "3.0000", "3.1000", "3.2000"],
        ["random forest, 2 folds by farm", "4.0000", "4.1000", "4.2000"],
        ["fold", "samples", "overall_accuracy", "random_forest"],
        ["fold 1", "9", "0.5", "0.25"],
    ]


def test_the_two_ends_of_an_interval_stand_in_one_line() -> None:
    found = evaluate.metrics(MATRIX, ["soy", "maize", "forest"])
    pages = (
        report.accuracy_section(found, ["#111111", "#222222", "#333333"], "test", b""),
        report.comparison_section(found | {"random_forest": found}),
    )
    for page in pages:
        assert '<table class="figures">' in page
        assert "<table>" not in page
    assert ".figures td + td { white-space: nowrap }" in report.page("title", pages)


def test_a_note_is_a_whole_sentence() -> None:
    assert report.note("no sample was wrong") == '<p class="note">no sample was wrong.</p>'
    assert report.note("The figures flatter.") == '<p class="note">The figures flatter.</p>'
