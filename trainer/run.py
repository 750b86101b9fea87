"""What ``dlts train-model`` does, from flags to a model folder; ``-n`` is in ``only_evaluate``."""

from __future__ import annotations

import argparse
import hashlib
import platform
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from dlts_beam import __version__, storage
from dlts_beam.model_folder import saved_model_digest
from dlts_beam.spec import ModelSpec, ServingSpec, digest_of
from dlts_beam.spec.model import DEFAULT_SAVED_MODEL, SAVED_MODELS
from trainer import about, cautions, evaluate, report, seen, split
from trainer.crossval import FOLDS, check_folds, cross_validate
from trainer.export import export_serving, serving_digest
from trainer.folder import REPORT_HTML, ModelFolder
from trainer.forest import forest_predictions, learned_from
from trainer.models import branches_of
from trainer.progress import CHECKPOINT, Progress, are_of_another, epochs_of, load_checkpoint, set_branches
from trainer.results import (
    Predictions,
    forest_summary,
    history_section,
    log_confusion,
    measured,
    predict_samples,
    write_results,
    wrong_section,
)
from trainer.setup import Fitted, Setup, check_buildable, fit_splits, make_setup, say, split_samples
from trainer.workers import check_alike, weights_digest

CHECKED_SAMPLES = 256  # real samples on which the serving models are compared with Keras
NO_FOREST = (
    "no random forest stands beside the model: without a test and a validation split it could only be "
    "measured on the samples that it learned from"
)
NOT_ALIKE = (
    "the workers would train differently: start all of them with the same command, on the same samples and "
    "with the same versions of everything"
)
# Flags that say where things lie or how a run goes, not what comes out.
NOT_SETTINGS = ("series_dir", "output_dir", "only_evaluate", "checkpoint_seconds", "members_given")


def train(args: argparse.Namespace) -> int:
    """Train, evaluate, export; returns 0.

    Raises:
        DltsError: whatever the user can put right.
    """
    split.check_fractions(args.validation_split, args.test_split)
    setup = make_setup(args)
    args.members = setup.config.get("members")  # what the report tells is what was trained
    samples, names = setup.samples, setup.spec.classes.names
    splits = split_samples(setup, args)
    say(split.table(splits, samples.class_ids, names))
    few = cautions.unobserved(samples, setup.preparation)
    if few is not None:
        say(f"warning: {few}")
    if args.folds or args.leave_out:
        check_folds(setup, args)
    check_buildable(setup)
    folder = ModelFolder(args.output_dir)
    splits_csv = seen.splits_table(samples, splits, names)
    key = _key(args, setup, splits_csv)
    check_alike(setup.devices, key, NOT_ALIKE)
    if not setup.devices.is_chief:
        _fit(args, setup, splits, folder, key)
        return 0  # the chief writes for all
    with folder.locked() as check_lock:
        folder.clear_leftovers(CHECKPOINT)
        if load_checkpoint(folder.join(CHECKPOINT), key) is None:
            if folder.is_complete():
                say(f"the model of an earlier training in {folder.path} is replaced")
            elif are_of_another([folder.join(name) for name in (CHECKPOINT, FOLDS)], key):
                say(
                    f"the unfinished training in {folder.path} had other flags, samples or versions: it is "
                    "replaced"
                )
            folder.discard()
        storage.write_text(folder.join(split.SPLITS_CSV), splits_csv)
        fitted, extra = _fit(args, setup, splits, folder, key)
        check_lock()
        _write(args, setup, splits, folder, fitted, extra)
    return 0


def _fit(
    args: argparse.Namespace, setup: Setup, splits: NDArray[np.str_], folder: ModelFolder, key: str
) -> tuple[Fitted, dict[str, Any]]:
    """What every worker does: cross-validate where that is asked for, and train."""
    cross_validated = args.folds or args.leave_out
    extra = {"cross_validation": cross_validate(setup, args, folder, key)} if cross_validated else {}
    fitted = fit_splits(setup, splits, folder, say, key)
    if setup.devices.workers > 1:
        say(f"worker {setup.devices.worker}: weights {weights_digest(fitted.model)}")
    return fitted, extra


