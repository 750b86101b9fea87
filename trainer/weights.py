"""How much each sample weighs in the loss."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from trainer.dataset import Samples

QUALITY_CSV = "quality.csv"


def sample_weights(
    class_ids: NDArray[np.int64], training: NDArray[np.int64], classes: int, balanced: bool
) -> NDArray[np.float32]:
    """float32 (n,): 1, or, balanced, such that every class weighs the same in all; their mean is 1."""
    if not balanced:
        return np.ones(len(class_ids), np.float32)
    counts = np.bincount(class_ids[training], minlength=classes)
    return (len(training) / (classes * np.maximum(counts, 1)))[class_ids].astype(np.float32)


def check_weights(
    quality: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    training: NDArray[np.bool_],
    names: Sequence[str],
) -> None:
    """Every class must weigh something in the training split, or nothing of it would be learned.

    Args:
        quality: float32 (n,), the weight of each sample by its quality.
        class_ids: int64 (n,).
        training: bool (n,), those of the training split.
        names: of the classes.

    Raises:
        DltsError: all training samples of a class weigh 0.
    """
    sums = np.bincount(class_ids[training], quality[training], minlength=len(names))
    counts = np.bincount(class_ids[training], minlength=len(names))
    nothing = [name for name, total, count in zip(names, sums, counts, strict=True) if count and not total]
    if nothing:
        raise DltsError(
            f"all training samples of class {', '.join(nothing)} have a quality of 0, so with "
            "--quality-weights nothing of it would be learned: leave --quality-weights out, or correct "
            "quality.csv"
        )


def read_quality(folders: Sequence[str], samples: Samples) -> NDArray[np.float32]:
    """float32 (n,): the quality in 0..1 of each sample, from ``quality.csv`` of each folder.

    Raises:
        DltsError: a file is missing, not such a table, lacks a sample, or has a quality outside 0..1.
    """
    out = np.empty(len(samples), np.float32)
    for number, folder in enumerate(folders):
        path = storage.join(folder, QUALITY_CSV)
        if not storage.exists(path):
            raise DltsError(
                f"there is no {path}: --min-quality and --quality-weights need it from generate-series"
            )
        rows = csv.DictReader(io.StringIO(storage.read_text(path)))
        if not {"id", "quality"} <= set(rows.fieldnames or ()):
            raise DltsError(f"{path} needs the columns id and quality")
        lines = list(rows)
        cut = next((line for line, row in enumerate(lines, 2) if None in row.values()), None)
        if cut is not None:
            raise DltsError(
                f"{path} is cut short: line {cut} has fewer columns than the first; extract the samples again"
            )
        try:
            scores = {row["id"]: float(row["quality"]) for row in lines}
        except ValueError as error:
            raise DltsError(f"{path}: a quality is not a number: {error}") from error
        for line, row in enumerate(lines, 2):
            if not 0 <= float(row["quality"]) <= 1:
                raise DltsError(
                    f"{path}, line {line}: the quality of sample {row['id']} must lie in 0..1; "
                    f"got {row['quality']}"
                )
        for place in np.flatnonzero(samples.folders == number):
            name = str(samples.ids[place])
            if name not in scores:
                raise DltsError(f"{path} has no line for sample {name}: extract the samples again")
            out[place] = scores[name]
    return out
