"""What a training or an evaluation leaves for people: measures, pictures, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.spec import ClassTable
from trainer import bootstrap, evaluate, plots, report
from trainer.dataset import Samples
from trainer.folder import CONFUSION_PNG, METRICS_JSON, REPORT_HTML, ModelFolder
from trainer.forest import learned_from
from trainer.progress import Progress

if TYPE_CHECKING:
    import keras

FLATTERING = {
    "train": "Measured on the train split: the figures flatter.",
    "validation": "Measured on the validation split: the figures flatter.",
    "all": "Measured on samples of which the model has used some or all: the figures flatter.",
}
MOST_WRONG = 9
MOST_MEANT = 20_000  # samples of which a class mean is taken


@dataclass(frozen=True, eq=False)
class Predictions:
    """Test samples and what was said about them.

    Attributes:
        places: int64 (m,), among all samples.
        truth, predicted: int64 (m,).
        probabilities: float32 (m, K).
        groups: text (m,): samples of one group are not independent.
    """

    places: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    groups: NDArray[np.str_]

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """int64 (K, K)."""
        return evaluate.confusion_matrix(self.truth, self.predicted, classes)


def predict_samples(
    model: keras.Model,
    prepared: NDArray[np.float32],
    samples: Samples,
    places: NDArray[np.int64],
    groups: NDArray[np.str_],
) -> Predictions:
    """What a model says about the samples at some places, int64 (m,); the rest is of all samples."""
    probabilities = evaluate.predict(model, prepared, places)
    predicted = evaluate.predicted_classes(probabilities)
    return Predictions(places, samples.class_ids[places], predicted, probabilities, groups[places])


def measured(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: Sequence[str],
    seed: int,
    unseen: bool = True,
) -> dict[str, Any]:
    """All measures with their intervals; ``note`` and ``caution`` say what these do not.

    Samples that the model was trained or chosen on, which are not ``unseen``, get no note: they tell nothing
    of others.
    """
    found = evaluate.metrics(evaluate.confusion_matrix(truth, predicted, len(names)), names)
    independent = found["groups"] = len(np.unique(groups))
    none = {1: "wrong", 0: "right"}.get(found["overall_accuracy"]["value"])
    if unseen and none is not None:
        found["note"] = bootstrap.one_sided(independent, none)
    caution = bootstrap.caution(independent)
    if caution is not None:
        found["caution"] = caution
    return bootstrap.add_intervals(found, bootstrap.resampled(truth, predicted, groups, len(names), seed))


def forest_summary(found: Mapping[str, Any], note: str | None) -> dict[str, Any]:
    """The measures of the forest that stand beside the model's, and what is to be told of its training.

    ``interval_note`` is what the model has as its ``note``; its ``caution`` is the model's own.
    """
    summary = {name: found[name] for name in ("overall_accuracy", "kappa", "macro_f1")}
    if "note" in found:
        summary["interval_note"] = found["note"]
    return summary if note is None else {**summary, "note": note}


def write_results(
    folder: ModelFolder,
    found: Mapping[str, Any],
    classes: ClassTable,
    part: str,
    sections: Sequence[str],
    title: str | None = None,
) -> None:
    """Write metrics.json, the confusion matrix and report.html, by default under a training's title."""
    folder.write_json(METRICS_JSON, found)
    matrix = np.array(found["confusion_matrix"]["values"])
    png = plots.confusion_png(matrix, classes.names, report.samples_of(found["samples"], part))
    storage.write_bytes(folder.join(CONFUSION_PNG), png)
    colours = [row.colour for row in classes.rows]
    accuracy = report.accuracy_section(found, colours, part, png)
    notes = [report.note(FLATTERING[part])] if part in FLATTERING else []
    notes += [report.note(found[key]) for key in ("note", "caution") if key in found]
    storage.write_text(
        folder.join(REPORT_HTML),
        report.page(
            title or f"Training report: {storage.name(folder.path)}",
            [*notes, accuracy, report.comparison_section(found), *sections],
        ),
    )


