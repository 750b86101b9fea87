"""The results of `benchmarks.accuracy`: a file of JSON lines, and finished trainings pooled from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import evaluate
from trainer.bootstrap import LEVEL, REPLICATES, add_intervals, resampled

Record = dict[str, Any]
FOREST, AUTO = "random_forest", "auto"
PAIRS = "three_pairs"
ROWS = (
    AUTO, FOREST, PAIRS, "ltae_mlp", "ltae", "mlp", "small_forest",
    "tempcnn", "lstm_fcn", "transformer", "lstm", "conv_bilstm",
)  # fmt: skip


def read_records(path: Path) -> list[Record]:
    """The results so far.

    Raises:
        SystemExit: a line is not whole, as where the disk was full.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise SystemExit(f"line {number} of {path} is not whole: remove it, and go on") from error
    return records


def append(path: Path, record: Record) -> None:
    """Add a line to the results."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def check_folds(results: Path, known: Sequence[Record], description: Record) -> None:
    """Predictions are scored by the folds that stand in the results.

    Raises:
        SystemExit: they are other ones, as another version of scikit-learn or of the set makes.
    """
    for told in (record for record in known if "truth" in record):
        if any(told[name] != description[name] for name in ("truth", "tests", "groups")):
            raise SystemExit(f"{results} has other samples or folds of {told['set']}: use another --results")


@dataclass
class Run:
    """Pooled predictions of one training's folds.

    Attributes:
        truth, predicted: int64 (m,).
        groups: text (m,).
        samples: int64 (m,), which they are.
        seconds: of each fold.
        parameters: of the model, 0 where unknown.
    """

    truth: list[NDArray[np.int64]] = field(default_factory=list)
    predicted: list[NDArray[np.int64]] = field(default_factory=list)
    groups: list[NDArray[np.str_]] = field(default_factory=list)
    samples: list[NDArray[np.int64]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    parameters: int = 0

    def measures(self, classes: int) -> tuple[float, float]:
        """Overall accuracy and macro F1."""
        matrix = evaluate.confusion_matrix(
            np.concatenate(self.truth), np.concatenate(self.predicted), classes
        )
        return evaluate.overall_accuracy(matrix), evaluate.macro_f1(matrix)

    def interval(self, classes: int) -> tuple[float | None, float | None]:
        """95 % interval of the overall accuracy; None and None where the samples are of one group."""
        truth, predicted = np.concatenate(self.truth), np.concatenate(self.predicted)
        names = [str(k) for k in range(classes)]
        found = evaluate.metrics(evaluate.confusion_matrix(truth, predicted, classes), names)
        drawn = resampled(truth, predicted, np.concatenate(self.groups), classes, 0)
        entry = add_intervals(found, drawn)["overall_accuracy"]
        return entry["low"], entry["high"]


def digits(text: str) -> NDArray[np.int64]:
    """Class ids from a text of digits."""
    return np.array(list(text), np.int64)


def collect(told: Record, records: Sequence[Record]) -> dict[str, list[Run]]:
    """The finished runs of a set, by row; told is its description."""
    truth = digits(told["truth"])
    groups = np.array(told["groups"]).astype(str)
    found: dict[tuple[str, int, int], dict[int, Record]] = {}
    for record in records:
        if record["set"] == told["set"] and "predicted" in record:
            for name in record["predicted"]:
                row, member = _row_of(name)
                found.setdefault((row, record["seed"], member), {})[record["fold"]] = record | {"name": name}
    out: dict[str, list[Run]] = {}
    for (row, _, _), by_fold in sorted(found.items(), key=lambda item: item[0]):
        if len(by_fold) < len(told["tests"]):
            continue
        run = Run()
        for fold, record in sorted(by_fold.items()):
            test = np.array(told["tests"][fold])
            run.truth.append(truth[test])
            run.predicted.append(digits(record["predicted"][record["name"]]))
            run.groups.append(groups[test])
            run.samples.append(test)
            if row == record["model"]:
                run.seconds.append(record["seconds"])
                run.parameters = record.get("parameters", 0)
        out.setdefault(row, []).append(run)
    return {row: out[row] for row in ROWS if row in out}


def _row_of(name: str) -> tuple[str, int]:
    """``ltae_mlp2`` is member 2 of the row ``ltae_mlp``."""
    row = name.rstrip("0123456789")
    return (row, int(name[len(row) :])) if row in ROWS and row != name else (name, 0)


def lead(runs: Sequence[Run], others: Sequence[Run], told: Record) -> tuple[float, float, float]:
    """How many more test samples some runs have right than others, means of the runs, and its 95 % interval.

    The interval is the bootstrap over groups of the differences, sample by sample: most errors are common to
    both, and intervals of the two alone would be far too wide to compare them by.
    """
    _, group_of = np.unique(np.array(told["groups"]).astype(str), return_inverse=True)
    tested = np.bincount(np.concatenate(told["tests"]), minlength=len(group_of))
    gains = np.bincount(group_of, weights=_hits(runs, len(group_of)) - _hits(others, len(group_of)))
    sizes = np.bincount(group_of, weights=tested)
    draws = np.random.default_rng(0).integers(0, len(sizes), (REPLICATES, len(sizes)))
    drawn = gains[draws].sum(axis=1) / sizes[draws].sum(axis=1) * sizes.sum()
    low, high = np.percentile(drawn, LEVEL)
    return float(gains.sum()), float(low), float(high)


def _hits(runs: Sequence[Run], count: int) -> NDArray[np.float64]:
    """How often each sample was labelled right, the mean of the runs: float64 (count,)."""
    hits = np.zeros(count)
    for run in runs:
        for samples, truth, predicted in zip(run.samples, run.truth, run.predicted, strict=True):
            hits += np.bincount(samples, weights=truth == predicted, minlength=count)
    return hits / len(runs)
