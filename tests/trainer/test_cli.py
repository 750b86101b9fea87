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