def wrong_section(
    predictions: Predictions,
    samples: Samples,
    prepared: NDArray[np.float32],
    training: NDArray[np.bool_],
    days: Sequence[float],
    bands: Sequence[str],
    classes: ClassTable,
) -> str:
    """The samples that the model got wrong and was surest of, labels to look at first; empty without any.

    Each stands beside the means of its own class and of the one it was taken for; ``training``, bool (n,),
    says of which samples they are.
    """
    chance = predictions.probabilities[np.arange(len(predictions.truth)), predictions.truth]
    wrong = np.flatnonzero(predictions.predicted != predictions.truth)
    wrong = wrong[np.argsort(chance[wrong], kind="stable")][:MOST_WRONG]
    if not len(wrong):
        return ""
    middle = prepared.shape[2] // 2
    centres = prepared[:, :, middle, middle]  # a view: no patch is copied
    means = {}
    for k in sorted({*predictions.truth[wrong].tolist(), *predictions.predicted[wrong].tolist()}):
        of_class = np.asarray(centres[np.flatnonzero(training & (samples.class_ids == k))[:MOST_MEANT]])
        means[k] = of_class.mean(axis=0) if len(of_class) else np.full(of_class.shape[1:], np.nan)
    spread = np.asarray(centres[np.flatnonzero(training)[:MOST_MEANT]]).std(axis=(0, 1))
    drawn, rows = [], []
    for m in wrong.tolist():
        place, truth, got = (
            int(predictions.places[m]),
            int(predictions.truth[m]),
            int(predictions.predicted[m]),
        )
        name = str(samples.ids[place])
        apart = np.abs(means[truth] - means[got]).mean(axis=0) / np.maximum(spread, 1e-12)
        band = int(np.argmax(np.nan_to_num(apart)))  # a class without samples tells no band from another
        drawn.append(
            plots.WrongSample(
                f"{name}: {classes.names[truth]}, taken for {classes.names[got]}",
                np.asarray(centres[place, :, band]),
                bands[band],
                (classes.names[truth], means[truth][:, band], classes.rows[truth].colour),
                (classes.names[got], means[got][:, band], classes.rows[got].colour),
            )
        )
        crs = samples.parts[samples.folders[place]].spec.grid.crs
        where = map_units(float(samples.x[place]), float(samples.y[place]), crs)
        rows.append((name, *where, classes.names[truth], classes.names[got], f"{chance[m]:.3f}"))
    head = ("sample", "x", "y", "reference", "predicted", "probability of the reference")
    png = plots.wrong_png(days, drawn)
    intro = "<p>Wrong ones that the model was surest of; a wrong label looks like this too.</p>"
    return report.section(
        "Worst samples", intro, report.rows_table(head, rows), report.picture(png, "series")
    )


def map_units(x: float, y: float, crs: str) -> tuple[str, str]:
    """Coordinates as a GIS takes them: metres to 0.1 m, degrees to six decimals.

    Args:
        crs: WKT or any other text; where it does not tell the unit, numbers that can be degrees are degrees.
    """
    small = abs(x) <= 360 and abs(y) <= 90 and not crs.startswith("PROJ")
    decimals = 6 if small or crs.startswith("GEOG") else 1
    return f"{x:.{decimals}f}", f"{y:.{decimals}f}"


def log_confusion(folder: ModelFolder, found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Put the confusion matrix into TensorBoard's log, as a picture."""
    import tensorflow as tf

    matrix = np.array(found["confusion_matrix"]["values"])
    png = plots.confusion_png(matrix, names, report.samples_of(found["samples"], found["split"]))
    with folder.log_folder() as logs, tf.summary.create_file_writer(f"{logs}/{found['split']}").as_default():
        tf.summary.image("confusion matrix", tf.io.decode_png(png, channels=3)[None], step=0)


def history_section(reached: Sequence[Progress], training: int) -> str:
    """The curves of every branch and the epochs that were saved; of a forest, which has none, its figures.

    Args:
        reached: one per branch.
        training: number of training samples.
    """
    parts = []
    for progress in reached:
        if progress.history and "learning_rate" not in progress.history[0]:
            measured = {k: v for k, v in progress.history[0].items() if k not in ("epoch", "seconds")}
            told = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
            part = learned_from(training)
            told += f"; {part}" if part else ""
            parts.append(f"<p>{progress.branch}: grown, not trained in epochs; {told}.</p>")
            continue
        png = plots.history_png(progress.history, progress.best_epoch)
        told = ", ".join(f"{name}: epoch {epoch}" for name, epoch in progress.best_epoch.items())
        who = f"{progress.branch}: saved models" if len(reached) > 1 else "Saved models"
        parts += [report.picture(png, "loss and accuracy by epoch"), f"<p>{who}: {told}.</p>"]
    return report.section("History", *parts)
