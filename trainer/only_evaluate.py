"""What ``dlts train-model -n`` does: measure a model folder on samples, and train nothing."""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import DATE_TOLERANCE
from dlts_beam.spec import ModelSpec, SamplesSpec
from dlts_beam.spec.model import DEFAULT_SAVED_MODEL
from trainer import about, cautions, evaluate, report, split
from trainer.cli import SPLIT_BY
from trainer.dataset import Samples, check_agreement, read_samples, read_spec
from trainer.dates import dates_problem
from trainer.export import check_loaded
from trainer.folder import EVALUATION, REPORT_HTML, ModelFolder
from trainer.models import find_architecture
from trainer.options import blocks_caution, prepared_days, sample_groups
from trainer.prepared import prepare_samples
from trainer.results import measured, predict_samples, write_results, wrong_section
from trainer.run import CHECKED_SAMPLES
from trainer.seen import seen, table_digest
from trainer.setup import say


def evaluate_only(args: argparse.Namespace) -> int:
    """Measure an existing model folder on samples; returns 0.

    Samples that it was trained or validated on are left out, unless it was trained with ``-t 0``: then all
    count, and it is said how many of them flatter. The same pixel in another season is measured, and told.
    The files go to ``evaluation/`` in the model folder, so the training's own stay as they are.

    Raises:
        DltsError: the samples do not fit the model, none is left, or the model is not what was exported.
    """
    folder = ModelFolder(args.output_dir)
    model_spec = folder.read_spec()
    architecture = find_architecture(model_spec.architecture)
    specs = [read_spec(path) for path in args.series_dir]
    check_agreement(specs, args.series_dir)
    for spec, path in zip(specs, args.series_dir, strict=True):
        check_fit(spec, model_spec, path, args.date_tolerance)
    samples = read_samples(args.series_dir, centre=not architecture.needs_patch)
    chosen, part, elsewhen = _choose(samples, folder, model_spec.splits_sha256)
    told = []
    if elsewhen:
        told.append(
            f"{elsewhen} of the measured samples lie on pixels that the model was trained on in another "
            "season: the figures may flatter"
        )
        say(f"caution: {told[0]}")
    few = cautions.unobserved(samples, model_spec.preparation, chosen)
    if few is not None:
        say(f"warning: {few}")
    prepared = prepare_samples(samples, model_spec.preparation)
    cloudy = cautions.clouds(prepared, chosen)
    if cloudy is not None:
        told.append(cloudy)
        say(f"warning: {cloudy}")
    model = folder.load_model(DEFAULT_SAVED_MODEL)
    path, served = folder.model_path(DEFAULT_SAVED_MODEL), folder.serving_path(DEFAULT_SAVED_MODEL)
    check_loaded(model, path, served, model_spec.serving, prepared[:CHECKED_SAMPLES])
    groups, by = _groups(samples, args.split_by, model_spec)
    apart = blocks_caution(samples, by)
    if apart is not None:
        told.append(apart)
        say(f"caution: {apart}")
    predictions = predict_samples(model, prepared, samples, np.flatnonzero(chosen), groups)
    found = measured(
        predictions.truth,
        predictions.predicted,
        predictions.groups,
        model_spec.classes.names,
        args.seed,
        unseen=part != "all",
    )
    found = {"split": part, "model": DEFAULT_SAVED_MODEL, **found}
    if elsewhen:
        found["trained_in_another_season"] = elsewhen
    say(evaluate.table(found))
    inside = ModelFolder(folder.join(EVALUATION))
    sections = [
        *(report.note(sentence) for sentence in told),
        wrong_section(
            predictions,
            samples,
            prepared,
            np.ones(len(samples), bool),
            prepared_days(samples, model_spec.preparation),
            model_spec.preparation.names,
            model_spec.classes,
        ),
        report.section("Random forest", f"<p>{_no_forest(model_spec)}</p>"),
        about.evaluation_section(samples, model_spec),
        about.settings_section(model_spec.settings | model_spec.versions),
    ]
    title = f"Evaluation report: {storage.name(folder.path)}"
    write_results(inside, found, model_spec.classes, part, sections, title)
    say(f"report: {inside.join(REPORT_HTML)}")
    return 0


