"""Attributes as they travel on."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlts_beam.io.attributes import date_text, text_of, values_of

WEST = dt.timezone(dt.timedelta(hours=-3))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((nothing, "") for nothing in (None, np.nan, pd.NaT, pd.NA, " ")),
        ("2020/09/01 ", "2020-09-01"),
        ("2020-09-01T12:00", "2020-09-01T12:00"),
        ("2020-09-01T00:00:00Z", "2020-09-01"),
        ("2020-09-01T22:30:00-03:00", "2020-09-02T01:30:00"),
        (pd.Timestamp("2020-09-01"), "2020-09-01"),
        (dt.datetime(2020, 9, 1, 21, tzinfo=WEST), "2020-09-02"),
        (dt.date(2020, 9, 1), "2020-09-01"),
        ("spring", "spring"),
    ],
)
def test_dates_become_iso_texts_in_utc(value: Any, text: str) -> None:
    assert date_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((nothing, "") for nothing in (None, np.nan, pd.NaT, pd.NA)),
        (3.0, "3"), (0.25, "0.25"), (7, "7"), (True, "True"), ('a, "b"\nç', 'a, "b"\nç'),
        (pd.Timestamp("2020-09-01T06:00"), "2020-09-01T06:00:00"),
    ],
)  # fmt: skip
def test_attributes_become_texts(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_nothing_is_none() -> None:
    assert values_of(pd.Series([1, None], dtype="Int64")) == [1, None]
    assert values_of(pd.Series(["a", None, pd.NA])) == ["a", None, None]
