"""What makes one time step of several files, and what makes several of one day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.acquisitions.build import coverage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from tests.images import files_of, plan, times, write_image

ONES = np.ones((4, 6), np.uint8)


def test_times_of_day_keep_images_of_one_day_apart(tmp_path: Path):
    write_image(tmp_path / "s_20180812T131500.tif", ONES)
    write_image(tmp_path / "s_20180812T101500.tif", ONES)
    write_image(tmp_path / "s_20180811T235900.tif", ONES)
    assert times(plan(tmp_path)) == ["2018-08-11T23:59:00", "2018-08-12T10:15:00", "2018-08-12T13:15:00"]


def test_metadata_tell_the_times_of_day_that_names_do_not(tmp_path: Path):
    write_image(tmp_path / "20180812_a.tif", ONES, tags={"SENSING_TIME": "2018-08-12T13:15:00Z"})
    write_image(tmp_path / "20180812_b.tif", ONES, tags={"SENSING_TIME": "2018-08-12T10:15:00Z"})
    spec = plan(tmp_path)
    assert times(spec) == ["2018-08-12T10:15:00", "2018-08-12T13:15:00"]
    assert files_of(spec, 0) == ["20180812_b.tif"]
    for name, hour in (("a", 13), ("b", 10)):
        written = {"TIFFTAG_DATETIME": f"2018:08:12 {hour}:15:00"}
        write_image(tmp_path / f"20180812_{name}.tif", ONES, tags=written)
    with pytest.raises(DltsError, match="bear the date 2018-08-12"):  # this is when a file was written
        plan(tmp_path)


def test_one_day_without_times_is_refused_and_either_choice_is_taken(tmp_path: Path):
    for name in ("20180812_b10.tif", "20180812_b2.tif", "20180828_b2.tif"):
        write_image(tmp_path / name, [ONES, ONES])
    with pytest.raises(DltsError, match="20180812_b2 and 20180812_b10 on 2018-08-12; give --same-day merge"):
        plan(tmp_path)
    merged = plan(tmp_path, same_day="merge")
    assert times(merged) == ["2018-08-12", "2018-08-28"]
    assert files_of(merged, 0) == ["20180812_b2.tif", "20180812_b10.tif"]
    apart = plan(tmp_path, same_day="separate")
    assert times(apart) == ["2018-08-12", "2018-08-12", "2018-08-28"]
    assert [files_of(apart, step) for step in range(2)] == [["20180812_b2.tif"], ["20180812_b10.tif"]]


def test_pieces_that_do_not_overlap_are_one_time_step(tmp_path: Path):
    for day in ("20180812", "20180828"):
        write_image(tmp_path / f"{day}-0-0.tif", ONES)
        write_image(tmp_path / f"{day}-0-6.tif", ONES, col=6)
    write_image(tmp_path / "20180828-4-6.tif", ONES[:2], row=4, col=6)
    spec = plan(tmp_path)
    assert times(spec) == ["2018-08-12", "2018-08-28"]
    assert files_of(spec, 1) == ["20180828-0-0.tif", "20180828-0-6.tif", "20180828-4-6.tif"]
    assert (spec.grid.height, spec.grid.width) == (6, 12)
    assert coverage(spec) == [48 / 72, 60 / 72]


def test_overlapping_pieces_of_one_time_are_one_time_step_but_copies_are_refused(tmp_path: Path):
    for day in ("20180812", "20180828"):
        write_image(tmp_path / f"{day}T101500_t1.tif", ONES)
        write_image(tmp_path / f"{day}T101500_t2.tif", ONES, col=4)
    spec = plan(tmp_path)
    assert files_of(spec, 0) == ["20180812T101500_t1.tif", "20180812T101500_t2.tif"]
    write_image(tmp_path / "20180812T101500_t3.tif", ONES)
    with pytest.raises(DltsError, match="same time and place: 20180812T101500_t1 and 20180812T101500_t3"):
        plan(tmp_path)


def test_copies_of_one_time_are_found_beside_other_times_of_the_day(tmp_path: Path):
    names = ["a_20180812T101500", "b_20180812T101500", "c_20180812T140000", "d_20180901T101500"]
    for number, name in enumerate(names):
        write_image(tmp_path / f"{name}.tif", [ONES * number, ONES])
    with pytest.raises(DltsError, match=f"same time and place: {names[0]} and {names[1]} at 2018-08-12T"):
        plan(tmp_path)
    apart = plan(tmp_path, same_day="separate")
    assert [files_of(apart, step) for step in range(4)] == [[f"{name}.tif"] for name in names]
    assert times(apart) == ["2018-08-12T10:15:00"] * 2 + ["2018-08-12T14:00:00", "2018-09-01T10:15:00"]
    merged = plan(tmp_path, same_day="merge")
    assert files_of(merged, 0) == [f"{name}.tif" for name in names[:3]]
    assert times(merged) == ["2018-08-12", "2018-09-01T10:15:00"]


def test_overlapping_pieces_of_each_time_of_a_day_are_one_time_step(tmp_path: Path):
    for time in ("T101500", "T140000"):
        write_image(tmp_path / f"20180812{time}_t1.tif", [ONES, ONES])
        write_image(tmp_path / f"20180812{time}_t2.tif", [ONES, ONES], col=4)
    spec = plan(tmp_path)
    assert files_of(spec, 1) == ["20180812T140000_t1.tif", "20180812T140000_t2.tif"]
    assert len(plan(tmp_path, same_day="separate").steps) == 4


def test_a_date_that_all_images_share_is_not_their_acquisition(tmp_path: Path):
    for number in (1, 2, 10):
        write_image(tmp_path / f"S2_20180812_step{number}.tif", ONES)
    with pytest.raises(
        DltsError, match=r"all 3 images bear the date 2018-08-12 and overlap .* give --undated"
    ):
        plan(tmp_path)
    spec = plan(tmp_path, undated=True)
    assert [files_of(spec, step)[0] for step in range(3)] == [
        f"S2_20180812_step{number}.tif" for number in (1, 2, 10)
    ]
    assert times(spec) == [None, None, None]


def test_one_time_of_day_that_all_images_share_does_not_merge_them(tmp_path: Path):
    for number in (1, 2):
        write_image(tmp_path / f"S2_20180812T101500_p{number}.tif", ONES, col=number)
    with pytest.raises(DltsError, match="all 2 images bear the date"):
        plan(tmp_path)


def test_separate_keeps_pieces_of_one_pass_together(tmp_path: Path):
    write_image(tmp_path / "20180812_a1.tif", [ONES, ONES])
    write_image(tmp_path / "20180812_a2.tif", [ONES, ONES], col=6)
    write_image(tmp_path / "20180812_b1.tif", [ONES, ONES])
    spec = plan(tmp_path, same_day="separate")
    assert [files_of(spec, step) for step in range(2)] == [
        ["20180812_a1.tif", "20180812_a2.tif"],
        ["20180812_b1.tif"],
    ]


@pytest.mark.parametrize(
    ("extent", "window"),
    [("union", Window(0, 0, 6, 9)), ("intersection", Window(2, 3, 2, 3)), ("first", Window(0, 0, 4, 6))],
)
def test_extents(tmp_path: Path, extent: str, window: Window):
    write_image(tmp_path / "20180812.tif", ONES)
    write_image(tmp_path / "20180828.tif", ONES, row=2, col=3)
    spec = plan(tmp_path, extent=extent)
    assert (spec.grid.height, spec.grid.width) == (window.height, window.width)
    assert spec.grid.xy(0, 0) == (500000 + 10 * window.col, 9000000 - 10 * window.row)
    assert spec.files[1].window == Window(2 - window.row, 3 - window.col, 4, 6)


def test_no_common_area_is_refused(tmp_path: Path):
    write_image(tmp_path / "20180812.tif", ONES)
    write_image(tmp_path / "20180828.tif", ONES, col=60)
    with pytest.raises(DltsError, match="share no common area"):
        plan(tmp_path, extent="intersection")
