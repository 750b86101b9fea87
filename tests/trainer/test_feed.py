from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.fits import make_data
from trainer.feed import steps_per_epoch, training_feed, validation_feed


def test_an_epoch_is_a_permutation_that_seed_and_number_decide() -> None:
    data = make_data(23, 3)

    def batches(first: int, last: int, seed: int = 2) -> list[np.ndarray]:
        return [x[:, :, 0, 0, 0] for x, _, _ in training_feed(data, seed, 6, first, last).as_numpy_iterator()]

    two = batches(0, 2)
    steps = steps_per_epoch(data, 6)
    assert [len(batch) for batch in two] == [5, 5, 5, 5] * 2
    first, second = np.concatenate(two[:steps]), np.concatenate(two[steps:])
    wanted = np.sort(data.series[data.training][:, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.sort(first[:, 0]), wanted)
    np.testing.assert_array_equal(np.sort(second[:, 0]), wanted)
    assert (first != second).any()
    np.testing.assert_array_equal(np.concatenate(batches(1, 2)), second)
    assert (np.concatenate(batches(0, 1, seed=3)) != first).any()


@pytest.mark.parametrize("replicas", [1, 2])
def test_no_batch_is_a_small_rest(replicas: int) -> None:
    for count in (33, 34, 65, 97):
        data = make_data(count, 0)
        sizes = [len(x) for x, _, _ in training_feed(data, 2, 32, 0, 1, None, replicas).as_numpy_iterator()]
        assert len(sizes) == steps_per_epoch(data, 32, replicas)
        assert sum(sizes) == len(data.training) // replicas * replicas
        assert max(sizes) <= 32
        assert max(sizes) - min(sizes) <= replicas


def test_replicas_share_the_validation_split() -> None:
    data = replace(make_data(600, 0), validation=np.arange(521))
    whole = [x[:, :, 0, 0, 0] for x, _, _ in validation_feed(data).as_numpy_iterator()]
    assert [len(batch) for batch in whole] == [173, 174, 174]
    np.testing.assert_array_equal(np.concatenate(whole), data.series[:521, :, 0, 0, 0])
    shares = []
    for piece in range(2):
        batches = validation_feed(data, 2, [piece]).as_numpy_iterator()
        shares.append(np.concatenate([x[:, 0, 0, 0, 0] for x, _, _ in batches]))
    assert [len(share) for share in shares] == [261, 260]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.sort(data.series[:521, 0, 0, 0, 0]))


def test_no_replica_is_without_a_validation_sample() -> None:
    data = replace(make_data(), validation=np.array([5, 8]))
    shares = []
    for piece in range(3):
        (batch,) = validation_feed(data, 3, [piece]).as_numpy_iterator()
        assert (batch[2] == 1).all()
        shares.append(batch[0][:, 0, 0, 0, 0])
    assert [len(share) for share in shares] == [2, 2, 2]
    wanted = np.repeat(data.series[[5, 8], 0, 0, 0, 0], 3)  # each as often as the other: their mean stays
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.sort(wanted))


def test_mapped_series_give_the_same_batches(tmp_path: Path) -> None:
    data = make_data()
    mapped = np.memmap(tmp_path / "series", np.float32, "w+", shape=data.series.shape)
    mapped[:] = data.series
    other = replace(data, series=mapped)
    for feed in (lambda d: training_feed(d, 2, 7, 0, 2), validation_feed):
        for ours, theirs in zip(feed(data), feed(other), strict=True):
            for left, right in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(left, right)
