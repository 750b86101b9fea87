"""Flags that contradict each other, or are no value that they take."""

from __future__ import annotations

import pytest

from dlts_beam.errors import DltsError
from trainer.cli import parse_args


@pytest.mark.parametrize("flags", [(), ("-n",)])
@pytest.mark.parametrize("days", ["inf", "nan", "-1", "-inf"])
def test_a_date_tolerance_that_is_no_number_of_days_is_refused(days: str, flags: tuple[str, ...]) -> None:
    with pytest.raises(DltsError, match=f"--date-tolerance must be a number of 0 or more; got {days}"):
        parse_args(["-i", "samples", "-o", "model", f"--date-tolerance={days}", *flags])


def test_a_date_tolerance_may_be_none_at_all() -> None:
    assert parse_args(["-i", "samples", "-o", "model", "--date-tolerance", "0"]).date_tolerance == 0


@pytest.mark.parametrize("quality", ["2", "nan", "-1", "inf"])
def test_a_least_quality_that_no_sample_or_every_sample_has_is_refused(quality: str) -> None:
    with pytest.raises(DltsError, match=f"--min-quality must lie between 0 and 1, .*; got {quality}"):
        parse_args(["-i", "samples", "-o", "model", f"--min-quality={quality}"])


@pytest.mark.parametrize("folds", ["0", "1", "-1"])
def test_fewer_than_two_folds_are_refused(folds: str) -> None:
    with pytest.raises(DltsError, match=f"--folds must be 2 or more; got {folds}"):
        parse_args(["-i", "samples", "-o", "model", f"--folds={folds}"])


@pytest.mark.parametrize("flags", [("--folds", "3"), ("--leave-out", "year")])
def test_an_evaluation_cannot_cross_validate(flags: tuple[str, str]) -> None:
    assert parse_args(["-i", "samples", "-o", "model", *flags])
    with pytest.raises(DltsError, match="-n trains nothing, and --folds and --leave-out"):
        parse_args(["-i", "samples", "-o", "model", "-n", *flags])


def test_a_column_to_leave_out_has_a_name() -> None:
    with pytest.raises(DltsError, match="--leave-out must name a kept attribute"):
        parse_args(["-i", "samples", "-o", "model", "--leave-out", ""])
