from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import ClassRow, ClassTable
from dlts_beam.spec.classes import PALETTE

TABLE = ClassTable(
    (
        ClassRow(0, 10, "forest", "#009e73"),
        ClassRow(1, 3, 'say "pasture", dry', "#e69f00"),
        ClassRow(2, 0, "água\nand ice", "#56b4e9"),
    )
)


def test_csv_round_trip():
    assert ClassTable.from_csv(TABLE.to_csv()) == TABLE
    assert TABLE.to_csv().splitlines()[:2] == ["id,value,name,colour", "0,10,forest,#009e73"]


def test_round_trip_with_marks_of_spreadsheets():
    text = "\ufeff" + TABLE.to_csv().replace("\n", "\r\n").replace("água\r\nand", "água\nand")
    assert ClassTable.from_csv(text) == TABLE


def test_users_table_fixes_order_and_may_be_short():
    table = ClassTable.from_csv("Value,Name\n7,soy\n2,\n")
    assert table.values == (7, 2)
    assert table.names == ("soy", "2")
    assert [row.colour for row in table.rows] == list(PALETTE[:2])
    other = ClassTable.from_csv("class,Label,Color\n1,a,#ABCDEF\n")
    assert other.rows == (ClassRow(0, 1, "a", "#abcdef"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,colour\na,#000000\n", r"mine\.csv needs a column 'value'"),
        ("", r"mine\.csv needs a column 'value'"),
        ("value\n", r"mine\.csv names no class"),
        ("value\n1\nx\n", r"mine\.csv, line 3: .*'x'"),
        ("value,name\n1,a\n,b\n", r"mine\.csv, line 3"),
        ("value\n70000\n", r"line 2: the value of class '70000' must lie in 0\.\.65534"),
        ("value\n-1\n", r"line 2: .*must lie in"),
        ("value,colour\n1,red\n", r"line 2: the colour of class '1' must look like #1f77b4; got 'red'"),
        ("value\n1\n1\n", r"mine\.csv: two classes have the same value"),
        ("value,name\n1,a\n2,a\n", r"mine\.csv: two classes have the same name"),
    ],
)
def test_csv_errors_name_file_and_line(text: str, message: str):
    with pytest.raises(DltsError, match=message):
        ClassTable.from_csv(text, "mine.csv")


def test_integer_labels_keep_their_values():
    table = ClassTable.from_labels([30, 4, 4, 100])
    assert table.values == (4, 30, 100)
    assert table.names == ("4", "30", "100")


def test_integers_of_numpy_keep_their_values_too():
    table = ClassTable.from_labels(np.array([30, 4, 100], np.int32))
    assert table == ClassTable.from_labels([4, 30, 100])
    assert all(type(value) is int for value in table.values)


def test_text_labels_sort_by_code_point():
    table = ClassTable.from_labels(["b", "á", "B", "a", "10", "9"])
    assert table.names == ("10", "9", "B", "a", "b", "á")
    assert table.values == (0, 1, 2, 3, 4, 5)
    assert table == ClassTable.from_labels(np.array(["b", "á", "B", "a", "10", "9"]))


@pytest.mark.parametrize("label", [-1, 65535])
def test_labels_out_of_range_are_a_user_error(label: int):
    with pytest.raises(DltsError, match=f"must lie in 0..65534; got {label}"):
        ClassTable.from_labels([1, label])


def test_ids_run_from_zero():
    with pytest.raises(ValueError, match="class ids must run from 0 upwards"):
        ClassTable((ClassRow(1, 1, "a", "#000000"),))


@pytest.mark.parametrize(
    ("values", "nodata", "dtype"),
    [((0, 254), 255, "uint8"), ((0, 255), 65535, "uint16"), ((65534,), 65535, "uint16"), ((), 255, "uint8")],
)
def test_nodata_is_never_a_class_value(values: tuple[int, ...], nodata: int, dtype: str):
    table = ClassTable(tuple(ClassRow(k, v, f"c{k}", "#000000") for k, v in enumerate(values)))
    assert (table.nodata, table.map_dtype) == (nodata, dtype)
    assert table.nodata not in table.values


def test_palette_is_of_distinct_valid_colours():
    assert len(set(PALETTE)) == len(PALETTE)
    assert len(ClassTable.from_labels(range(40))) == 40
