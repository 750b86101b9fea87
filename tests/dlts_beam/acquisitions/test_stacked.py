"""Files that are bands already, with one layer for each time step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec.series import SeriesSpec
from tests.images import plan, times, write_image

DATES = ["2018-01-01", "2018-02-01", "2018-03-01"]
ONES = np.ones((3, 3, 4), np.uint8)


def indexes(spec: SeriesSpec, band: int) -> list[int]:
    """The layer of each time step."""
    return [layers[band][0].index for layers in spec.sources]


def test_each_file_tells_the_order_of_its_own_layers(tmp_path: Path):
    orders = {"nir": [3, 2, 1], "red": [1, 2, 3], "scl": [2, 3, 1]}
    for name, order in orders.items():
        write_image(tmp_path / f"{name}.tif", ONES, descriptions=[DATES[date - 1] for date in order])
    spec = plan(tmp_path, stacked=True, mask_band="scl")
    assert times(spec) == DATES
    assert [band.name for band in spec.bands] == ["nir", "red"]
    assert (indexes(spec, 0), indexes(spec, 1)) == ([3, 2, 1], [1, 2, 3])
    assert [source.index for (source,) in spec.mask_sources] == [3, 1, 2]


def test_a_table_or_undated_counts_layers_by_number(tmp_path: Path):
    write_image(tmp_path / "nir.tif", ONES, descriptions=DATES[::-1])
    write_image(tmp_path / "red.tif", ONES)
    with pytest.raises(DltsError, match=r"the 3 layers of .*red\.tif bear no dates"):
        plan(tmp_path, stacked=True)
    table = tuple(("", date) for date in DATES[::-1])
    dated = plan(tmp_path, stacked=True, dates=table)
    assert (times(dated), indexes(dated, 0), indexes(dated, 1)) == (DATES, [3, 2, 1], [3, 2, 1])
    undated = plan(tmp_path, stacked=True, undated=True)
    assert (times(undated), indexes(undated, 0)) == ([None] * 3, [1, 2, 3])


def test_a_file_that_is_not_used_needs_no_dates(tmp_path: Path):
    write_image(tmp_path / "doy.tif", ONES)
    write_image(tmp_path / "red.tif", ONES, descriptions=DATES)
    assert times(plan(tmp_path, stacked=True, bands=(2,))) == DATES


@pytest.mark.parametrize(
    ("other", "lacks", "date"),
    [
        (["2018-01-01", "2018-02-01", "2018-04-01"], "red", "2018-03-01"),
        (["2018-02-01", "2018-01-15", "2018-03-01"], "red", "2018-01-01"),
        (["2017-12-01", "2018-01-01", "2018-02-01"], "nir", "2017-12-01"),
    ],
)
def test_files_with_other_dates_are_refused(tmp_path: Path, other: list[str], lacks: str, date: str):
    write_image(tmp_path / "nir.tif", ONES, descriptions=DATES)
    write_image(tmp_path / "red.tif", ONES, descriptions=other)
    with pytest.raises(DltsError, match=f"{lacks}.tif lacks the date {date} that a layer of .*tif bears"):
        plan(tmp_path, stacked=True)


def test_a_date_twice_is_refused_or_two_steps(tmp_path: Path):
    twice = ["2018-02-01", "2018-01-01", "2018-01-01"]
    for name in ("nir", "red"):
        write_image(tmp_path / f"{name}.tif", ONES, descriptions=twice)
    with pytest.raises(DltsError, match="has 2018-01-01 twice"):
        plan(tmp_path, stacked=True)
    spec = plan(tmp_path, stacked=True, same_day="separate")
    assert (times(spec), indexes(spec, 1)) == (sorted(twice), [2, 3, 1])
