"""Accuracy of every architecture on the real sets, in grouped folds, beside a random forest.

    python -m benchmarks.accuracy [--sets NAME ...] [--models NAME ...] [--seeds 1 2 3]

Each set goes through the product's own steps 1 and 2; series are prepared, models trained and classes chosen
by the trainer's own functions. One configuration for all sets: the one of ``--model auto``, sizes of the
other architectures at their defaults. Results are appended to a file of JSON lines, one for each fold, and
what is in it already is not run again; the table, a page of Markdown beside it, is written from that file
alone. For a run of your own name another file with ``--results``. Several processes may share one results
file, each with sets of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._accuracy_notes import NOTES
from benchmarks._accuracy_runs import (
    AUTO,
    FOREST,
    Record,
    append,
    check_folds,
    collect,
    digits,
    read_records,
)
from benchmarks._accuracy_sets import SETS, RealSet
from benchmarks._accuracy_table import page

if TYPE_CHECKING:
    from trainer.setup import Fitted

FOLDS = 5
MODELS = (FOREST, AUTO, "tempcnn", "lstm_fcn", "transformer", "lstm", "conv_bilstm")
RESULTS = Path("docs/accuracy.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [one.key for one in SETS]
    parser.add_argument("--data", default="../shared/data", help="folder of the sets (default: %(default)s)")
    parser.add_argument("--sets", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=(FOREST, AUTO), metavar="NAME",
                        help=f"of {', '.join(MODELS)} (default: {FOREST} {AUTO})")  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--table", type=Path, help="default: beside --results, ending in .md")
    parser.add_argument("--work", type=Path, help="folder for series and samples (default: a passing one)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a training (default: 1)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start nothing new after these")
    args = parser.parse_args(argv)
    if min(args.seeds) < 1:
        parser.error("--seeds are numbers from 1")
    until = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory(prefix="dlts-accuracy-") as scratch:
        for model in args.models:
            for seed in args.seeds:
                for chosen in (one for one in SETS if one.key in args.sets):
                    run(chosen, model, seed, args, args.work or Path(scratch), until)
    write_table(args.results, args.table or args.results.with_suffix(".md"))


def write_table(results: Path, table: Path) -> None:
    """Write the page; the repository's own ends with what is said of its results.

    Raises:
        SystemExit: no training has all its folds yet.
    """
    records = read_records(results)
    if not any(collect(told, records) for told in records if "truth" in told):
        raise SystemExit(f"{results} has no training with all its folds yet: {table} is not written")
    own = results.resolve() == RESULTS.resolve()
    table.write_text(page(records, NOTES if own else ""), encoding="utf-8")


def run(chosen: RealSet, model: str, seed: int, args: argparse.Namespace, work: Path, until: float) -> None:
    """Train and test on all folds that the results do not have yet."""
    known = [record for record in read_records(args.results) if record["set"] == chosen.key]
    done = {(record.get("model"), record.get("seed"), record.get("fold")) for record in known}
    missing = [fold for fold in range(FOLDS) if (model, seed, fold) not in done]
    if not missing or time.monotonic() > until:
        return
    use_threads(args.threads)
    from trainer.setup import make_setup

    folder = extract(chosen, Path(args.data), work)
    setup = make_setup(flags(AUTO if model == FOREST else model, seed, folder))
    order, truth, groups = chosen.in_order(setup.samples)
    tests = held_out(truth, groups, chosen)
    description = describe(chosen, truth, tests, groups)
    if (None, None, None) not in done:
        append(args.results, description)
    check_folds(args.results, known, description)
    for fold in missing:
        if time.monotonic() > until:
            return
        test = order[tests[fold]]
        splits = np.full(len(order), "train", "<U10")
        splits[test] = "test"
        record: Record = {"set": chosen.key, "model": model, "seed": seed, "fold": fold}
        record |= measure(setup, model, seed, splits, test)
        append(args.results, record)
        hits = {k: np.mean(digits(v) == truth[tests[fold]]) for k, v in record["predicted"].items()}
        shown = "  ".join(f"{name} {share:.4f}" for name, share in list(hits.items())[:4])
        print(f"{chosen.key}  seed {seed}  fold {fold}  {record['seconds']:.0f} s  {shown}", flush=True)


def use_threads(count: int) -> None:
    """Load TensorFlow, with so many threads for a training."""
    from trainer.start import load_tensorflow

    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = str(count)
    load_tensorflow()


def extract(chosen: RealSet, data: Path, work: Path) -> Path:
    """Steps 1 and 2 of the product; gives the samples folder."""
    from pipelines.cli import main as dlts

    source, series, samples = (
        data / chosen.name,
        *(work / chosen.name / part for part in ("series", "samples")),
    )
    if not (samples / "samples.json").exists():
        first = [flag.format(source) for flag in chosen.series]
        second = [flag.format(source) for flag in chosen.samples]
        for argv in (
            ["generate-img-series", *first, "-o", str(series)],
            ["generate-series", "-i", str(series), *second, "-o", str(samples)],
        ):
            if dlts(argv):
                raise SystemExit(f"dlts {argv[0]} failed on {chosen.name}: see above")
    return samples


def flags(model: str, seed: int, folder: Path) -> argparse.Namespace:
    """The flags of a training: those of ``--model auto``, whatever the architecture."""
    from trainer.cli import parse_args
    from trainer.recipes import AUTO_FLAGS

    argv = ["-i", str(folder), "-o", str(folder.parent / "model"), "-s", str(seed), "--model", model]
    args = parse_args(argv)
    if model != AUTO:
        for name, value in AUTO_FLAGS.items():
            if name not in ("model", "members"):
                setattr(args, name, value)
    return args


def held_out(truth: NDArray[np.int64], groups: NDArray[Any], chosen: RealSet) -> list[NDArray[np.int64]]:
    """The test samples of each fold, made as in the READMEs; samples are in the order of their file."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit

    by_group = chosen.groups is not None
    if chosen.training:
        cutter = StratifiedShuffleSplit(FOLDS, train_size=chosen.training, random_state=0)
    else:
        kind = StratifiedGroupKFold if by_group else StratifiedKFold
        cutter = kind(FOLDS, shuffle=True, random_state=0)
    return [
        np.sort(test) for _, test in cutter.split(np.zeros(len(truth)), truth, groups if by_group else None)
    ]


