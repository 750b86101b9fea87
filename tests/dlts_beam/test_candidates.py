"""Features to candidates: every loss is entered once, and the ledgers balance."""

from __future__ import annotations

import numpy as np
import pytest

from dlts_beam.accounts import FEATURE, NO_GEOMETRY, OUTSIDE, PIXEL, Rejected
from dlts_beam.candidates import Chosen, Places, choose_candidates
from dlts_beam.errors import DltsError
from dlts_beam.spec import ClassTable
from tests.dlts_beam.test_intervals import every, series_of

SERIES = series_of(every("2020-01-01", 10, 6))


def places(
    labels: list, pixels: list[tuple[int, int, int]], refused: tuple = (), intervals: tuple = ()
) -> Places:
    feature, row, col = np.array(pixels, np.int64).reshape(-1, 3).T
    zero = np.zeros(len(labels))
    return Places(labels, (), intervals, zero, zero, feature, row, col, refused, "WGS 84")


def whole(reason: str, *features: int) -> Rejected:
    number = np.array(features, np.int64)
    return Rejected.features(reason, number, number * 1.0, number * 1.0)


def balance(chosen: Chosen, features: int) -> tuple[dict[str, int], dict[str, int]]:
    """Reasons of both ledgers, which must balance."""
    first = chosen.accounts.ledger(FEATURE, features, chosen.features_used)
    second = chosen.accounts.ledger(PIXEL, chosen.pixels, len(chosen.candidates))
    return first.rejected, second.rejected


def test_every_reason_is_told_once():
    none = np.full(2, -1, np.int64)
    stray = Rejected(PIXEL, OUTSIDE, np.array([0, 3]), np.zeros(2), np.zeros(2), none, none)
    given = places(
        ["a", "b", None, "c", "b", "b", "a"],
        [(0, 0, 0), (0, 0, 1), (1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 1, 1), (5, 0, 1)],
        (whole(OUTSIDE, 6), stray),
    )
    chosen = choose_candidates(given, SERIES, "class", ClassTable.from_labels(["b", "a"]))
    features, pixels = balance(chosen, 7)
    assert features == {"no label": 1, OUTSIDE: 1, "unknown label": 1}
    # The multipoint with the unknown label is refused as a whole, its stray place is not told of again.
    assert pixels == {"conflicting labels": 2, "duplicate": 1, OUTSIDE: 1}
    assert chosen.candidates.feature.tolist() == [0, 1]
    assert chosen.candidates.class_id.tolist() == [0, 1]


def test_classes_are_those_of_the_features_inside():
    given = places([5, 9, 7], [(0, 0, 0), (2, 1, 1)], (whole(OUTSIDE, 1),))
    assert choose_candidates(given, SERIES, "class", None, 2).classes.values == (5, 7)
    with pytest.raises(DltsError, match="-n/--num-classes is 3"):
        choose_candidates(given, SERIES, "class", None, 3)


def test_intervals_make_samples_of_their_own():
    first, second = ("2020-01-01", "2020-01-25"), ("2020-01-26", "2020-03-01")
    given = places(
        [1, 2, 1, 1, 2],
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 2, 2)],
        intervals=(first, second, first, None, ("1999-01-01", "1999-02-01")),
    )
    chosen = choose_candidates(given, SERIES, "class")
    features, pixels = balance(chosen, 5)
    assert features == {"no time step in its interval": 2}
    assert pixels == {"duplicate": 1}
    assert [cut.steps for cut in chosen.cuts] == [(0, 1, 2), (3, 4, 5)]
    assert chosen.candidates.cut.tolist() == [0, 1]
    assert [step.time for step in chosen.steps] == every("2020-01-01", 10, 3)


def test_nothing_left_is_told():
    with pytest.raises(DltsError, match=r"all 2 features lie outside the series.*WGS 84.*--samples-crs"):
        choose_candidates(places([1, 2], [], (whole(OUTSIDE, 0, 1),)), SERIES, "class")
    with pytest.raises(DltsError, match="none of the 1 features can be used: null or invalid geometry"):
        choose_candidates(places([1], [], (whole(NO_GEOMETRY, 0),)), SERIES, "class")
    with pytest.raises(DltsError, match="column 'kind' holds no label"):
        choose_candidates(places([None], [(0, 0, 0)]), SERIES, "kind")
    with pytest.raises(DltsError, match="unknown label"):
        choose_candidates(places([3], [(0, 0, 0)]), SERIES, "kind", ClassTable.from_labels([1, 2]))
    with pytest.raises(DltsError, match="all 2 pixels have conflicting labels"):
        choose_candidates(places([1, 2], [(0, 0, 0), (1, 0, 0)]), SERIES, "class")
    with pytest.raises(DltsError, match="--steps goes with --start-column"):
        choose_candidates(places([1, 2], [(0, 0, 0), (1, 0, 1)]), SERIES, "class", slots=3)
