"""Samples read back: the same through tfx-bsl and plainly, and the centres of what was written."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from dlts_beam import centres as module
from dlts_beam.centres import Centres, decode_plain, iter_centres
from dlts_beam.spec import SamplesSpec, SeriesSpec
from pipelines.generate_series import main
from tests.helpers import make_series, pixel_centres, random_cube, write_points


@pytest.fixture
def samples(tmp_path: Path) -> tuple[np.ndarray, SeriesSpec, SamplesSpec, str]:
    """A cube with gaps, and 90 samples of it in one shard."""
    cube = random_cube(steps=3, height=12, width=10, bands=2)
    cube[np.random.default_rng(3).random(cube.shape) < 0.2] = 0
    series = make_series(tmp_path / "series", cube, nodata=0, scale=0.5)
    x, y = pixel_centres(series.grid, [(number // 10, number % 10) for number in range(90)])
    write_points(tmp_path / "points.gpkg", x, y, **{"class": [number % 2 for number in range(90)]})
    out = tmp_path / "out"
    flags = ["-i", str(tmp_path / "series"), "-s", str(tmp_path / "points.gpkg"), "-o", str(out)]
    assert main([*flags, "--shards", "1"]) == 0
    spec = SamplesSpec.from_json((out / "samples.json").read_text())
    return cube, series, spec, str(out / "samples-00000-of-00001.tfrecord.gz")


def test_centres_are_the_pixels_of_the_series(samples, monkeypatch: pytest.MonkeyPatch) -> None:
    cube, series, spec, path = samples
    monkeypatch.setattr(module, "BATCH", 40)
    parts = list(iter_centres(path, spec))
    assert [len(part) for part in parts] == [40] * (spec.samples // 40) + [spec.samples % 40]
    found = Centres.concatenate(parts)
    stored = np.moveaxis(cube[:, found.row, found.col], 0, 1)
    np.testing.assert_array_equal(found.valid, stored != 0)
    np.testing.assert_array_equal(found.values, stored * np.float32(0.5))
    np.testing.assert_array_equal(found.class_id, found.feature % 2)
    np.testing.assert_array_equal(found.days, np.tile(series.days, (len(found), 1)))


def test_both_ways_of_decoding_agree(samples) -> None:
    pytest.importorskip("tfx_bsl", reason="tfx-bsl has no wheel for this machine")
    _, _, spec, path = samples
    (ours,), (plain,) = iter_centres(path, spec), iter_centres(path, spec, decode_plain)
    for field in fields(Centres):
        np.testing.assert_array_equal(getattr(ours, field.name), getattr(plain, field.name))


def test_centres_survive_their_file(samples) -> None:
    _, _, spec, path = samples
    (found,) = iter_centres(path, spec)
    again = Centres.from_bytes(found.to_bytes())
    for field in fields(Centres):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name))