def _write(
    args: argparse.Namespace,
    setup: Setup,
    splits: NDArray[np.str_],
    folder: ModelFolder,
    fitted: Fitted,
    extra: dict[str, Any],
) -> None:
    """Measure the model, export it and write the rest of the folder, ``model.json`` last."""
    samples, names = setup.samples, setup.spec.classes.names
    say(f"{fitted.valid_share:.1%} of the training values were observed; gaps are filled linearly in time")
    branches = branches_of(fitted.model)
    set_branches(branches, fitted.reached, DEFAULT_SAVED_MODEL)
    part = next(name for name in ("test", "validation", "train") if (splits == name).any())
    if part != "test":
        say(f"there is no test split: the figures below are of the {part} split and flatter")
    places = np.flatnonzero(splits == part)
    predictions = predict_samples(fitted.model, fitted.prepared, samples, places, setup.groups)
    found = _measure(predictions, names, args.seed, part)
    no_forest = args.random_forest and part == "train" and not extra
    if args.random_forest and part != "train":
        found["random_forest"] = _forest_beside(fitted, setup, splits, part, predictions)
    found = {"split": part, "model": DEFAULT_SAVED_MODEL, **found, **extra}
    say(evaluate.table(found))
    if no_forest:
        say(NO_FOREST)
    serving = export_all(fitted, setup, folder, np.flatnonzero(splits == "train"))
    log_confusion(folder, found, names)
    training = splits == "train"
    cloudy = cautions.clouds(fitted.prepared, training)
    if cloudy is not None:
        say(f"warning: {cloudy}")
    wrong = wrong_section(
        predictions,
        samples,
        fitted.prepared,
        training,
        fitted.shape.days,
        fitted.preparation.names,
        setup.spec.classes,
    )
    sections = [
        *([] if cloudy is None else [report.note(cloudy)]),
        *([report.section("Random forest", f"<p>{NO_FOREST}.</p>")] if no_forest else []),
        wrong,
        history_section(fitted.reached, int(training.sum())),
        about.training_section(setup, fitted, splits, args),
        _settings_section(args, fitted.reached),
    ]
    write_results(folder, found, setup.spec.classes, part, sections)
    folder.write_spec(_model_spec(args, setup, fitted, serving, folder, found))
    for unfinished in (CHECKPOINT, FOLDS):
        storage.remove(folder.join(unfinished))
    say(f"model folder: {folder.path}\nreport: {folder.join(REPORT_HTML)}")


def export_all(
    fitted: Fitted, setup: Setup, folder: ModelFolder, training: NDArray[np.int64]
) -> ServingSpec:
    """Export the three models for step 4, each checked against Keras; returns their shapes."""
    branches = branches_of(fitted.model)
    some = training[:: max(1, len(training) // CHECKED_SAMPLES)][:CHECKED_SAMPLES]
    checked = np.asarray(fitted.prepared[some])
    serving: ServingSpec | None = None
    of_epochs: dict[tuple[int, ...], str] = {}
    for name in SAVED_MODELS:
        same = of_epochs.setdefault(epochs_of(fitted.reached, name), name)
        if same == name:
            set_branches(branches, fitted.reached, name)
            place = folder.serving_path(name)
            serving = export_serving(fitted.model, setup.architecture, fitted.shape, place, checked)
        else:
            folder.copy_serving(same, name)
    assert serving is not None
    return serving


def _measure(predictions: Predictions, names: Sequence[str], seed: int, part: str) -> dict[str, Any]:
    truth, predicted, groups = predictions.truth, predictions.predicted, predictions.groups
    return measured(truth, predicted, groups, names, seed, unseen=part == "test")


def _forest_beside(
    fitted: Fitted, setup: Setup, splits: NDArray[np.str_], part: str, predictions: Predictions
) -> dict[str, Any]:
    """The measures of a random forest on the same samples, none of which it has learned from."""
    samples, names = setup.samples, setup.spec.classes.names
    known = np.flatnonzero((splits == "train") | ((splits == "validation") & (part != "validation")))
    forest = forest_predictions(fitted.prepared, samples.class_ids, known, predictions.places)
    found = measured(predictions.truth, forest, predictions.groups, names, setup.settings.seed)
    return forest_summary(found, learned_from(len(known)))


def _model_spec(
    args: argparse.Namespace,
    setup: Setup,
    fitted: Fitted,
    serving: ServingSpec,
    folder: ModelFolder,
    found: dict[str, Any],
) -> ModelSpec:
    spec, preparation = setup.spec, fitted.preparation
    places = {name: folder.serving_path(name) for name in SAVED_MODELS}
    saved = {name: saved_model_digest(place) for name, place in places.items()}
    summary = ("split", "model", "samples", "overall_accuracy", "kappa", "macro_f1", "random_forest")
    return ModelSpec(
        samples=spec,
        steps=spec.steps,
        bands=tuple(band for name in preparation.bands for band in spec.bands if band.name == name),
        classes=spec.classes,
        preparation=preparation,
        architecture=setup.architecture.name,
        config=setup.config,
        settings=_flags(args),
        serving=serving,
        serving_sha256={name: serving_digest(place) for name, place in places.items()},
        saved_model_sha256={name: digest for name, digest in saved.items() if digest is not None},
        splits_sha256=seen.table_digest(storage.read_text(folder.join(split.SPLITS_CSV))),
        metrics={name: found[name] for name in summary if name in found},
        versions=_versions(),
    )


def _key(args: argparse.Namespace, setup: Setup, splits_csv: str) -> str:
    """Names a training: the same flags on the same samples, weighed the same, with the same software."""
    samples = hashlib.sha256("\n".join(setup.samples.ids.tolist()).encode()).hexdigest()
    specs = [part.spec for part in setup.samples.parts]
    weights = hashlib.sha256(setup.quality.tobytes()).hexdigest()
    parts = [_flags(args), setup.config, setup.spec, specs, samples, splits_csv, weights, _versions()]
    return digest_of(parts)


def _settings_section(args: argparse.Namespace, reached: Sequence[Progress]) -> str:
    """The flags, and what came of those that only bound the number of epochs."""
    trained = {"epochs trained": max(len(progress.history) for progress in reached)}
    return about.settings_section(_flags(args) | trained | _versions())


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that say how the model was made."""
    return {name: value for name, value in sorted(vars(args).items()) if name not in NOT_SETTINGS}


def _versions() -> dict[str, str]:
    return {
        "dlts_beam": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
