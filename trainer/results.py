"""What a training or an evaluation leaves for people: measures, pictures, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.spec import ClassTable
from trainer import bootstrap, evaluate, plots, report
from trainer.folder import CONFUSION_PNG, METRICS_JSON, REPORT_HTML, ModelFolder
from trainer.progress import Progress

UNMASKED_SHARE = 0.999


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


def measured(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: NDArray[np.str_],
    names: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """All measures with their intervals."""
    found = evaluate.metrics(evaluate.confusion_matrix(truth, predicted, len(names)), names)
    return bootstrap.add_intervals(found, bootstrap.resampled(truth, predicted, groups, len(names), seed))


def forest_summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of the forest that stand beside the model's."""
    return {name: found[name] for name in ("overall_accuracy", "kappa", "macro_f1")}


def write_results(
    folder: ModelFolder,
    found: Mapping[str, Any],
    classes: ClassTable,
    part: str,
    sections: Sequence[str],
) -> None:
    """Write metrics.json, the confusion matrix and report.html."""
    folder.write_json(METRICS_JSON, found)
    matrix = np.array(found["confusion_matrix"]["values"])
    png = plots.confusion_png(matrix, classes.names, f"{part} split, {found['samples']} samples")
    storage.write_bytes(folder.join(CONFUSION_PNG), png)
    colours = [row.colour for row in classes.rows]
    accuracy = report.accuracy_section(found, colours, part, png)
    notes = [] if part == "test" else [report.note(f"Measured on the {part} split: the figures flatter.")]
    title = f"Model {storage.name(folder.path)}"
    storage.write_text(
        folder.join(REPORT_HTML),
        report.page(title, [*notes, accuracy, report.comparison_section(found), *sections]),
    )


def history_section(reached: Sequence[Progress]) -> str:
    """The curves of every branch and the epochs that were saved."""
    parts = []
    for progress in reached:
        png = plots.history_png(progress.history, progress.best_epoch)
        told = ", ".join(f"{name}: epoch {epoch}" for name, epoch in progress.best_epoch.items())
        who = f"{progress.branch}: saved models" if len(reached) > 1 else "Saved models"
        parts += [report.picture(png, "loss and accuracy by epoch"), f"<p>{who}: {told}.</p>"]
    return report.section("History", *parts)
