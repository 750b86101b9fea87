from __future__ import annotations

from dataclasses import replace

import pytest

from dlts_beam.grid import Grid
from dlts_beam.spec import Ledger, sample_id, shard_name
from tests.dlts_beam.spec.examples import make_samples_spec


def test_ledger_must_balance():
    assert Ledger(5, 3, {"outside": 1, "unknown label": 1}).used == 3
    with pytest.raises(ValueError, match="5 in, but 3 used"):
        Ledger(5, 3, {"outside": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 2}, "patch must be odd, so that a pixel sits in the middle; got 2"),
        ({"patch": 0}, "patch must be odd"),
        ({"patch": -1}, "patch must be odd"),
        ({"class_counts": (5,)}, "class_counts must name every class; got 1"),
        ({"class_counts": (2, 2)}, "do not sum to the 5 samples"),
        ({"shards_sha256": ("0f" * 32,)}, "shards_sha256 must have one for each of 4; got 1"),
    ],
)
def test_samples_refuse(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        replace(make_samples_spec(), **changes)


def test_shape():
    assert make_samples_spec().shape == (3, 3, 3, 2)


def test_shard_names_sort_by_number():
    assert shard_name(3, 12) == "samples-00003-of-00012.tfrecord.gz"
    names = [shard_name(k, 1000) for k in range(1000)]
    assert names == sorted(names)


def test_ids_of_all_pixels_differ_in_metres_and_in_degrees():
    for transform in (
        (10.0, 0.0, 500000.0, 0.0, -10.0, 9000000.0),
        (0.0001, 0.0, -55.0, 0.0, -0.0001, -11.5),
    ):
        grid = Grid("", transform, 20, 20)
        ids = {sample_id(*grid.xy(r + 0.5, c + 0.5)) for r in range(20) for c in range(20)}
        assert len(ids) == 400


def test_id_does_not_depend_on_the_extent():
    pixel = 231.656358263889
    whole = Grid("", (pixel, 0.0, -6_000_000.0, 0.0, -pixel, -1_000_000.0), 100, 100)
    cut = Grid("", (pixel, 0.0, whole.xy(0, 37)[0], 0.0, -pixel, whole.xy(53, 0)[1]), 10, 10)
    for row in range(10):
        for col in range(10):
            assert sample_id(*cut.xy(row + 0.5, col + 0.5)) == sample_id(*whole.xy(row + 53.5, col + 37.5))


def test_id_knows_one_zero():
    assert sample_id(-0.0, -1e-9) == sample_id(0.0, 0.0)


def test_id_depends_on_the_interval():
    ids = {
        sample_id(1.0, 2.0),
        sample_id(1.0, 2.0, ("2016-01-01", "2016-12-31")),
        sample_id(1.0, 2.0, ("2017-01-01", "2017-12-31")),
        sample_id(2.0, 1.0),
    }
    assert len(ids) == 4
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
