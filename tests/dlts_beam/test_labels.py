"""Labels: integers or texts, checked, and turned into class ids."""

from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.labels import check_count, class_ids, class_table, clean_labels
from dlts_beam.spec import ClassTable


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ([1, 2, None], [1, 2, None]),
        ([1.0, float("nan"), 3.0], [1, None, 3]),
        ([np.int32(4), np.float64(5), True], [4, 5, 1]),
        ([" soy ", "", None, "maize"], ["soy", None, None, "maize"]),
        (["soy", 3, None], ["soy", "3", None]),
    ],
)
def test_raw_values_become_integers_or_texts(raw: list, clean: list):
    assert clean_labels(raw, "class") == clean


@pytest.mark.parametrize("value", [1.5, float("inf"), b"x", (1,)])
def test_other_values_are_refused(value: object):
    with pytest.raises(DltsError, match=r"label .* in column 'kind' is neither"):
        clean_labels([1, value], "kind")


def test_integers_are_ordered_by_value_and_texts_by_code_point():
    assert class_table([10, 9, 2, 10], "c").values == (2, 9, 10)
    table = class_table(["b", "a", "B", "ä", "10", "9"], "c")
    assert table.names == ("10", "9", "B", "a", "b", "ä")
    assert table.values == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("labels", [[0, -1], [65535], [3, 70000, -2]])
def test_integers_out_of_range_are_listed(labels: list[int]):
    with pytest.raises(DltsError, match=r"'c' must be texts or integers in 0\.\.65534; got"):
        class_table(labels, "c")


def test_no_label_at_all_is_an_error():
    with pytest.raises(DltsError, match="'c' holds no label"):
        class_table([], "c")


def test_ids_follow_the_table():
    table = ClassTable.from_csv("value,name\n7,Forest\n3,Pasture\n40,12\n")
    assert class_ids([3, 7, None, 8, 40], table).tolist() == [1, 0, -1, -2, 2]
    # A text is a name first, then a value; an integer the other way round.
    assert class_ids(["Forest", "7", "forest", None], table).tolist() == [0, 0, -2, -1]
    assert class_ids([12], table).tolist() == [2]


def test_the_number_of_classes_is_checked():
    table = class_table([0, 1, 4], "kind")
    check_count(table, 3, "kind")
    check_count(table, None, "kind")
    with pytest.raises(DltsError, match=r"-n/--num-classes is 5, but column 'kind' has 3 classes: 0, 1, 4"):
        check_count(table, 5, "kind")


def test_many_classes_are_not_all_listed():
    with pytest.raises(DltsError, match=r"0, 1, 2, .*19 and 80 more"):
        check_count(class_table(range(100), "c"), 2, "c")
