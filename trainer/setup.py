"""From flags to what a training needs: samples, settings, and a fit that can be repeated on other splits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.spec import PreparationSpec, SamplesSpec
from dlts_beam.spec.samples import SAMPLES_JSON
from trainer import split, statistics
from trainer.dataset import Samples, check_agreement, read_samples, read_spec
from trainer.dates import check_dates
from trainer.devices import Devices, choose_devices, seed_everything
from trainer.feed import FitData
from trainer.fit import fit_model, write_models
from trainer.folder import ModelFolder
from trainer.layers import set_statistics
from trainer.models import Architecture, ModelShape, branches_of, build_model, find_architecture
from trainer.options import (
    blocks_caution,
    parse_preparation,
    parse_timeline,
    prepared_days,
    read_config,
    sample_groups,
)
from trainer.prepared import prepare_samples
from trainer.progress import Progress
from trainer.settings import FitSettings
from trainer.weights import check_weights, read_quality, sample_weights

Log = Callable[[str], None]
SERIES_JSON = "series.json"  # of the folder that step 1 writes


class UntrainableError(DltsError):
    """What was asked for cannot be trained here: nothing can be built so, or the memory does not hold it."""


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


@dataclass(frozen=True, eq=False)
class Setup:
    """All that is the same for every fit of one command.

    Attributes:
        settings, architecture, config: how and what to train; config holds every size.
        spec: the first samples folder's spec.
        preparation: as asked for; its fill values are measured for each fit.
        samples: all samples.
        groups: text (n,): what stays on one side of a split.
        quality: float32 (n,): weight of each sample by its quality.
        trusted: bool (n,): samples that may train; the others still count in validation and test.
        devices: what shares each batch.
        deterministic: whether operations are deterministic, None for on CPUs only.
    """

    settings: FitSettings
    architecture: Architecture
    config: dict[str, Any]
    spec: SamplesSpec
    preparation: PreparationSpec
    samples: Samples
    groups: NDArray[np.str_]
    quality: NDArray[np.float32]
    trusted: NDArray[np.bool_]
    devices: Devices
    deterministic: bool | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model and what it was given.

    Attributes:
        model: with the weights of its last epoch.
        shape: what it was built for.
        preparation: with the fill values of its training split.
        prepared: float32 (n, T, P, P, B), every sample as the model takes it.
        valid_share: share of the training values that were observed.
        reached: its branches' progress.
    """

    model: keras.Model
    shape: ModelShape
    preparation: PreparationSpec
    prepared: NDArray[np.float32]
    valid_share: float
    reached: list[Progress]


def make_setup(args: argparse.Namespace) -> Setup:
    """Check the flags, then read the samples; cheap checks come before long work.

    Raises:
        DltsError: whatever the user can put right.
    """
    settings = fit_settings(args)
    devices = choose_devices(args.devices)
    architecture = find_architecture(args.model)
    config = architecture.settings(_sizes(args))
    specs = [read_spec(folder) for folder in args.series_dir]
    check_agreement(specs, args.series_dir)
    check_classes(specs)
    spec = specs[0]
    timeline = parse_timeline(args.timeline, args.composite, spec)
    check_dates(specs, args.series_dir, timeline, args.date_tolerance)
    preparation = parse_preparation(spec, args.bands, args.index, timeline, args.min_valid)
    steps = architecture.fit_shape(model_shape(spec, preparation)).time_steps
    if settings.time_shift >= steps:
        raise DltsError(
            f"--time-shift must be below the number of time steps ({steps}); got {settings.time_shift}"
        )
    for file, kind in ((SAMPLES_JSON, "samples"), (SERIES_JSON, "series")):
        if storage.exists(storage.join(args.output_dir, file)):
            raise DltsError(f"{args.output_dir} is a {kind} folder: give the model one of its own with -o")
    storage.check_writable(args.output_dir)
    samples = read_samples(args.series_dir, centre=not architecture.needs_patch)
    _check_min_valid(samples, preparation)
    quality, trusted = np.ones(len(samples), np.float32), np.ones(len(samples), bool)
    if args.min_quality or args.quality_weights:
        found = read_quality(args.series_dir, samples)
        trusted = found >= args.min_quality
        say(f"{trusted.sum()} of {len(samples)} samples have a quality of at least {args.min_quality:g}")
        quality = found if args.quality_weights else quality
    groups = sample_groups(samples, args.split_by)
    for by in (args.split_by, args.leave_out):
        caution = blocks_caution(samples, by)
        if caution is not None:
            say(f"caution: {caution}")
    return Setup(
        settings,
        architecture,
        config,
        spec,
        preparation,
        samples,
        groups,
        quality,
        trusted,
        devices,
        args.deterministic,
    )


def fit_settings(args: argparse.Namespace) -> FitSettings:
    """The settings that the flags ask for."""
    return FitSettings(**{name: getattr(args, name) for name in FitSettings.__dataclass_fields__})


