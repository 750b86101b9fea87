"""Summaries of samples against plain numpy, with values that nobody observed among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.centres import Centres
from dlts_beam.spec import ClassTable, SamplesSpec, sample_id
from dlts_beam.spec.samples import Ledger
from dlts_beam.statistics import LEVELS, Summary, Table
from tests.helpers import make_series, random_cube

CLASSES, STEPS, BANDS = 3, 4, 2


def centres_of(values: np.ndarray, valid: np.ndarray, class_id: np.ndarray) -> Centres:
    numbers = np.arange(len(values))
    ids = np.array([b"%016x" % number for number in numbers])
    days = np.tile(np.arange(STEPS, dtype=np.float64), (len(values), 1))
    return Centres(ids, class_id, numbers, numbers, numbers, values, valid, days)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_that_one_class_never_saw_is_not_a_number(parts: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.random((300, STEPS, BANDS), dtype=np.float32)
    class_id = np.arange(300) % CLASSES
    valid = rng.random(values.shape) < 0.8
    valid[class_id == 1, 2] = False  # every sample of a class under cloud at one time step
    whole = Summary([100] * CLASSES, STEPS, BANDS)
    for chosen in np.array_split(np.arange(300), parts):
        one = Summary([100] * CLASSES, STEPS, BANDS)
        one.add(centres_of(values, valid, class_id).take(chosen), 300)
        whole.merge(one)
    found = whole.quantiles()
    assert np.isnan(found[1, 2]).all()
    for each in range(CLASSES):
        for step in range(STEPS):
            for band in range(BANDS):
                seen = values[class_id == each, step, band][valid[class_id == each, step, band]]
                if len(seen):
                    np.testing.assert_allclose(found[each, step, band], np.quantile(seen, LEVELS), atol=0.06)


def some_centres(count: int = 200, seed: int = 1) -> Centres:
    rng = np.random.default_rng(seed)
    values = rng.normal(1000, 50, (count, STEPS, BANDS)).astype(np.float32)
    centres = centres_of(values, rng.random(values.shape) < 0.7, rng.integers(0, CLASSES, count))
    return replace(centres, ids=np.array([f"{number:016x}".encode() for number in rng.permutation(count)]))


def summary_of(centres: Centres, parts: int = 1, draw: int = 200) -> Summary:
    counts = np.bincount(centres.class_id, minlength=CLASSES).tolist()
    whole = Summary(counts, STEPS, BANDS)
    for chosen in np.array_split(np.arange(len(centres)), parts):
        one = Summary(counts, STEPS, BANDS)
        one.add(centres.take(chosen), draw)
        whole.merge(one)
    return whole


@pytest.mark.parametrize("parts", [1, 7])
def test_moments_are_those_of_plain_numpy(parts: int) -> None:
    centres = some_centres()
    moments = summary_of(centres, parts).moments
    values = np.where(centres.valid, centres.values.astype(np.float64), np.nan)
    for class_id in range(CLASSES):
        own = values[centres.class_id == class_id]
        np.testing.assert_array_equal(moments.count[class_id], np.isfinite(own).sum(axis=0))
        np.testing.assert_allclose(moments.mean[class_id], np.nanmean(own, axis=0))
        np.testing.assert_allclose(moments.sd[class_id], np.nanstd(own, axis=0, ddof=1))
        np.testing.assert_array_equal(moments.low[class_id], np.nanmin(own, axis=0))
        np.testing.assert_array_equal(moments.high[class_id], np.nanmax(own, axis=0))
    bands = moments.over(0, 1)
    np.testing.assert_allclose(bands.mean, np.nanmean(values, axis=(0, 1)))
    np.testing.assert_allclose(bands.sd, np.nanstd(values.reshape(-1, BANDS), axis=0, ddof=1))


def test_quantiles_without_tfx_bsl_are_nearly_those_of_the_sketches() -> None:
    centres = some_centres(1500)
    with_sketches, without = summary_of(centres), summary_of(centres, draw=1500)
    without.sketches = None
    apart = np.abs(with_sketches.quantiles() - without.quantiles())
    assert apart.max() < 0.25 * 50  # neighbouring values of some 350 at most


def test_references_are_the_lowest_ids_on_any_layout() -> None:
    centres = some_centres()
    wanted = np.sort(centres.ids)[:50].tolist()
    assert [summary_of(centres, parts).references(50).ids.tolist() for parts in (1, 4)] == [wanted] * 2


def test_a_draw_is_about_as_large_as_wanted() -> None:
    ids = np.array([sample_id(x, 0.0).encode() for x in range(4000)])
    nothing = np.zeros(4000, np.int64)
    cube = np.zeros((4000, 1, 1))
    centres = Centres(ids, *[nothing] * 4, cube.astype(np.float32), cube.astype(bool), cube[:, 0])
    assert 900 < centres.drawn(1000, 4000).sum() < 1100
    assert centres.drawn(4000, 4000).all()


def test_the_table_survives_its_file(tmp_path: Path) -> None:
    cube = random_cube(STEPS, 6, 6, BANDS)
    series = make_series(tmp_path, cube)
    classes = ClassTable.from_labels(["a", "b", "c"])
    centres = some_centres()
    counts = tuple(np.bincount(centres.class_id).tolist())
    ledger = Ledger(200, 200)
    spec = SamplesSpec(
        "x",
        series.grid,
        series.steps,
        series.bands,
        "uint16",
        1,
        classes,
        counts,
        1,
        200,
        9.0,
        ledger,
        ledger,
    )
    table = summary_of(centres).to_table(spec)
    assert Table.from_json(table.to_json()) == table
    assert table.classes[1].bands[0].count == centres.valid[centres.class_id == 1, :, 0].sum(axis=0).tolist()
