"""Cost before launch: arithmetic that a child can check."""

from __future__ import annotations

import pytest

from dlts_beam.errors import DltsError
from dlts_beam.fleet import Estimate, Fleet, check_price, cost_text, estimate, processors_of


@pytest.mark.parametrize(
    ("tiles", "fleet", "expected"),
    [
        (100, Fleet(10), Estimate(360.0, 1.0, 1.0, 0.0)),
        (100, Fleet(5, 2), Estimate(360.0, 0.5, 1.0, 0.0)),
        (101, Fleet(10), Estimate(396.0, 1.1, 1.1, 1 - 101 / 110)),  # one tile more is one round more
        (1, Fleet(20), Estimate(36.0, 0.2, 0.2, 0.95)),
        (0, Fleet(20), Estimate(0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_whole_rounds_are_paid_for(tiles: int, fleet: Fleet, expected: Estimate) -> None:
    found = estimate(36.0, tiles, fleet)
    for name, value in vars(expected).items():
        assert getattr(found, name) == pytest.approx(value)


def test_a_fleet_without_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="a fleet needs workers"):
        estimate(1.0, 1, Fleet(0))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("n2-standard-4", 4), ("n1-highmem-96", 96), ("c2d-highcpu-56", 56), ("custom-6-20480", 6),
        ("n2-custom-8-16384", 8), ("n2-custom-8-16384-ext", 8), ("e2-medium", 2), ("c3-standard-22-lssd", 22),
        ("a2-highgpu-1g", None), (None, None), ("large", None),
    ],
)  # fmt: skip
def test_machine_types_tell_their_processors(name: str | None, count: int | None) -> None:
    assert processors_of(name) == count


def test_the_text_says_all_and_what_it_assumes() -> None:
    fleet = Fleet(20, 4, ("one is assumed",))
    text = "\n".join(cost_text(Estimate(7200.0, 40.0, 160.0, 0.05), fleet, 3 << 40, 9 * 10**9, 0.25))
    for words in (
        "40.00 worker-hours on 20 workers of 4 processors: 160.00 processor-hours, 5% of them idle",
        "3.00 TiB to read",
        "then about 10:00 on this machine to assemble",
        "price:   10.00, at 0.25 for a worker and hour",
        "an estimate from two tiles on this machine",
        "note:    one is assumed",
    ):
        assert words in text
    assert "price" not in "\n".join(cost_text(Estimate(1.0, 1.0, 1.0, 0.0), Fleet(1), 0, 1, None))


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_must_be_one(price: float) -> None:
    check_price(0.0)
    check_price(None)
    with pytest.raises(DltsError, match="--price-per-worker-hour must be 0 or more"):
        check_price(price)
