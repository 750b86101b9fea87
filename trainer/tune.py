"""``dlts tune``: look for sizes, learning rate and batch size that suit the samples, with Optuna."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dlts_beam import storage
from dlts_beam.command import crash_told, guarded
from dlts_beam.errors import DltsError
from dlts_beam.spec import digest_of
from trainer.cli import build_parser as train_parser
from trainer.cli import parse_args
from trainer.quiet import softmax_of_one_step
from trainer.settings import MOST_SEED
from trainer.start import load_tensorflow

if TYPE_CHECKING:
    import numpy as np
    import optuna
    from numpy.typing import NDArray

    from trainer.setup import Setup

TRIALS_CSV = "trials.csv"
BEST_JSON = "best.json"
LEARNING_RATES = (1e-4, 1e-2)
BATCH_SIZES = (16, 32, 64, 128)
DROPOUTS = (0.0, 0.6)
SIZE_FROM = 32  # whole-number settings from here on are sizes: they are halved and doubled
SHOWN = 10
# Flags that the printed command has not from the user: those that were tuned, and those of the search alone.
NOT_KEPT = ("model_config", "batch_size", "learning_rate", "output_dir", "trials", "only_evaluate")
# Flags that make no other search; sizes count as they are, wherever they come from.
NOT_IN_NAME = (
    "output_dir", "trials", "checkpoint_seconds", "only_evaluate", "model_config", "members", "members_given",
    "batch_size", "learning_rate", "folds", "leave_out", "random_forest",
)  # fmt: skip

DESCRIPTION = """\
Try sizes of the architecture, learning rates and batch sizes, and keep those that do best on the validation
split; the test split is never looked at. Takes every flag of train-model, of which -n, -b and -l change
nothing here, and --folds and --leave-out only the command that is told. Killed and started again with the
same flags, it goes on after the last finished trial.
"""
EPILOG = """\
example:
  dlts tune -i series --model lstm -e 40 --trials 30 -o tuned
writes tuned/trials.csv and tuned/best.json, and prints the train-model command that uses what did best.
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags of train-model and ``--trials``."""
    parser = train_parser()
    parser.prog, parser.description, parser.epilog = "dlts tune", DESCRIPTION, EPILOG
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="in all (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the search; returns the exit status."""

    def work() -> int:
        args = parse_args(argv, build_parser())
        if args.trials < 1:
            raise DltsError(f"--trials must be 1 or more; got {args.trials}")
        if args.validation_split <= 0 and not args.split_column:
            raise DltsError("tuning chooses by the validation split: give -v above 0, such as -v 0.15")
        load_tensorflow()
        with softmax_of_one_step():
            return _tune(args, sys.argv[1:] if argv is None else argv)

    return guarded(work)


