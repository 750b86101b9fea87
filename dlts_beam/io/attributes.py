"""Attributes of a vector file as they travel on: values, dates and texts, with one kind of nothing."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pandas as pd


def values_of(column: pd.Series) -> list[Any]:
    """The values of a column, None for each kind of nothing."""
    return [None if gone else value for value, gone in zip(column.tolist(), column.isna(), strict=True)]


def date_text(value: Any) -> str:
    """ISO text of a date or time, without the time of day where it is midnight; empty for nothing.

    Times with a zone are told in UTC, as those of the images are; a text that is no date stays what it is.
    """
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        value = value.strip().replace("/", "-")
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            return value
        if moment.tzinfo is None:
            return value
        value = moment
    if isinstance(value, dt.datetime):
        plain = value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
        return (plain.date() if plain.time() == dt.time.min else plain).isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    return str(value)


def text_of(value: Any) -> str:
    """An attribute as text: nothing is empty, whole floats are integers (columns with gaps arrive so)."""
    if value is None or value is pd.NaT or value is pd.NA:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dt.datetime):
        return date_text(value)
    return str(value)
