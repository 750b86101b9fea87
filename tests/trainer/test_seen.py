from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.spec import TimeStep
from tests.trainer.helpers import Fake, make_fake, write_fake
from trainer.dataset import Samples, read_samples
from trainer.seen import same_season, seasons, seen, splits_table
from trainer.split import Line, from_csv


def year(later: int = 0, dated: bool = True) -> Fake:
    """The same twenty places, ``later`` years on."""
    fake = make_fake((10, 10), seed=1)
    fake.days += 365.0 * later
    if not dated:
        fake.days = np.tile(np.arange(6.0), (20, 1))
        fake.spec = replace(fake.spec, steps=tuple(TimeStep(k) for k in range(6)))
    return fake


def lines_of(samples: Samples, splits: np.ndarray) -> list[Line]:
    return from_csv(splits_table(samples, splits, samples.spec.classes.names), "splits.csv")


def test_seasons_are_the_samples_own_dates(tmp_path: Path) -> None:
    samples = read_samples([write_fake(tmp_path / "a", year()), write_fake(tmp_path / "b", year(1))])
    found = seasons(samples)
    assert {found[k] for k in np.flatnonzero(samples.folders == 0)} == {
        (dt.date(2011, 1, 26), dt.date(2011, 4, 16))
    }
    assert {found[k] for k in np.flatnonzero(samples.folders == 1)} == {
        (dt.date(2012, 1, 26), dt.date(2012, 4, 15))
    }


def test_a_pixel_in_another_season_is_new_and_told(tmp_path: Path) -> None:
    """Two folders whose samples have the same ids: one year trains, the other one tests."""
    folders = [write_fake(tmp_path / "a", year()), write_fake(tmp_path / "b", year(1))]
    samples = read_samples(folders)
    lines = lines_of(samples, np.where(samples.folders == 0, "train", "test"))
    assert len({line.id for line in lines}) == 20
    first, second = read_samples(folders[:1]), read_samples(folders[1:])
    third = read_samples([write_fake(tmp_path / "c", year(2))])
    elsewhere = read_samples([write_fake(tmp_path / "d", make_fake((10, 10), seed=8))])
    found = [seen(lines, which, "splits.csv") for which in (first, second, third, elsewhere)]
    assert [one.used.sum() for one in found] == [20, 0, 0, 0]
    assert [one.trained_elsewhen.sum() for one in found] == [0, 20, 20, 0]


def test_a_series_that_was_made_anew_is_the_same(tmp_path: Path) -> None:
    """Its fingerprint is another one, and it may have a date more."""
    fake = year()
    samples = read_samples([write_fake(tmp_path / "a", fake)])
    splits = np.where(np.arange(20) < 15, "train", "test")
    fake.spec = replace(fake.spec, series="1" * 64)
    fake.days[:, -1] += 16
    again = read_samples([write_fake(tmp_path / "b", fake)])
    found = seen(lines_of(samples, splits), again, "splits.csv")
    assert found.used.tolist() == [True] * 15 + [False] * 5
    assert not found.trained_elsewhen.any()


def test_unused_samples_are_not_measured_but_were_not_trained_on(tmp_path: Path) -> None:
    samples = read_samples([write_fake(tmp_path / "a", year())])
    lines = lines_of(samples, np.array(["unused"] * 10 + ["train"] * 10))
    assert seen(lines, samples, "splits.csv").used.all()
    later = seen(lines, read_samples([write_fake(tmp_path / "b", year(1))]), "splits.csv")
    assert not later.used.any()
    assert later.trained_elsewhen.tolist() == [False] * 10 + [True] * 10


def test_without_dates_a_pixel_that_was_trained_on_is_used(tmp_path: Path) -> None:
    folders = [write_fake(tmp_path / name, year(dated=False)) for name in ("a", "b")]
    samples = read_samples(folders)
    lines = lines_of(samples, np.where(samples.folders == 0, "train", "test"))
    assert {line.season for line in lines} == {None}
    assert seen(lines, read_samples(folders[1:]), "splits.csv").used.all()


def test_a_table_of_an_older_version_is_read_unless_an_id_is_in_two_splits(tmp_path: Path) -> None:
    samples = read_samples([write_fake(tmp_path / "a", year())])
    names = samples.ids.tolist()
    splits = ["test"] + ["train"] * 19
    rows = [f"{name},{part},x\n" for name, part in zip(names, splits, strict=True)]
    old = "".join(["id,split,class\n", *rows])
    later = read_samples([write_fake(tmp_path / "b", year(1))])
    for which in (samples, later):
        found = seen(from_csv(old, "splits.csv"), which, "splits.csv")
        assert found.used.tolist() == [False] + [True] * 19
    twice = from_csv(f"{old}{names[3]},test,x\n", "splits.csv")
    with pytest.raises(DltsError, match=rf"splits.csv has sample {names[3]} in two splits, train and test"):
        seen(twice, samples, "splits.csv")
    assert seen(from_csv(f"{old}{names[3]},train,x\n", ""), samples, "").used.sum() == 19


@pytest.mark.parametrize(
    ("first", "last", "same"),
    [
        ("2019-09-01", "2020-08-28", True),
        ("2019-09-17", "2020-09-13", True),
        ("2019-12-01", "2020-02-01", True),  # a part of it
        ("2018-01-01", "2022-12-31", True),  # it is a part
        ("2020-08-20", "2021-08-28", False),  # the next one, that begins before this one ends
        ("2020-09-01", "2021-08-28", False),
        ("2020-03-01", "2020-03-01", True),
        ("2021-03-01", "2021-03-01", False),
    ],
)
def test_seasons_are_one_where_they_share_most_of_the_shorter(first: str, last: str, same: bool) -> None:
    one = (dt.date(2019, 9, 1), dt.date(2020, 8, 28))
    other = (dt.date.fromisoformat(first), dt.date.fromisoformat(last))
    assert same_season(one, other) == same_season(other, one) == same
    assert same_season(one, None)
