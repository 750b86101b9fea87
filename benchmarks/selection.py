"""Which branches ``--model auto`` should average, chosen inside the training folds.

    python -m benchmarks.selection [--work FOLDER]

The folds are those of `benchmarks.accuracy`. For each fold and the next one, one of each branch of
``--model auto`` is trained on the three other folds, and every mean of some of the branches is measured on
both. What is chosen for an outer fold k is the mean with the best accuracy, averaged over the sets, on the
neighbours of k, by models that have seen neither k nor the neighbour that they are measured on. One choice
for all sets; it is free of the test samples where every outer fold makes the same one.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._accuracy_runs import AUTO
from benchmarks._accuracy_sets import SETS, RealSet
from benchmarks.accuracy import FOLDS, extract, flags, held_out, use_threads

FIRST_SEED = 11  # other seeds than those of the table
Tested = dict[str, NDArray[np.float32]]
"""Probabilities of each branch, the ``truth``, and how many samples are of the ``first`` fold."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, then print what each outer fold chooses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--work", type=Path, help="folder that keeps what was done (default: a passing one)")
    args = parser.parse_args(argv)
    use_threads(1)
    with tempfile.TemporaryDirectory(prefix="dlts-selection-") as scratch:
        work = args.work or Path(scratch)
        sets = [one for one in SETS if not one.training]
        tested = {one.key: [left_out(one, fold, args.data, work) for fold in range(FOLDS)] for one in sets}
    print(table(tested))


def left_out(chosen: RealSet, fold: int, data: Path, work: Path) -> Tested:
    """Train without a fold and the next one; the branches' probabilities of their samples."""
    from trainer import evaluate
    from trainer.folder import ModelFolder
    from trainer.models import branches_of
    from trainer.setup import fit_splits, make_setup

    path = work / f"{chosen.key}_{fold}.npz"
    if not path.exists():
        args = flags(AUTO, FIRST_SEED + fold, extract(chosen, data, work))
        args.members = 1
        setup = make_setup(args)
        order, truth, groups = chosen.in_order(setup.samples)
        tests = held_out(truth, groups, chosen)
        out = order[np.concatenate([tests[fold], tests[(fold + 1) % FOLDS]])]
        splits = np.full(len(order), "train", "<U10")
        splits[out] = "test"
        with tempfile.TemporaryDirectory(prefix="dlts-fold-") as scratch:
            fitted = fit_splits(setup, splits, ModelFolder(scratch), log=lambda line: None)
        found = {one.name: evaluate.predict(one, fitted.prepared, out) for one in branches_of(fitted.model)}
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, truth=setup.samples.class_ids[out], first=len(tests[fold]), **found)
        unfinished.rename(path)
        print(f"{chosen.key}  without folds {fold} and {(fold + 1) % FOLDS}", flush=True)
    with np.load(path) as file:
        return dict(file)


def accuracies(tested: Mapping[str, Sequence[Tested]], outer: int) -> dict[str, dict[str, float]]:
    """Of every mean of branches, by name: its accuracy on each set, without a sample of an outer fold."""
    names = [name for name in next(iter(tested.values()))[0] if name not in ("truth", "first")]
    means = [mean for size in range(1, len(names) + 1) for mean in itertools.combinations(names, size)]
    out: dict[str, dict[str, float]] = {}
    for mean in means:
        for key, by_fold in tested.items():
            hits = []
            # Model k has seen neither fold k nor the next one; its samples are in that order.
            for fold, first in ((outer, False), ((outer - 1) % FOLDS, True)):
                own = by_fold[fold]
                part = slice(int(own["first"])) if first else slice(int(own["first"]), None)
                predicted = np.mean([own[name][part] for name in mean], axis=0).argmax(axis=1)
                hits.append(predicted == own["truth"][part])
            out.setdefault(" + ".join(mean), {})[key] = float(np.concatenate(hits).mean())
    return out


def table(tested: Mapping[str, Sequence[Tested]]) -> str:
    """What each outer fold chooses, and how near the others come."""
    lines = ["| outer fold | chosen | accuracies, means over the sets |", "| --- | --- | --- |"]
    for outer in range(FOLDS):
        found = {name: np.mean(list(of.values())) for name, of in accuracies(tested, outer).items()}
        ranked = sorted(found, key=lambda name: -found[name])
        told = ", ".join(f"{name} {found[name]:.4f}" for name in ranked)
        lines.append(f"| {outer} | {ranked[0]} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
