"""The page of samples: whole without anything beside it, and only what the samples say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.quality import Row
from dlts_beam.samples_charts import number, positions, runs, ticks
from dlts_beam.samples_page import MAPPED, WORST, Overview, samples_page
from dlts_beam.spec import ClassTable, SamplesSpec
from dlts_beam.spec.samples import Ledger
from dlts_beam.statistics import BandFigures, ClassFigures, Table
from tests.helpers import make_series, random_cube

NAMES = ("<b>soy</b> & maize", "water")


def make_spec(folder: Path, samples: int = 30) -> SamplesSpec:
    series = make_series(folder, random_cube(3, 20, 20, 1))
    counts = (samples - 10, 10)
    return SamplesSpec(
        "x", series.grid, series.steps, series.bands, "uint16", 3, ClassTable.from_labels(NAMES), counts, 1,
        samples, 150.0, Ledger(samples, samples), Ledger(samples + 4, samples, {"duplicate": 4}),
    )  # fmt: skip


def make_table(spec: SamplesSpec) -> Table:
    """The second step of the second class was never seen."""
    levels = [[1.0, 2.0, 3.0]] * 5
    gap = [[1.0, None, 3.0]] * 5
    full = BandFigures("b1", [9, 9, 9], [1.0, 2.0, 3.0], [0.1] * 3, [1.0] * 3, [3.0] * 3, levels)
    holed = BandFigures("b1", [9, 0, 9], gap[0], gap[0], gap[0], gap[0], gap)
    classes = [ClassFigures(NAMES[0], 0, 20, [full]), ClassFigures(NAMES[1], 1, 10, [holed])]
    return Table([step.label for step in spec.steps], [0.05, 0.25, 0.5, 0.75, 0.95], "any", classes)


def make_rows(count: int = 30) -> list[Row]:
    rng = np.random.default_rng(0)
    rows = []
    for place in range(count):
        label = NAMES[place >= count - 10]
        wrong = place % 3 == 0
        quality = round(float(rng.random()) / 2, 4) if wrong else 1.0
        x, y = 500_000 + 20.0 * (place % 30), 8_000_000 - 30.0 * (place % 7)
        rows.append(Row(f"{place:016x}", quality, x, y, label, NAMES[0] if wrong else label))
    return rows


def test_the_page_is_well_formed_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    page = samples_page(spec, make_table(spec), Overview(make_rows(), NAMES))
    assert not re.search(r"https?:|<script|<link|src=|url\(", page)
    assert "<b>soy" not in page
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(picture)
    assert "duplicate" in page
    assert page == samples_page(spec, make_table(spec), Overview(iter(make_rows()), NAMES))


def test_every_sample_is_on_the_map_and_the_worst_are_listed(tmp_path: Path) -> None:
    spec, rows = make_spec(tmp_path), make_rows()
    page = samples_page(spec, make_table(spec), Overview(rows, NAMES))
    chart = page.split("<h2>Map</h2>")[1].split("<h2>")[0]
    assert chart.count("<circle") - chart.count('class="ring"') == len(rows)
    worst = min(rows, key=lambda row: (row.quality, row.id))
    listed = re.findall(r"<code>(\w+)</code>", page)
    assert listed[0] == worst.id
    assert len(listed) == sum(row.quality < 1 for row in rows)
    assert f"{worst.x:.10g}" in page


def test_classes_at_one_pixel_are_dots_within_a_dot(tmp_path: Path) -> None:
    spec = replace(make_spec(tmp_path), interval=True)
    rows = [*make_rows(), make_rows()[0]._replace(id="f" * 16), make_rows()[0]._replace(label=NAMES[1])]
    page = samples_page(spec, make_table(spec), Overview(rows, NAMES))
    chart = page.split("<h2>Map</h2>")[1].split("<h2>")[0]
    assert chart.count('<g class="inner"') == 1
    assert chart.count("<circle") - chart.count('class="ring"') == 31  # the same class there is drawn once
    assert "A dot within a dot" in chart


def test_an_overview_counts_every_row_and_keeps_few() -> None:
    rows = make_rows(3 * MAPPED)
    found = Overview(iter(rows), NAMES)
    assert found.rows == found.bins.sum() == found.taken.sum() == len(rows)
    assert found.low.sum() == sum(row.quality < 0.5 for row in rows)
    assert [row.id for row in found.mapped] == [f"{place:016x}" for place in range(MAPPED)]
    assert found.worst == sorted(rows, key=lambda row: (row.quality, row.id))[:WORST]


def test_all_good_samples_leave_the_list_out(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    rows = [row._replace(quality=1.0, neighbours=row.label) for row in make_rows()]
    assert "No sample is contradicted" in samples_page(spec, make_table(spec), Overview(rows, NAMES))


@pytest.mark.parametrize(
    ("low", "high", "want"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.13, 0.46, [0.2, 0.3, 0.4]), (-5, 5, [-4, -2, 0, 2, 4]), (3, 3, [3])],
)
def test_ticks_are_round_and_inside(low: float, high: float, want: list[float]) -> None:
    np.testing.assert_allclose(ticks(low, high), want)


def test_lines_break_where_nothing_was_seen() -> None:
    assert runs([1.0, None, 2.0, 3.0, None]) == [[0], [2, 3]]
    assert runs([None, None]) == []


def test_steps_stand_at_their_days() -> None:
    assert np.diff(positions(["2020-01-01", "2020-01-17", "2020-02-02T12:00:00"])).tolist() == [16, 16.5]
    assert positions(["step 0", "step 1"]) == [0, 1]
    assert (number(0.25), number(-1_333_000.0)) == ("0.25", "-1\u2009333\u2009000")