def measure(setup: Any, model: str, seed: int, splits: NDArray[np.str_], test: NDArray[np.int64]) -> Record:
    """Train on one fold's training samples; the predicted class ids of its test samples, and what it cost."""
    from trainer import evaluate
    from trainer.folder import ModelFolder
    from trainer.forest import forest_predictions
    from trainer.prepared import prepare_samples
    from trainer.setup import fit_splits
    from trainer.statistics import fill_means

    start = time.process_time()
    if model == FOREST:
        preparation, _ = fill_means(setup.samples, splits == "train", setup.preparation)
        prepared = prepare_samples(setup.samples, preparation)
        training = np.flatnonzero(splits == "train")
        # Seeds 1, 2, 3 are the forest's 0, 1, 2: the READMEs quote random_state 0.
        found = forest_predictions(prepared, setup.samples.class_ids, training, test, seed - 1)
        return {"seconds": _seconds(start), "predicted": {FOREST: _text(found)}}
    with tempfile.TemporaryDirectory(prefix="dlts-fold-") as scratch:
        fitted = fit_splits(setup, splits, ModelFolder(scratch), log=lambda line: None)
    predicted = {
        name: _text(evaluate.predicted_classes(probabilities))
        for name, probabilities in parts(fitted, model, test)
    }
    return {
        "seconds": _seconds(start),
        "parameters": fitted.model.count_params(),
        "predicted": predicted,
    }


def parts(fitted: Fitted, model: str, test: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Probabilities of the model and, where it averages branches, of parts of the mean and of each branch."""
    from trainer import evaluate
    from trainer.models import branches_of

    yield model, evaluate.predict(fitted.model, fitted.prepared, test)
    if model != AUTO:
        return
    found = {
        branch.name: evaluate.predict(branch, fitted.prepared, test) for branch in branches_of(fitted.model)
    }
    yield "small_forest", found.pop("forest")
    pairs = [(found[f"ltae{member}"] + found[f"mlp{member}"]) / 2 for member in range(len(found) // 2)]
    yield "three_pairs", np.mean(pairs, axis=0)
    for member, pair in enumerate(pairs):
        yield f"ltae_mlp{member}", pair
    yield from found.items()


def describe(
    chosen: RealSet, truth: NDArray[np.int64], tests: list[NDArray[np.int64]], groups: NDArray[Any]
) -> Record:
    """What the table must know of a set."""
    _, group_of = np.unique(groups, return_inverse=True)
    title = chosen.title + (f", trained on {chosen.training}" if chosen.training else "")
    return {
        "set": chosen.key,
        "title": title,
        "grouping": chosen.grouping,
        "truth": _text(truth),
        "tests": [test.tolist() for test in tests],
        "groups": group_of.tolist(),
    }


def _text(class_ids: NDArray[np.int64]) -> str:
    """Class ids below 10 as one text of digits."""
    return "".join(map(str, class_ids.tolist()))


def _seconds(start: float) -> float:
    return round(time.process_time() - start, 1)


if __name__ == "__main__":
    main()
