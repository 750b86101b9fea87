"""95 % intervals of accuracy measures: the bootstrap over groups of test samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import evaluate

REPLICATES = 1000
LEVEL = (2.5, 97.5)
FEW_GROUPS = 10  # below so many the bootstrap's intervals are too narrow to be relied on
_AT_ONCE = 50  # replicates drawn together


def resampled(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: NDArray[np.str_],
    classes: int,
    seed: int,
    replicates: int = REPLICATES,
) -> NDArray[np.int64]:
    """int64 (R, K, K): confusion matrices of test sets drawn with replacement, group by group.

    Samples of one group (a block, a polygon, a pixel) are drawn together: they are not independent, and an
    interval that took them for such would be too narrow. Of fewer than two groups there is nothing to draw,
    and R is 0.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return np.zeros((0, classes, classes), np.int64)
    cells = np.zeros((len(names), classes * classes))
    np.add.at(cells, (group_of, truth * classes + predicted), 1)
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, replicates, _AT_ONCE):
        count = min(_AT_ONCE, replicates - start)
        draws = generator.integers(0, len(names), (count, len(names)))
        times = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
        parts.append(times @ cells)
    return np.rint(np.concatenate(parts)).astype(np.int64).reshape(replicates, classes, classes)


def add_intervals(found: dict[str, Any], matrices: NDArray[np.int64]) -> dict[str, Any]:
    """The measures of ``evaluate.metrics`` with ``low`` and ``high`` beside each ``value``.

    Both are None where nothing was drawn, and where a measure is not defined.
    """
    whole = {
        "overall_accuracy": [evaluate.overall_accuracy(matrix) for matrix in matrices],
        "kappa": [evaluate.kappa(matrix) for matrix in matrices],
        "macro_f1": [evaluate.macro_f1(matrix) for matrix in matrices],
    }
    per_class = [evaluate.class_measures(matrix) for matrix in matrices]
    out = found | {name: _entry(found[name], values) for name, values in whole.items()}
    out["classes"] = {
        name: row
        | {
            measure: _entry(row[measure], [one[measure][k] for one in per_class])
            for measure in ("precision", "recall", "f1")
        }
        for k, (name, row) in enumerate(found["classes"].items())
    }
    return out


def flawless(groups: int) -> str:
    """What an interval of 1 to 1 does not say.

    With no error in n independent groups, a share p of wrong ones is still likely as long as (1 - p)^n is at
    least 5 %: the exact one-sided bound of the binomial distribution.
    """
    return (
        f"no sample was wrong, which leaves a bootstrap nothing to draw: after {groups} independent groups of"
        f" samples, up to {1 - 0.05 ** (1 / groups):.1%} wrong ones elsewhere would be no surprise (95 %)"
    )


def caution(groups: int) -> str | None:
    """What to say of intervals that few groups were drawn for; None where there are enough."""
    if groups >= FEW_GROUPS:
        return None
    if groups < 2:
        return "all samples measured are of one group, and an interval needs two or more: none is given"
    return (
        f"the samples measured are of {groups} independent groups only: the intervals are rough, and rather "
        "too narrow than too wide"
    )


def _entry(entry: dict[str, float | None], values: Sequence[float]) -> dict[str, float | None]:
    known = np.asarray(values)[~np.isnan(values)]
    if entry["value"] is None or not len(known):
        return entry | {"low": None, "high": None}
    low, high = np.percentile(known, LEVEL)
    return entry | {"low": round(float(low), 6), "high": round(float(high), 6)}
