"""From stored samples to the model's input, a batch of samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import PreparationSpec
from dlts_beam.tensors.inputs import prepare_patches, sample_values
from dlts_beam.tensors.preparation import append_indices, count_observations
from trainer.dataset import MEMORY_LIMIT, Samples, allocate

PREPARE_BATCH = 4096  # samples prepared at once


def prepare_samples(
    samples: Samples, preparation: PreparationSpec, limit: int = MEMORY_LIMIT
) -> NDArray[np.float32]:
    """The model's input for every sample: float32 (n, T', P, P, B'), in the order of the ids."""
    patch = samples.parts[0].spec.patch
    steps = len(samples.spec.steps) if preparation.timeline is None else preparation.timeline.count
    out = allocate((len(samples), steps, patch, patch, len(preparation.names)), np.float32, limit)
    for places, values, valid, days in iter_values(samples, preparation.bands):
        out[places] = prepare_patches(values, valid, days, preparation)
    return out


def iter_values(
    samples: Samples, bands: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]]:
    """Batches of (places, values (n, T, P, P, B), valid, days (n, T)) of the bands, edges replicated."""
    for part in samples.parts:
        used = np.flatnonzero(part.place >= 0)
        for start in range(0, len(used), PREPARE_BATCH):
            rows = used[start : start + PREPARE_BATCH]
            where = part.rows[rows], part.cols[rows], part.spec.grid
            values, valid = sample_values(part.stored[rows], part.valid[rows], *where, part.spec.bands, bands)
            yield part.place[rows], values, valid, part.days[rows]


def observed_means(
    samples: Samples, members: NDArray[np.bool_], preparation: PreparationSpec
) -> tuple[NDArray[np.float64], float]:
    """Mean valid value per band and index over the chosen samples, and the share of values that are valid.

    A band without any valid value gets NaN.
    """
    total = np.zeros(len(preparation.names))
    count = np.zeros(len(preparation.names), np.int64)
    seen = 0
    for places, values, valid, _ in iter_values(samples, preparation.bands):
        chosen = members[places]
        values, valid = values[chosen], valid[chosen]
        if preparation.indices:
            values, valid = append_indices(values, valid, preparation.bands, preparation.indices)
        axes = (0, 1, 2, 3)
        total += np.where(valid, values, 0).sum(axis=axes, dtype=np.float64)
        count += valid.sum(axis=axes)
        seen += valid.size // valid.shape[-1]
    with np.errstate(invalid="ignore"):
        return total / count, float(count.sum() / max(1, seen * len(count)))


def observed_steps(samples: Samples, preparation: PreparationSpec) -> NDArray[np.int32]:
    """int32 (n,): time steps at which each sample's centre is observed in any band, as step 4 counts them."""
    out = np.zeros(len(samples), np.int32)
    for places, _, valid, days in iter_values(samples, preparation.bands):
        middle = valid.shape[2] // 2
        centres = np.moveaxis(valid[:, :, middle, middle], 0, 1)
        out[places] = count_observations(centres, days.T, preparation.timeline)
    return out
