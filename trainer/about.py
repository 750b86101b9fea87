"""What the report says of how a model came about: samples, split, sizes, devices, settings."""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam.spec import ModelSpec
from trainer import report
from trainer.dataset import Samples
from trainer.setup import Fitted, Setup
from trainer.split import SPLITS, UNUSED

Rows = list[tuple[str, str]]


def training_section(
    setup: Setup, fitted: Fitted, splits: NDArray[np.str_], args: argparse.Namespace
) -> str:
    """What was trained, on what and where; ``splits``, text (n,), are those of all samples."""
    samples, settings, devices = setup.samples, setup.settings, setup.devices
    deterministic = not devices.on_gpu if setup.deterministic is None else setup.deterministic
    groups = len(np.unique(setup.groups))
    how = f"by {args.split_by}, seed {settings.seed}"
    if args.split_column:
        how = f"by the attribute {args.split_column}"
    rows = [
        *_samples_rows(samples),
        ("groups", f"{groups:,}, by {args.split_by}"),
        ("split", how),
        *_model_rows(setup.architecture.name, setup.config, fitted.model.count_params()),
        _input_row(fitted.shape.time_steps, fitted.preparation.names, fitted.shape.patch),
        ("devices", f"{', '.join(devices.names)}; {'' if deterministic else 'not '}deterministic"),
    ]
    counts = split_table(splits, samples.class_ids, setup.spec.classes.names)
    return report.section("Training", report.rows_table((), rows, "told"), counts)


def evaluation_section(samples: Samples, model: ModelSpec) -> str:
    """What was measured, and on which samples."""
    serving = model.serving
    rows = [
        *_samples_rows(samples),
        *_model_rows(model.architecture, model.config),
        _input_row(serving.time_steps, model.preparation.names, serving.patch),
    ]
    return report.section("Samples and model", report.rows_table((), rows, "told"))


def split_table(splits: NDArray[np.str_], class_ids: NDArray[np.int64], names: Sequence[str]) -> str:
    """Samples per class and split, both of shape (n,), as the terminal shows them."""
    parts = (*SPLITS, UNUSED) if (splits == UNUSED).any() else SPLITS
    counts = np.array(
        [[((class_ids == k) & (splits == part)).sum() for part in parts] for k in range(len(names))]
    )
    rows = [[name, *row] for name, row in zip(names, counts.tolist(), strict=True)]
    return report.rows_table(("class", *parts), [*rows, ["all", *counts.sum(axis=0).tolist()]])


def settings_section(settings: Mapping[str, Any]) -> str:
    """Settings as a table of names and values; neither what was left open nor what had no say."""
    idle = {"list_models"}  # in folders of older versions too
    if settings.get("optimizer") != "adamw":
        idle.add("weight_decay")
    if settings.get("lr_decay") != "cosine":
        idle.add("warmup")
    if settings.get("split_column"):
        idle.add("test_split")
        if not settings.get("folds") and not settings.get("leave_out"):
            idle.add("validation_split")
    if settings.get("timeline") is None:
        idle.add("composite")
    shown = [(k, value) for k, value in settings.items() if k not in idle and value not in (None, [])]
    return report.section("Settings", report.rows_table(("setting", "value"), shown, "told"))


def _samples_rows(samples: Samples) -> Rows:
    """The day of the report and the folders; an interrupted training's day is that of its end."""
    folders = [
        ("samples", f"{part.folder}: {int((part.place >= 0).sum()):,} samples") for part in samples.parts
    ]
    return [("date", f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC"), *folders]


def _model_rows(name: str, config: Mapping[str, Any], parameters: int | None = None) -> Rows:
    """The architecture and the sizes that were used, defaults too."""
    told = name if parameters is None else f"{name}, {parameters:,} parameters"
    sizes = ", ".join(f"{size} {value}" for size, value in config.items())
    return [("architecture", told), ("sizes", sizes)]


def _input_row(time_steps: int, bands: Sequence[str], patch: int) -> tuple[str, str]:
    around = "the pixel alone" if patch == 1 else f"{patch} x {patch} pixels"
    return "input", f"{time_steps} time steps of {', '.join(bands)}; {around}"
