"""Statistics and scores of written samples: one answer on any shard layout, with or without tfx-bsl."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dlts_beam import centres, statistics
from dlts_beam.quality import read_rows
from dlts_beam.spec import SamplesSpec
from dlts_beam.statistics import BY_NUMPY, BY_SKETCH, Table
from pipelines.generate_series import main
from tests.helpers import make_series, pixel_centres, random_cube, write_points


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A series of three dates, brighter in its right half, and 140 points labelled by half."""
    cube = random_cube(steps=3, height=20, width=600, bands=2)
    cube[:, :, 300:] += 20_000
    cube[1, :, 300:, 0] = 0  # the right half is never seen in one band at one date
    series = make_series(tmp_path / "series", cube, nodata=0, block=16)
    flat = np.random.default_rng(2).choice(12_000, 140, replace=False)
    pixels = [(int(at) // 600, int(at) % 600) for at in flat]
    x, y = pixel_centres(series.grid, pixels)
    labels = ["right" if col >= 300 else "left" for _, col in pixels]
    labels[0] = "left" if labels[0] == "right" else "right"
    write_points(tmp_path / "points.gpkg", x, y, **{"class": labels})
    return tmp_path


def run(folder: Path, output: str, *more: str) -> Path:
    out = folder / output
    flags = ["-i", str(folder / "series"), "-s", str(folder / "points.gpkg"), "-o", str(out)]
    assert main([*flags, *more]) == 0
    return out


def table_of(folder: Path) -> Table:
    return Table.from_json((folder / "statistics.json").read_bytes())


def test_any_layout_gives_the_same_scores_and_moments(places: Path) -> None:
    folder = places
    one, many = run(folder, "one", "--shards", "1"), run(folder, "many", "--shards", "3")
    assert len(list(many.glob("*.tfrecord.gz"))) == 3
    assert (one / "quality.csv").read_text() == (many / "quality.csv").read_text()
    for mine, others in zip(table_of(one).classes, table_of(many).classes, strict=True):
        for ours, theirs in zip(mine.bands, others.bands, strict=True):
            assert (ours.count, ours.min, ours.max) == (theirs.count, theirs.min, theirs.max)
            np.testing.assert_allclose(np.array(ours.mean, float), np.array(theirs.mean, float), rtol=1e-6)
    with open(one / "quality.csv", newline="") as file:
        rows = list(read_rows(file))
    spec = SamplesSpec.from_json((one / "samples.json").read_text())
    assert len({row.id for row in rows}) == spec.samples == 140
    wrong = [row for row in rows if row.label != row.neighbours]
    assert len(wrong) == 1
    assert wrong[0].quality == min(row.quality for row in rows) < 0.1
    assert wrong[0].id in (one / "samples.html").read_text()
    left = {path.name for path in one.iterdir()}
    assert {"statistics.json", "quality.csv", "samples.html"} < left
    assert "summary" not in left


def test_without_tfx_bsl_all_but_the_quantiles_is_the_same(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = places
    usual = run(folder, "usual")
    find = importlib.util.find_spec
    for module in (centres, statistics):
        monkeypatch.setattr(
            module.importlib.util,
            "find_spec",
            lambda name, *more: None if name == "tfx_bsl" else find(name, *more),
        )
    plain = run(folder, "plain")
    for name in ("quality.csv", "samples-00000-of-00001.tfrecord.gz", "samples.json"):
        assert (plain / name).read_bytes() == (usual / name).read_bytes(), name
    ours, theirs = table_of(usual), table_of(plain)
    assert theirs.quantiles_by == BY_NUMPY
    assert ours.quantiles_by in (BY_SKETCH, BY_NUMPY)
    assert "tfx-bsl is not installed" in (plain / "samples.html").read_text()
    assert [one.bands[0].mean for one in ours.classes] == [one.bands[0].mean for one in theirs.classes]


def test_the_schema_is_one_of_tensorflow_metadata(places: Path) -> None:
    proto = pytest.importorskip("tensorflow_metadata.proto.v0.schema_pb2", reason="it comes with tfx-bsl")
    from google.protobuf import text_format

    folder = places
    schema = text_format.Parse((run(folder, "out") / "schema.pbtxt").read_text(), proto.Schema())
    (label,) = [feature for feature in schema.feature if feature.name == "class_id"]
    assert (label.int_domain.min, label.int_domain.max) == (0, 1)