def search_space(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What is tried for each setting of an architecture: sizes by choice, dropout rates by range.

    Settings that are neither (kernel sizes, heads, members, layers) stay as they are.
    """
    space: dict[str, tuple[Any, ...]] = {}
    for name, value in config.items():
        if isinstance(value, int) and value >= SIZE_FROM:
            space[name] = (value // 2, value, value * 2)
        elif isinstance(value, float) and name.endswith("dropout"):
            space[name] = DROPOUTS
    return space


def train_command(argv: Sequence[str], config: str, best: Mapping[str, Any]) -> str:
    """The train-model command that trains as a trial did, for a shell.

    Args:
        argv: flags of ``dlts tune``; those that the search has no part in stay.
        config: path of the sizes that did best.
        best: the trial's ``batch_size`` and ``learning_rate``.
    """
    parser = build_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given = vars(parser.parse_args(argv))
    words = ["dlts", "train-model"]
    for action in parser._actions:
        if action.dest in given and action.dest not in NOT_KEPT:
            words += _words(action, given[action.dest])
    words += ["--model-config", config, "-b", str(best["batch_size"])]
    return shlex.join([*words, "-l", f"{best['learning_rate']:.6g}", "-o", "model"])


def _words(action: argparse.Action, value: Any) -> list[str]:
    """A flag and its value, as they are given on the command line."""
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag if value else action.option_strings[-1]]  # the last one is --no-...
    if action.nargs == "+":
        return [flag, *map(str, value)]
    values = value if isinstance(value, list) else [value]  # a list was given flag by flag
    return [word for each in values for word in (flag, str(each))]


def _tune(args: argparse.Namespace, argv: Sequence[str]) -> int:
    import optuna

    from trainer.devices import cluster
    from trainer.journal import JOURNAL, opened
    from trainer.loop import DivergedError
    from trainer.setup import UntrainableError, make_setup, say, split_samples

    workers, _ = cluster()
    if workers > 1:
        raise DltsError(
            f"dlts tune searches in one process, and TF_CONFIG lists {workers} workers, each of which would "
            "make a search of its own: unset it"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    setup = make_setup(args)
    splits = split_samples(setup, args)
    if not (splits == "validation").any():
        raise DltsError(
            "tuning chooses by the validation split, and no sample is in it: raise -v, or let --split-column "
            "say validation for some samples of every class"
        )
    name = _study_name(args, setup, splits)
    folder = args.output_dir
    with opened(storage.join(folder, JOURNAL), say) as (journal, keep):
        study = optuna.create_study(storage=journal, study_name=name, load_if_exists=True)
        # Where a search goes on, the first seed would suggest again what it suggested then.
        seed = (args.seed + len(study.get_trials(deepcopy=False))) % (MOST_SEED + 1)
        study.sampler = optuna.samplers.TPESampler(seed=seed)
        done = len(_finished(study))
        if done:
            say(f"{done} {'trial is' if done == 1 else 'trials are'} finished already")
        while len(_finished(study)) < args.trials:
            trial = study.ask()
            started = time.monotonic()
            try:
                loss, accuracy = _run_trial(trial, setup, splits)
            except (DivergedError, UntrainableError) as error:
                # These would come again: they are results of the search, and shown in the table. A full disk
                # or a lost worker tells nothing of the trial, which the same command is to run again.
                trial.set_user_attr("failed", str(error))
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                trial.set_user_attr("accuracy", accuracy)
                trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
                study.tell(trial, loss)
            keep()
            say(_line(_finished(study)[-1]))
        finished = _finished(study)
    return _report(args, setup, finished, argv)


def _study_name(args: argparse.Namespace, setup: Setup, splits: NDArray[np.str_]) -> str:
    """Names a search: the same flags and sizes on the same samples, split and weighed the same.

    What ``--model-config`` and ``quality.csv`` say counts, not where they lie.
    """
    from trainer.seen import splits_table

    of_samples = splits_table(setup.samples, splits, setup.spec.classes.names)
    weights = hashlib.sha256(setup.quality.tobytes()).hexdigest()
    flags = {name: value for name, value in vars(args).items() if name not in NOT_IN_NAME}
    specs = [part.spec for part in setup.samples.parts]
    return digest_of([flags, setup.config, setup.spec, specs, of_samples, weights])


def _run_trial(trial: optuna.Trial, setup: Setup, splits: Any) -> tuple[float, float]:
    """Train with what the trial suggests; mean log loss and accuracy on the validation split.

    Raises:
        DivergedError, UntrainableError: what it suggests cannot be trained.
        DltsError: something else came in between.
    """
    import keras
    import numpy as np

    from dlts_beam.spec.model import DEFAULT_SAVED_MODEL
    from trainer import evaluate
    from trainer.folder import ModelFolder
    from trainer.models import branches_of
    from trainer.progress import set_branches
    from trainer.setup import UntrainableError, check_buildable, fit_splits

    config = dict(setup.config)
    for name, values in search_space(setup.config).items():
        if isinstance(values[0], int):
            config[name] = trial.suggest_categorical(name, values)
        else:
            config[name] = trial.suggest_float(name, *values, step=0.1)
    settings = replace(
        setup.settings,
        learning_rate=trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
        batch_size=trial.suggest_categorical("batch_size", BATCH_SIZES),
    )
    chosen = replace(setup, config=config, settings=settings)
    keras.backend.clear_session()
    try:
        check_buildable(chosen)
    except DltsError as error:
        raise UntrainableError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="dlts-tune-") as scratch:
        fitted = fit_splits(chosen, splits, ModelFolder(scratch, is_scratch=True), log=lambda line: None)
    set_branches(branches_of(fitted.model), fitted.reached, DEFAULT_SAVED_MODEL)
    places = np.flatnonzero(splits == "validation")
    probabilities = evaluate.predict(fitted.model, fitted.prepared, places)
    truth = setup.samples.class_ids[places]
    own = np.clip(probabilities[np.arange(len(places)), truth].astype(np.float64), 1e-7, 1)
    accuracy = float((evaluate.predicted_classes(probabilities) == truth).mean())
    return float(-np.log(own).mean()), accuracy


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that came to an end, failed ones too; those that a kill left unfinished do not count."""
    import optuna

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state in ended]


def _line(trial: optuna.trial.FrozenTrial) -> str:
    tried = "  ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(trial.params.items())
    )
    if trial.value is None:
        return f"trial {trial.number}: failed: {trial.user_attrs.get('failed', 'stopped')}  ({tried})"
    return (
        f"trial {trial.number}: loss {trial.value:.4f}  accuracy {trial.user_attrs['accuracy']:.4f}  {tried}"
    )


def _report(
    args: argparse.Namespace, setup: Setup, trials: list[optuna.trial.FrozenTrial], argv: Sequence[str]
) -> int:
    """Write the tables; print the best trials and the command that uses the best one."""
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "validation_loss", "validation_accuracy", "seconds", *names, "failed"])
    for trial in trials:
        attributes = trial.user_attrs
        loss = "" if trial.value is None else f"{trial.value:.6f}"
        told = [attributes.get("accuracy", ""), attributes.get("seconds", "")]
        tried = [trial.params.get(name, "") for name in names]
        writer.writerow([trial.number, loss, *told, *tried, attributes.get("failed", "")])
    storage.write_text(storage.join(args.output_dir, TRIALS_CSV), text.getvalue())
    ranked = sorted(
        (trial for trial in trials if trial.value is not None), key=lambda trial: trial.value or 0
    )
    if not ranked:
        raise DltsError(f"every trial failed, the last with: {trials[-1].user_attrs.get('failed')}")
    print(f"\nbest of {len(trials)} trials on the validation split:")
    for trial in ranked[:SHOWN]:
        print(f"  {_line(trial)}")
    best = ranked[0].params
    config = setup.config | {name: value for name, value in best.items() if name in setup.config}
    path = storage.join(args.output_dir, BEST_JSON)
    storage.write_text(path, json.dumps(config, indent=1) + "\n")
    table = storage.join(args.output_dir, TRIALS_CSV)
    print(f"\nall trials: {table}\nto train with the best:\n  {train_command(argv, path, best)}")
    return 0


if __name__ == "__main__":
    sys.exit(crash_told(main))
