"""95 % intervals of accuracy measures: the bootstrap over groups of test samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import evaluate

REPLICATES = 1000
LEVEL = (2.5, 97.5)
FEW_GROUPS = 10  # below so many the bootstrap's intervals are too narrow to be relied on


def resampled(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: NDArray[np.str_],
    classes: int,
    seed: int,
    replicates: int = REPLICATES,
) -> Iterator[NDArray[np.int64]]:
    """Confusion matrices, int64 (K, K), of test sets drawn with replacement, group by group.

    Samples of one group (a block, a polygon, a pixel) are drawn together: they are not independent, and an
    interval that took them for such would be too narrow. Of fewer than two groups there is nothing to draw,
    and no matrix comes. They come one by one, for those of many classes would fill the memory.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return
    # A group holds few of the cells: only those that are not empty are counted.
    places = group_of * classes**2 + truth * classes + predicted
    places, counts = np.unique(places, return_counts=True)
    group_of, cells = np.divmod(places, classes**2)
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        draw = generator.integers(0, len(names), len(names))
        times = np.bincount(draw, minlength=len(names))
        drawn = np.bincount(cells, weights=counts * times[group_of], minlength=classes**2)
        yield drawn.astype(np.int64).reshape(classes, classes)


def add_intervals(found: dict[str, Any], matrices: Iterable[NDArray[np.int64]]) -> dict[str, Any]:
    """The measures of ``evaluate.metrics`` with ``low`` and ``high`` beside each ``value``.

    Both are None where nothing was drawn, and where a measure is not defined. Of each matrix only its
    measures are kept.
    """
    whole: dict[str, list[float]] = {"overall_accuracy": [], "kappa": [], "macro_f1": []}
    per_class: dict[str, list[NDArray[np.float64]]] = {"precision": [], "recall": [], "f1": []}
    for matrix in matrices:
        whole["overall_accuracy"].append(evaluate.overall_accuracy(matrix))
        whole["kappa"].append(evaluate.kappa(matrix))
        whole["macro_f1"].append(evaluate.macro_f1(matrix))
        for measure, values in evaluate.class_measures(matrix).items():
            per_class[measure].append(values)
    out = found | {name: _entry(found[name], values) for name, values in whole.items()}
    out["classes"] = {
        name: row
        | {
            measure: _entry(row[measure], [values[k] for values in drawn])
            for measure, drawn in per_class.items()
        }
        for k, (name, row) in enumerate(found["classes"].items())
    }
    return out


def one_sided(groups: int, wrong: str = "wrong") -> str:
    """What an interval of 1 to 1 does not say; nor does one of 0 to 0, where no sample was ``right``.

    With no error in n independent groups, a share p of wrong ones is still likely as long as (1 - p)^n is at
    least 5 %: the exact one-sided bound of the binomial distribution. The same holds for right ones.
    """
    return (
        f"no sample was {wrong}, which leaves a bootstrap nothing to draw: after {groups} independent groups "
        f"of samples, up to {1 - 0.05 ** (1 / groups):.1%} {wrong} ones elsewhere would be no surprise (95 %)"
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
