"""What is told of samples that a model learns from, or is measured on, where they look poor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import PreparationSpec
from trainer import statistics
from trainer.dataset import Samples
from trainer.prepared import observed_steps


def clouds(prepared: NDArray[np.float32], members: NDArray[np.bool_]) -> str | None:
    """A sentence where clouds seem to be in the series of the chosen samples; else None.

    Args:
        prepared: float32 (n, T, P, P, B), the model's input.
        members: bool (n,), the samples to look at.
    """
    share = statistics.spike_share(prepared, members)
    if share <= statistics.UNMASKED_SPIKES:
        return None
    return (
        f"{share:.0%} of the values stand out against the dates before and after: the series look as if "
        "clouds were left in; mask them when the series is made (mask band, valid range, nodata)"
    )


def unobserved(
    samples: Samples, preparation: PreparationSpec, members: NDArray[np.bool_] | None = None
) -> str | None:
    """A sentence where samples have too few observations for a class in a map; else None.

    Args:
        samples: all samples.
        preparation: of the model, with its ``min_valid``.
        members: bool (n,), the samples to look at; None for all.
    """
    poor = observed_steps(samples, preparation) < preparation.min_valid
    few = int((poor if members is None else poor & members).sum())
    if not few:
        return None
    return (
        f"{few} samples are observed at fewer than {preparation.min_valid} time steps; they take the "
        "training mean (in a map such pixels are nodata)"
    )
