from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dlts_beam.grid import Grid, Window
from dlts_beam.spec import Band, MaskRule, Reading, SeriesSpec, Source, SourceFile, TimeStep
from tests.dlts_beam.spec.examples import make_series_spec


def test_days_count_from_1970_with_fractions():
    assert TimeStep(0, "1970-01-01").day == 0.0
    assert TimeStep(0, "1970-01-02T06:00:00").day == 1.25
    assert TimeStep(0, "1969-12-31").day == -1.0
    assert TimeStep(0, "2016-03-01").day - TimeStep(0, "2016-02-28").day == 2.0
    assert TimeStep(5).day == 5.0


def test_labels_speak_to_people():
    assert TimeStep(3, "2016-02-28").label == "2016-02-28"
    assert TimeStep(3).label == "step 3"


@pytest.mark.parametrize("time", ["2016-13-01", "yesterday", "", "28.02.2016"])
def test_time_must_be_iso(time: str):
    with pytest.raises(ValueError, match="time must be an ISO date"):
        TimeStep(0, time)


def test_time_with_a_zone_is_refused():
    with pytest.raises(ValueError, match="no zone"):
        TimeStep(0, "2016-02-28T10:00:00+02:00")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 0}, "band number must be 1 or more; got 0"),
        ({"dtype": "uint17"}, "dtype of band 'red' is not known: 'uint17'"),
        ({"dtype": "complex64"}, "must be integer or floating"),
        ({"scale": 0.0}, "scale of band 'red' must not be 0"),
        ({"scale": float("nan")}, "must be finite"),
        ({"nodata": float("nan")}, "nodata of band 'red' must be finite or none"),
        ({"nodata": float("-inf")}, "nodata of band 'red' must be finite or none"),
    ],
)
def test_band_refuses(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        Band(**{"number": 1, "name": "red", "dtype": "uint16", **changes})


def test_reading_and_mask_refuse_empty_ranges():
    with pytest.raises(ValueError, match=r"valid range must not be empty; got 2\.0\.\.1\.0"):
        Reading(valid_min=2.0, valid_max=1.0)
    assert Reading(valid_min=1.0, valid_max=1.0).valid_min == 1.0
    with pytest.raises(ValueError, match="dilate must be 0 or more; got -1"):
        MaskRule(1, (3,), -1)


def test_fingerprint_of_a_file_is_its_content_hash_or_size_and_stamp():
    first, second = make_series_spec().files
    assert first.fingerprint == "1234:1700000000000000000"
    assert second.fingerprint == "ab" * 32
    assert second.window == Window(-2, 1, 9, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": ()}, "need time steps and bands; got 0 and 2"),
        ({"bands": ()}, "need time steps and bands; got 3 and 0"),
        ({"steps": (TimeStep(1), TimeStep(0), TimeStep(2))}, "numbered 0, 1, 2"),
        (
            {"steps": tuple(TimeStep(k, f"2016-0{3 - k}-01") for k in range(3))},
            "chronological order",
        ),
        ({"steps": (TimeStep(0), TimeStep(1, "2016-01-01"), TimeStep(2, "2016-01-02"))}, "all time steps"),
        ({"bands": (Band(1, "red", "uint8"), Band(2, "red", "uint8"))}, "band names must differ"),
        ({"sources": (((), ()),) * 2}, "one list per time step and band"),
        ({"sources": (((),),) * 3}, "one list per time step and band"),
        ({"sources": (((Source(2, 1),), ()),) * 3}, "a source names file 2 of 2"),
        ({"mask_sources": ()}, "given together"),
        ({"reading": Reading()}, "given together"),
        ({"mask_sources": ((),)}, "mask_sources must have one list per time step"),
    ],
)
def test_series_refuses(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(make_series_spec(), **changes)


def test_two_images_of_one_day_may_follow_each_other():
    spec = replace(make_series_spec(), steps=tuple(TimeStep(k, "2016-02-28") for k in range(3)))
    assert np.diff(spec.days).tolist() == [0.0, 0.0]


def test_days_and_dated():
    spec = make_series_spec()
    assert spec.dated
    assert spec.days.dtype == np.float64
    assert spec.days[2] - spec.days[0] == 2.0
    undated = replace(spec, steps=tuple(TimeStep(k) for k in range(3)))
    assert not undated.dated
    assert undated.days.tolist() == [0.0, 1.0, 2.0]


def test_all_sources_in_order_with_mask():
    listed = make_series_spec().all_sources()
    assert listed == [
        Source(0, 1), Source(1, 1), Source(0, 2), Source(1, 2), Source(0, 3), Source(0, 4), Source(1, 4)
    ]  # fmt: skip


def test_files_are_those_of_the_bands_and_of_the_mask():
    spec = make_series_spec()
    one_band_each = replace(
        spec,
        files=tuple(replace(spec.files[0], path=f"/data/{name}.tif") for name in "abcd"),
        sources=tuple(((Source(0, 1),), (Source(1, 1), Source(3, 1))) for _ in range(3)),
        mask_sources=((Source(2, 1),), (), ()),
    )
    first, second = (band.name for band in spec.bands)
    assert one_band_each.used_files([first]) == [0, 2]
    assert one_band_each.used_files([second]) == [1, 2, 3]
    assert one_band_each.used_files([second, first]) == [0, 1, 2, 3]
    assert spec.used_files([first]) == [0, 1]


def test_fingerprint_sees_contents_and_rules_but_not_paths():
    spec = make_series_spec()
    first, second = spec.files
    same = [
        replace(spec, files=(replace(first, path="/elsewhere/a.tif", block=(1, 5)), second)),
        SeriesSpec.from_json(spec.to_json()),
        replace(spec, grid=Grid(spec.grid.crs, (10, 0, 500000, 0, -10, 8000000), 7, 5)),
    ]
    assert {other.fingerprint() for other in same} == {spec.fingerprint()}
    other = [
        replace(spec, files=(replace(first, stamp="1"), second)),
        replace(spec, files=(replace(first, col=1), second)),
        replace(spec, files=(first, replace(second, warp=None))),
        replace(spec, files=(replace(first, alpha=0), second)),
        replace(spec, files=(replace(first, alpha=4), second)),
        replace(spec, grid=replace(spec.grid, height=8)),
        replace(spec, steps=(*spec.steps[:2], TimeStep(2, "2016-03-02"))),
        replace(spec, bands=(replace(spec.bands[0], scale=0.001), spec.bands[1])),
        replace(spec, reading=replace(spec.reading, valid_max=2.0)),
        replace(spec, sources=(*spec.sources[:2], ((), ()))),
        replace(spec, mask_sources=((), (), ())),
    ]
    assert len({one.fingerprint() for one in [spec, *other]}) == len(other) + 1


def test_source_file_defaults():
    file = SourceFile("a.tif", 0, 0, 1, 1, 1, "1")
    assert (file.warp, file.sha256, file.block, file.alpha) == (None, None, (1, 1), None)


def test_a_series_from_before_masks_of_files_were_noted_is_read_and_keeps_its_fingerprint():
    spec = make_series_spec()
    raw = json.loads(spec.to_json())
    for file in raw["files"]:
        del file["alpha"]
    assert SeriesSpec.from_json(json.dumps(raw)) == spec
    assert spec.fingerprint() == "99970ad8fa6c86316cbfffa1a79e42c43bb36424f2a5e2079c8742de57275b02"
