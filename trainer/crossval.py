"""Cross-validation: every sample is measured once, by a model that never saw its group."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dlts_beam.errors import DltsError
from dlts_beam.spec.model import DEFAULT_SAVED_MODEL
from trainer import evaluate
from trainer.folder import ModelFolder
from trainer.forest import MOST_SAMPLES, forest_predictions, learned_from
from trainer.kept import digest_of_kept, keep, kept
from trainer.models import branches_of
from trainer.options import sample_groups
from trainer.progress import set_branches
from trainer.results import forest_summary, measured
from trainer.setup import Setup, fit_splits, say
from trainer.split import assign_folds, assign_splits, leave_out
from trainer.weights import check_weights
from trainer.workers import check_alike

FOLDS = "folds.npz"


@dataclass(frozen=True, eq=False)
class _Folds:
    """What the finished folds found.

    Attributes:
        rows: one per fold, as the report has them.
        predicted, forest: int64 (n,), class ids; -1 for samples of folds to come.
    """

    rows: list[dict[str, Any]]
    predicted: NDArray[np.int64]
    forest: NDArray[np.int64]


def check_folds(setup: Setup, args: argparse.Namespace) -> None:
    """Make the splits of all folds once, so that what is wrong with the last is told before the first trains.

    They are not kept: with many folds of many samples they would fill the memory, and they come out the same
    again.

    Raises:
        DltsError: the samples cannot be cut as ``--folds`` or ``--leave-out`` asks.
    """
    for _ in _fold_splits(setup, args):
        pass


def cross_validate(
    setup: Setup, args: argparse.Namespace, folder: ModelFolder, key: str
) -> dict[str, Any]:
    """Train and test once per fold of ``--folds`` or ``--leave-out``; measures of the pooled predictions.

    What each fold found is kept in the folder under the key that names the training, so that after a kill the
    next fold comes: whoever brings the training to its end removes that file.

    Returns:
        The measures with intervals, ``folds``, and ``random_forest`` unless it is switched off.

    Raises:
        DltsError: the samples cannot be cut so, or a training failed, and its fold is named; or workers found
            different folds kept.
    """
    samples, names = setup.samples, setup.spec.classes.names
    path = folder.join(FOLDS)
    kept = _load_folds(path, key) or _Folds([], np.full(len(samples), -1), np.full(len(samples), -1))
    told, predicted, forest = kept.rows, kept.predicted, kept.forest
    wrong = f"the workers see different folds in {folder.path}: give -o a folder that all of them share"
    check_alike(setup.devices, digest_of_kept(told, [predicted, forest]), wrong)
    if told:
        say(f"going on after {told[-1]['fold']}, where an earlier run was stopped")
    for name, splits in itertools.islice(_fold_splits(setup, args), len(told), None):
        with tempfile.TemporaryDirectory(prefix="dlts-fold-") as scratch:
            scratched = ModelFolder(scratch, is_scratch=True)
            try:
                fitted = fit_splits(setup, splits, scratched, log=lambda line: None)
            except DltsError as error:
                raise type(error)(f"{name}: {error}") from error
        set_branches(branches_of(fitted.model), fitted.reached, DEFAULT_SAVED_MODEL)
        test = np.flatnonzero(splits == "test")
        predicted[test] = evaluate.predicted_classes(evaluate.predict(fitted.model, fitted.prepared, test))
        share = float((predicted[test] == samples.class_ids[test]).mean())
        line = f"{name}: {len(test)} samples, overall accuracy {share:.4f}"
        row: dict[str, Any] = {"fold": name, "samples": len(test), "overall_accuracy": round(share, 6)}
        if args.random_forest:
            known = np.flatnonzero((splits == "train") | (splits == "validation"))
            forest[test] = forest_predictions(fitted.prepared, samples.class_ids, known, test)
            of_forest = float((forest[test] == samples.class_ids[test]).mean())
            row["random_forest"] = round(of_forest, 6)
            line += f", random forest {of_forest:.4f}"
            if len(samples) > MOST_SAMPLES:  # or no fold has so many; rows are the columns of one table
                part = learned_from(len(known)) or ""
                row["random_forest_note"] = part
                line += f" ({part})" if part else ""
        say(line)
        told.append(row)
        if setup.devices.is_chief:
            _save_folds(path, key, kept)
        keras.backend.clear_session()  # the next model's layers get the names that they have without folds
    groups = setup.groups if args.leave_out is None else sample_groups(samples, args.leave_out)
    found = measured(samples.class_ids, predicted, groups, names, setup.settings.seed)
    if args.random_forest:
        of_all = measured(samples.class_ids, forest, groups, names, setup.settings.seed)
        parts = any(row.get("random_forest_note") for row in told)
        note = f"trained on {MOST_SAMPLES:,} samples where a fold has more" if parts else None
        found["random_forest"] = forest_summary(of_all, note)
    how = (
        f"{args.folds} folds by {args.split_by}"
        if args.leave_out is None
        else f"one {args.leave_out} left out"
    )
    return {"how": how, "folds": told, **found}


def _save_folds(path: str, key: str, folds: _Folds) -> None:
    keep(path, key, {"rows": folds.rows}, {"predicted": folds.predicted, "forest": folds.forest})


def _load_folds(path: str, key: str) -> _Folds | None:
    """What an interrupted training kept; None where there is nothing, or that of another training.

    Raises:
        DltsError: the file is damaged.
    """
    with kept(path, key, "the folds start") as found:
        if found is None:
            return None
        meta, arrays = found
        return _Folds(meta["rows"], arrays["predicted"], arrays["forest"])


def _fold_splits(setup: Setup, args: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.str_]]]:
    """The splits of every fold, by name.

    Raises:
        DltsError: the samples cannot be cut so, or a class is missing or weighs nothing where a fold trains.
    """
    samples, seed = setup.samples, setup.settings.seed
    if args.leave_out is not None:
        column = sample_groups(samples, args.leave_out, "--leave-out")
        values = sorted(set(column.tolist()))
        if len(values) < 2:
            raise DltsError(f"--leave-out {args.leave_out}: all samples have the same value ({values[0]})")
        tests = [(f"{args.leave_out} {value}", column == value) for value in values]
    else:
        folds = assign_folds(samples.class_ids, setup.groups, seed, args.folds)
        tests = [(f"fold {fold + 1}", folds == fold) for fold in range(args.folds)]
    for name, test in tests:
        splits = np.full(len(samples), "test", "<U10")
        rest = ~test
        splits[rest] = assign_splits(
            samples.class_ids[rest], setup.groups[rest], seed, args.validation_split, 0.0
        )
        splits = leave_out(splits, setup.trusted)
        trained = np.unique(samples.class_ids[splits == "train"])
        if len(trained) < len(setup.spec.classes):
            missing = [n for k, n in enumerate(setup.spec.classes.names) if k not in trained]
            raise DltsError(
                f"without {name} there is no sample of {', '.join(missing)} to train on: choose fewer folds, "
                "smaller groups or another column"
            )
        check_weights(setup.quality, samples.class_ids, splits == "train", setup.spec.classes.names)
        yield name, splits