def _choose(
    samples: Samples, folder: ModelFolder, digest: str | None = None
) -> tuple[NDArray[np.bool_], str, int]:
    """Which samples are measured, bool (n,).

    Args:
        digest: of the ``splits.csv`` of the training; None where an older version did not keep it.

    Returns:
        These; what they are (``test``, of a model that has a test split; ``new``, all of them to a model
        without one; ``all``, where such a model has used some); how many of them the model was trained on in
        other seasons.

    Raises:
        DltsError: none is left, or the table of what the model has seen is not that of its training.
    """
    path = folder.join(split.SPLITS_CSV)
    table = storage.read_text(path)
    if digest is not None and table_digest(table) != digest:
        raise DltsError(
            f"{path} is not the one that the training wrote, so that nobody knows which samples the model "
            "has seen: restore it, or train the model again"
        )
    lines = split.from_csv(table, path)
    known = seen(lines, samples, path)
    tested = any(line.split == "test" for line in lines)
    chosen = ~known.used if tested else np.ones(len(samples), bool)
    used = int(known.used.sum())
    part = "test" if tested else "all" if used else "new"
    if not chosen.any():
        told = ", ".join(part.folder for part in samples.parts)
        raise DltsError(
            f"all samples in {told} were used to train the model in {folder.path}: nothing is left to "
            "measure it on; give other samples"
        )
    which = {
        "test": "",
        "new": ": all are new to the model, which was trained with -t 0",
        "all": f" (-t 0: all of them); {used} trained the model or chose its best epoch: the figures flatter",
    }
    say(f"{chosen.sum()} of {len(samples)} samples are measured{which[part]}")
    return chosen, part, int((chosen & known.trained_elsewhen).sum())


def check_fit(
    spec: SamplesSpec, model: ModelSpec, folder: str, tolerance: float = DATE_TOLERANCE
) -> None:
    """Samples fit a model where its bands are there and time steps, dates, patch and classes agree.

    The season is not compared where samples, the model's or these, have intervals of their own.

    Args:
        tolerance: days by which the day of the year of a time step may differ from the model's.

    Raises:
        DltsError: what differs.
    """
    have = [band.name for band in spec.bands]
    missing = [name for name in model.preparation.bands if name not in have]
    problems = []
    if missing:
        problems.append(f"they have no band {', '.join(missing)}")
    timeline = model.preparation.timeline
    if timeline is None and len(spec.steps) != len(model.steps):
        problems.append(f"they have {len(spec.steps)} time steps, the model takes {len(model.steps)}")
    else:
        nominal = spec.interval or model.samples.interval
        dates = dates_problem(spec.steps, model.steps, "the model's", timeline, tolerance, nominal)
        problems += [] if dates is None else [dates]
    if model.serving.patch > 1 and spec.patch != model.serving.patch:
        problems.append(f"their patch is {spec.patch}, the model takes {model.serving.patch}")
    if spec.classes.names != model.classes.names or spec.classes.values != model.classes.values:
        problems.append(
            f"their classes are {', '.join(spec.classes.names)}, the model's {', '.join(model.classes.names)}"
        )
    if problems:
        raise DltsError(f"the samples in {folder} do not fit the model: {'; '.join(problems)}")


def _groups(samples: Samples, asked: str | None, model: ModelSpec) -> tuple[NDArray[np.str_], str]:
    """What the intervals are drawn by: as asked for, or else what stayed whole when the model was trained.

    Returns:
        The group of each sample, text (n,), and the name of the grouping.
    """
    if asked is not None:
        return sample_groups(samples, asked), asked
    own = str(model.settings.get("split_by", SPLIT_BY))
    try:
        groups = sample_groups(samples, own)
    except DltsError as error:
        say(
            f"the model was split by {own}, and these samples cannot be grouped so: intervals are drawn by "
            f"{SPLIT_BY}, which may be too narrow ({error})"
        )
        return sample_groups(samples, SPLIT_BY), SPLIT_BY
    if own != SPLIT_BY:
        say(f"intervals are drawn by {own}, as the model was split")
    return groups, own


def _no_forest(model: ModelSpec) -> str:
    told = (
        "No random forest stands beside the model here: it would have to be trained, and an evaluation "
        "trains nothing."
    )
    if "random_forest" in model.metrics:
        told += f" The training's own report has one, measured on its {model.metrics['split']} split."
    return told