def split_samples(setup: Setup, args: argparse.Namespace) -> NDArray[np.str_]:
    """The split of every sample (n,), as ``--split-column`` or the fractions say; quality decides who trains.

    Raises:
        DltsError: the samples cannot be split so, or a class is missing from a part or weighs nothing.
    """
    samples = setup.samples
    if args.split_column:
        column = sample_groups(samples, args.split_column, "--split-column")
        splits = split.splits_from_column(column, args.split_column)
    else:
        splits = split.assign_splits(
            samples.class_ids, setup.groups, args.seed, args.validation_split, args.test_split
        )
    splits = split.leave_out(splits, setup.trusted)
    names = setup.spec.classes.names
    split.check_splits(splits, samples.class_ids, names)
    check_weights(setup.quality, samples.class_ids, splits == "train", names)
    return splits


def check_buildable(setup: Setup) -> None:
    """Build the model once and forget it, so that sizes that do not go together are told before long work.

    Raises:
        DltsError: they do not, or the batch is too small for the devices.
    """
    _check_batch(setup)
    build_model(setup.architecture.name, model_shape(setup.spec, setup.preparation), setup.config)
    keras.backend.clear_session()  # the names of the next model's layers are those of a first one


def fit_splits(
    setup: Setup, splits: NDArray[np.str_], folder: ModelFolder, log: Log, key: str = ""
) -> Fitted:
    """Train on one assignment of the samples to splits.

    Everything that is measured (fill values, statistics, weights) is measured on its training split alone.

    Raises:
        UntrainableError: the memory does not hold it.
        DltsError: the training failed.
    """
    samples, settings = setup.samples, setup.settings
    training = splits == "train"
    preparation, valid_share = statistics.fill_means(samples, training, setup.preparation)
    devices = setup.devices
    _check_batch(setup)
    deterministic = not devices.on_gpu if setup.deterministic is None else setup.deterministic
    seed_everything(settings.seed, deterministic)
    prepared = prepare_samples(samples, preparation)
    days = prepared_days(samples, preparation)
    shape = setup.architecture.fit_shape(model_shape(setup.spec, preparation, days))
    measured = statistics.measure(prepared, training)
    if settings.mixed_precision:
        keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        with devices.scope():
            model = build_model(setup.architecture.name, shape, setup.config)
            set_statistics(model, measured)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    places = np.flatnonzero(training)
    weights = sample_weights(samples.class_ids, places, len(setup.spec.classes), settings.class_weights)
    data = FitData(
        series=prepared,
        class_ids=samples.class_ids,
        classes=len(setup.spec.classes),
        training=places,
        validation=np.flatnonzero(splits == "validation"),
        weights=weights * setup.quality,
        scale=measured.scale,
    )
    where = ", ".join(devices.names)
    log(f"training {setup.architecture.name} ({model.count_params():,} parameters) on {where}")
    try:
        reached = fit_model(model, data, settings, folder, log, key, devices)
    except tf.errors.ResourceExhaustedError as error:
        raise UntrainableError(
            f"the memory does not hold the training of {setup.architecture.name} "
            f"({model.count_params():,} parameters) in batches of {settings.batch_size} on {where}: give "
            "smaller batches (-b), or smaller sizes with --model-config"
        ) from error
    if devices.is_chief and (settings.mixed_precision or devices.strategy is not None):
        # What is saved computes in float32 on one device, however it was trained.
        model = build_model(setup.architecture.name, shape, setup.config)
        write_models(model, branches_of(model), reached, folder)
    return Fitted(model, shape, preparation, prepared, valid_share, reached)


def model_shape(spec: SamplesSpec, preparation: PreparationSpec, days: tuple[float, ...] = ()) -> ModelShape:
    """The shape of the samples once they are prepared."""
    steps = len(spec.steps) if preparation.timeline is None else preparation.timeline.count
    return ModelShape(steps, len(preparation.names), spec.patch, len(spec.classes), days)


def check_classes(specs: list[SamplesSpec]) -> None:
    """Raises `DltsError` unless there are two classes or more, and every class has samples."""
    names = specs[0].classes.names
    counts = [sum(spec.class_counts[k] for spec in specs) for k in range(len(names))]
    total = sum(counts)
    present = [name for name, count in zip(names, counts, strict=True) if count]
    if not total:
        raise DltsError("the samples folder holds no samples: extract some first")
    if len(present) < 2:
        raise DltsError(
            f"all {total} samples are of one class ({present[0]}): a model needs at least two classes"
        )
    if total < len(names):
        raise DltsError(
            f"there are fewer samples ({total}) than classes ({len(names)}): extract more samples"
        )
    missing = [name for name in names if name not in present]
    if missing:
        raise DltsError(
            f"no sample is of class {', '.join(missing)}: add samples, or leave the class out of classes.csv"
        )


def _check_min_valid(samples: Samples, preparation: PreparationSpec) -> None:
    """Without a timeline a map has as many time steps as the samples; with one it may have any number."""
    most = len(samples.spec.steps)
    if preparation.timeline is None and preparation.min_valid > most:
        raise DltsError(
            f"--min-valid must be at most the number of time steps ({most}), or every map would be empty; "
            f"got {preparation.min_valid}"
        )


def _check_batch(setup: Setup) -> None:
    size, replicas = setup.settings.batch_size, setup.devices.replicas
    if min(size, len(setup.samples)) < replicas:
        raise DltsError(f"-b {size} is too small for {replicas} devices: each needs a sample")


def _sizes(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--members`` says, then ``--model-config``, then ``--model auto``."""
    config = read_config(args.model_config)
    if args.members is None:
        return config
    members = {"members": args.members}
    return config | members if args.members_given else members | config
