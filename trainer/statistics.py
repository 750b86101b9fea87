"""What is measured on the training split alone: fill values and the statistics for normalisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import PreparationSpec
from trainer.dataset import Samples
from trainer.layers import Statistics
from trainer.prepared import observed_means

# Percentiles of more values than this are taken from a part of the training series, evenly chosen.
MOST_VALUES = 50_000_000
MOST_SPIKES = 20_000
UNMASKED_SPIKES = 0.08  # more spikes than this look like clouds that nobody masked


def fill_means(
    samples: Samples, training: NDArray[np.bool_], preparation: PreparationSpec
) -> tuple[PreparationSpec, float]:
    """The preparation with the training split's mean of each band and index as fill values.

    Args:
        samples: all samples.
        training: bool (n,), those of the training split; only they count.
        preparation: with any fill values.

    Returns:
        The new preparation, and the share of the training values that are valid. A band that is never
        valid in training is filled with 0.
    """
    means, share = observed_means(samples, training, preparation)
    return replace(preparation, fill=tuple(float(mean) for mean in np.nan_to_num(means, nan=0.0))), share


def spike_share(prepared: NDArray[np.float32], training: NDArray[np.bool_]) -> float:
    """Share of dates that stand out against both neighbours by a standard deviation, at the centres.

    Clean real series have 1 to 4 %, series with clouds left in 13 % and more; the mean over the bands.
    """
    if prepared.shape[1] < 3:
        return 0.0
    middle = prepared.shape[2] // 2
    places = np.flatnonzero(training)[:MOST_SPIKES]
    series = np.asarray(prepared[:, :, middle, middle][places], np.float64)
    before, after = series[:, 1:-1] - series[:, :-2], series[:, 1:-1] - series[:, 2:]
    least = np.minimum(np.abs(before), np.abs(after))
    spread = series.std(axis=(0, 1))
    return float(((before * after > 0) & (least > np.maximum(spread, 1e-12))).mean())


def measure(prepared: NDArray[np.float32], training: NDArray[np.bool_]) -> Statistics:
    """Statistics of the prepared series (n, T, P, P, B) of the training split, for the model's layer."""
    places = np.flatnonzero(training)
    most = max(1, MOST_VALUES // max(1, prepared[0].size))
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]
    return Statistics.measure(prepared[places])
