"""What ``dlts train-model`` does, from flags to a model folder."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from dlts_beam import __version__, storage
from dlts_beam.errors import DltsError
from dlts_beam.spec import ModelSpec, PreparationSpec, SamplesSpec, ServingSpec
from dlts_beam.spec.model import DEFAULT_SAVED_MODEL, SAVED_MODELS
from trainer import evaluate, plots, report, split, statistics
from trainer.dataset import Samples, read_samples, read_spec
from trainer.export import export_serving, serving_digest
from trainer.feed import FitData
from trainer.fit import FitSettings, Progress, fit_model, seed_everything
from trainer.folder import CONFUSION_PNG, METRICS_JSON, REPORT_HTML, ModelFolder
from trainer.layers import set_statistics
from trainer.models import Architecture, ModelShape, build_model, find_architecture
from trainer.options import parse_preparation, parse_timeline, prepared_days, read_config, sample_groups
from trainer.prepared import observed_steps, prepare_samples

CHECKED_SAMPLES = 256  # real samples on which the serving models are compared with Keras
EVALUATION = "evaluation"  # subfolder for the files of --only-evaluate


def train(args: argparse.Namespace) -> int:
    """Train, evaluate, export; returns 0.

    Raises:
        DltsError: whatever the user can put right.
    """
    settings = FitSettings(args.seed, args.epochs, args.batch_size, args.learning_rate)
    split.check_fractions(args.validation_split, args.test_split)
    architecture = find_architecture(args.model)
    config = architecture.settings(read_config(args.model_config))
    folder = ModelFolder(args.output_dir)
    spec = read_spec(args.series_dir)
    check_classes(spec)
    timeline = parse_timeline(args.timeline, args.composite, spec)
    preparation = parse_preparation(spec, args.bands, args.index, timeline, args.min_valid)
    architecture.fit_shape(_shape(spec, preparation, ()))
    storage.check_writable(folder.path)

    samples = read_samples([args.series_dir], centre=not architecture.needs_patch)
    names = spec.classes.names
    splits = _splits(args, samples)
    split.check_splits(splits, samples.class_ids, names)
    print(split.table(splits, samples.class_ids, names), flush=True)
    training = splits == "train"
    preparation, valid_share = statistics.fill_means(samples, training, preparation)
    print(f"{valid_share:.1%} of the training values are valid; gaps are filled linearly in time", flush=True)
    _warn_of_unobserved(samples, preparation)

    seed_everything(args.seed)
    prepared = prepare_samples(samples, preparation)
    shape = architecture.fit_shape(_shape(spec, preparation, prepared_days(samples, preparation)))
    model = build_model(args.model, shape, config)
    set_statistics(model, statistics.measure(prepared, training))
    folder.discard()
    storage.write_text(
        folder.join(split.SPLITS_CSV),
        split.to_csv(samples.ids, splits, [names[k] for k in samples.class_ids.tolist()]),
    )
    data = FitData(
        series=prepared,
        class_ids=samples.class_ids,
        classes=len(names),
        training=np.flatnonzero(training),
        validation=np.flatnonzero(splits == "validation"),
        weights=np.ones(len(samples), np.float32),
    )
    print(f"training {args.model} ({model.count_params():,} parameters)", flush=True)
    progress = fit_model(model, data, settings, folder, log=lambda line: print(line, flush=True))

    model.set_weights(progress.best[DEFAULT_SAVED_MODEL])
    measured_on = next(part for part in ("test", "validation", "train") if (splits == part).any())
    if measured_on != "test":
        print(f"there is no test split: the figures below are of the {measured_on} split and flatter")
    found, matrix = _measure(model, prepared, samples, splits == measured_on, names)
    found = {"split": measured_on, "model": DEFAULT_SAVED_MODEL, **found}
    serving, digests = export_all(model, progress, architecture, shape, folder, prepared[data.training])
    _write_results(
        folder, "", found, matrix, spec, measured_on, [_history_section(progress), _settings(args)]
    )
    folder.write_spec(
        ModelSpec(
            samples=spec,
            steps=spec.steps,
            bands=tuple(band for name in preparation.bands for band in spec.bands if band.name == name),
            classes=spec.classes,
            preparation=preparation,
            architecture=args.model,
            config=config,
            settings=_flags(args),
            serving=serving,
            serving_sha256=digests,
            metrics=_summary(found),
            versions=_versions(),
        )
    )
    print(f"model folder: {folder.path}\nreport: {folder.join(REPORT_HTML)}")
    return 0


def evaluate_only(args: argparse.Namespace) -> int:
    """Measure an existing model folder on samples; returns 0.

    Samples that it was trained or validated on are left out, unless it was trained with ``-t 0``: then all
    count. The files go to ``evaluation/`` in the model folder, so the training's own stay as they are.

    Raises:
        DltsError: the samples do not fit the model, or none is left.
    """
    folder = ModelFolder(args.output_dir)
    model_spec = folder.read_spec()
    architecture = find_architecture(model_spec.architecture)
    spec = read_spec(args.series_dir)
    check_fit(spec, model_spec, args.series_dir)
    samples = read_samples([args.series_dir], centre=not architecture.needs_patch)
    path = folder.join(split.SPLITS_CSV)
    known = split.from_csv(storage.read_text(path), path)
    tested = "test" in known.values()
    chosen = np.array([not tested or known.get(name, "test") == "test" for name in samples.ids.tolist()])
    if not chosen.any():
        raise DltsError(
            f"all samples in {args.series_dir} were used to train the model in {folder.path}: nothing is "
            "left to measure it on; give other samples"
        )
    print(
        f"{int(chosen.sum())} of {len(samples)} samples are measured"
        + ("" if tested else " (-t 0: all of them)")
    )
    prepared = prepare_samples(samples, model_spec.preparation)
    model = folder.load_model(DEFAULT_SAVED_MODEL)
    names = model_spec.classes.names
    found, matrix = _measure(model, prepared, samples, chosen, names)
    found = {"split": "test" if tested else "all", "model": DEFAULT_SAVED_MODEL, **found}
    _write_results(folder, EVALUATION, found, matrix, spec, found["split"], [_settings(args)])
    print(f"report: {folder.join(EVALUATION, REPORT_HTML)}")
    return 0


def check_classes(spec: SamplesSpec) -> None:
    """Raises `DltsError` unless there are at least two classes that have samples, and a sample for each."""
    names = spec.classes.names
    present = [name for name, count in zip(names, spec.class_counts, strict=True) if count]
    if len(present) < 2:
        only = present[0] if present else "none"
        raise DltsError(
            f"all {spec.samples} samples are of one class ({only}): a model needs at least two classes"
        )
    if spec.samples < len(names):
        raise DltsError(
            f"there are fewer samples ({spec.samples}) than classes ({len(names)}): extract more samples"
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise DltsError(
            f"no sample is of class {', '.join(missing)}: add samples, or leave the class out of classes.csv"
        )


def check_fit(spec: SamplesSpec, model: ModelSpec, folder: str) -> None:
    """Samples fit a model where its bands are there and time steps, patch and classes agree.

    Raises:
        DltsError: what differs.
    """
    have = [band.name for band in spec.bands]
    missing = [name for name in model.preparation.bands if name not in have]
    problems = []
    if missing:
        problems.append(f"they have no band {', '.join(missing)}")
    if model.preparation.timeline is None and len(spec.steps) != len(model.steps):
        problems.append(f"they have {len(spec.steps)} time steps, the model takes {len(model.steps)}")
    if model.serving.patch > 1 and spec.patch != model.serving.patch:
        problems.append(f"their patch is {spec.patch}, the model takes {model.serving.patch}")
    if spec.classes.names != model.classes.names or spec.classes.values != model.classes.values:
        problems.append(
            f"their classes are {', '.join(spec.classes.names)}, the model's {', '.join(model.classes.names)}"
        )
    if problems:
        raise DltsError(f"the samples in {folder} do not fit the model: {'; '.join(problems)}")


def export_all(
    model: keras.Model,
    progress: Progress,
    architecture: Architecture,
    shape: ModelShape,
    folder: ModelFolder,
    real: NDArray[np.float32],
) -> tuple[ServingSpec, dict[str, str]]:
    """Export the three models for step 4, each checked against Keras; returns shapes and digests."""
    digests: dict[str, str] = {}
    serving: ServingSpec | None = None
    checked = np.asarray(real[:: max(1, len(real) // CHECKED_SAMPLES)][:CHECKED_SAMPLES])
    of_epoch: dict[int, str] = {}
    for name in SAVED_MODELS:
        same = of_epoch.setdefault(progress.best_epoch[name], name)
        if same == name:
            model.set_weights(progress.best[name])
            serving = export_serving(model, architecture, shape, folder.serving_path(name), checked)
        else:
            folder.copy_serving(same, name)
        digests[name] = serving_digest(folder.serving_path(name))
    assert serving is not None
    return serving, digests


def _shape(spec: SamplesSpec, preparation: PreparationSpec, days: tuple[float, ...]) -> ModelShape:
    steps = len(spec.steps) if preparation.timeline is None else preparation.timeline.count
    return ModelShape(steps, len(preparation.names), spec.patch, len(spec.classes), days)


def _splits(args: argparse.Namespace, samples: Samples) -> NDArray[np.str_]:
    if args.split_column:
        return split.splits_from_column(
            sample_groups(samples, args.split_column, "--split-column"), args.split_column
        )
    groups = sample_groups(samples, args.split_by)
    return split.assign_splits(samples.class_ids, groups, args.seed, args.validation_split, args.test_split)


def _warn_of_unobserved(samples: Samples, preparation: PreparationSpec) -> None:
    observed = observed_steps(samples, preparation.bands)
    few = int((observed < preparation.min_valid).sum())
    if few:
        print(
            f"warning: {few} samples are observed at fewer than {preparation.min_valid} time steps; they "
            "take the training mean (in a map such pixels are nodata)"
        )


def _measure(
    model: keras.Model,
    prepared: NDArray[np.float32],
    samples: Samples,
    chosen: NDArray[np.bool_],
    names: tuple[str, ...],
) -> tuple[dict[str, Any], NDArray[np.int64]]:
    places = np.flatnonzero(chosen)
    predicted = evaluate.predicted_classes(evaluate.predict(model, prepared, places))
    matrix = evaluate.confusion_matrix(samples.class_ids[places], predicted, len(names))
    found = evaluate.metrics(matrix, names)
    print(evaluate.table(found), flush=True)
    return found, matrix


def _write_results(
    folder: ModelFolder,
    where: str,
    found: dict[str, Any],
    matrix: NDArray[np.int64],
    spec: SamplesSpec,
    part: str,
    sections: list[str],
) -> None:
    """Write metrics.json, the confusion matrix and report.html into the folder or a subfolder."""
    inside = ModelFolder(folder.join(where) if where else folder.path)
    inside.write_json(METRICS_JSON, found)
    png = plots.confusion_png(matrix, spec.classes.names, f"{part} split, {found['samples']} samples")
    storage.write_bytes(inside.join(CONFUSION_PNG), png)
    colours = [row.colour for row in spec.classes.rows]
    accuracy = report.accuracy_section(found, colours, part, png)
    notes = [] if part == "test" else [report.note(f"Measured on the {part} split: the figures flatter.")]
    title = f"Model {storage.name(folder.path)}"
    storage.write_text(inside.join(REPORT_HTML), report.page(title, [*notes, accuracy, *sections]))


def _history_section(progress: Progress) -> str:
    png = plots.history_png(progress.history, progress.best_epoch)
    told = ", ".join(f"{name}: epoch {epoch}" for name, epoch in progress.best_epoch.items())
    return report.section(
        "History", report.picture(png, "loss and accuracy by epoch"), f"<p>Saved models: {told}.</p>"
    )


def _settings(args: argparse.Namespace) -> str:
    return report.settings_section(_flags(args) | _versions())


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """All flags but those that say where things lie."""
    return {
        name: value for name, value in sorted(vars(args).items()) if name not in ("series_dir", "output_dir")
    }


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    keys = ("split", "model", "samples", "overall_accuracy", "kappa", "macro_f1")
    return {key: found[key] for key in keys}


def _versions() -> dict[str, str]:
    return {
        "dlts_beam": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
