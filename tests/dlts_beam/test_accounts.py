"""Ledgers balance or say so."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from dlts_beam.accounts import FEATURE, NO_GEOMETRY, OUTSIDE, PIXEL, Accounts, Rejected, ledger_text
from dlts_beam.errors import DltsError


def rejected(reason: str, *features: int) -> Rejected:
    number = np.array(features, np.int64)
    return Rejected.features(reason, number, number + 0.5, np.full(len(features), np.nan))


def test_a_ledger_counts_by_reason():
    accounts = Accounts()
    accounts.reject(rejected(OUTSIDE, 4, 2))
    accounts.reject(rejected(NO_GEOMETRY, 3))
    accounts.reject(rejected(NO_GEOMETRY))
    ledger = accounts.ledger(FEATURE, 10, 7)
    assert ledger.rejected == {NO_GEOMETRY: 1, OUTSIDE: 2}
    assert accounts.ledger(PIXEL, 5, 5).rejected == {}
    assert ledger_text("features", ledger).splitlines() == [
        "features: 10 in, 7 used", "  1 rejected: null or invalid geometry", "  2 rejected: outside the grid",
    ]  # fmt: skip


@pytest.mark.parametrize(("total", "used"), [(10, 8), (9, 7), (2, 0)])
def test_a_ledger_that_does_not_balance_is_an_error(total: int, used: int):
    accounts = Accounts()
    accounts.reject(rejected(OUTSIDE, 4, 2))
    accounts.reject(rejected(NO_GEOMETRY, 3))
    with pytest.raises(DltsError, match="ledger of features does not balance"):
        accounts.ledger(FEATURE, total, used)


def test_the_table_names_feature_place_label_and_reason():
    accounts = Accounts()
    accounts.reject(rejected(OUTSIDE, 2, 0))
    one = np.array([1], np.int64)
    accounts.reject(Rejected(PIXEL, "duplicate", one, one * 2.0, one * 3.0, one * 4, one * 5))
    rows = list(csv.reader(accounts.to_csv(["soy", "a, b", None]).splitlines()))
    assert rows == [
        ["ledger", "feature", "x", "y", "row", "col", "label", "reason"],
        ["feature", "0", "0.5", "", "", "", "soy", "outside the grid"],
        ["feature", "2", "2.5", "", "", "", "", "outside the grid"],
        ["pixel", "1", "2.0", "3.0", "4", "5", "a, b", "duplicate"],
    ]
