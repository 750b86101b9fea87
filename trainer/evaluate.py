"""How good a model is: accuracy measures of the field from a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlts_beam.postprocess import label_pixels, quantise

if TYPE_CHECKING:
    import keras

PREDICT_BATCH = 256
Matrix = NDArray[np.int64]


def predict(
    model: keras.Model, series: NDArray[np.float32], places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Probabilities float32 (n, K) of the samples at the given places, a batch at a time."""
    if not len(places):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    parts = []
    for start in range(0, len(places), PREDICT_BATCH):
        batch = np.asarray(series[places[start : start + PREDICT_BATCH]])
        parts.append(np.asarray(model(batch, training=False)))
    return np.concatenate(parts)


def predicted_classes(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Class ids as the map has them: the largest quantised probability, the lowest id of equal ones."""
    return label_pixels(quantise(probabilities))


def confusion_matrix(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Matrix:
    """int64 (K, K): rows are the reference classes, columns the predicted ones."""
    flat = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def overall_accuracy(matrix: Matrix) -> float:
    """Share of the samples on the diagonal."""
    return _ratio(np.trace(matrix), matrix.sum())


def kappa(matrix: Matrix) -> float:
    """Cohen's kappa: agreement beyond what the margins alone would give."""
    total = matrix.sum()
    expected = _ratio((matrix.sum(0) * matrix.sum(1)).sum(), total * total)
    return _ratio(overall_accuracy(matrix) - expected, 1 - expected)


def class_measures(matrix: Matrix) -> dict[str, NDArray[np.float64]]:
    """Per class: precision (user's accuracy), recall (producer's accuracy) and F1; NaN where undefined."""
    hits, predicted, reference = np.diag(matrix).astype(float), matrix.sum(0), matrix.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / predicted, hits / reference
        f1 = 2 * hits / (predicted + reference)
    return {"precision": precision, "recall": recall, "f1": f1}


def macro_f1(matrix: Matrix) -> float:
    """Mean F1 of the classes that occur in the reference."""
    present = matrix.sum(1) > 0
    return float(class_measures(matrix)["f1"][present].mean()) if present.any() else float("nan")


def metrics(matrix: Matrix, names: Sequence[str]) -> dict[str, Any]:
    """The content of ``metrics.json``: every measure as ``{"value": …}``, null where undefined."""
    per_class = class_measures(matrix)
    return {
        "samples": int(matrix.sum()),
        "overall_accuracy": _entry(overall_accuracy(matrix)),
        "kappa": _entry(kappa(matrix)),
        "macro_f1": _entry(macro_f1(matrix)),
        "classes": {
            name: {
                **{measure: _entry(values[k]) for measure, values in per_class.items()},
                "support": int(matrix[k].sum()),
            }
            for k, name in enumerate(names)
        },
        "confusion_matrix": {"rows": "reference", "columns": "predicted", "values": matrix.tolist()},
    }


def table(found: dict[str, Any]) -> str:
    """The measures as a table for the terminal."""
    width = max(5, *(len(name) for name in found["classes"]))
    head = f"{'class':<{width}} {'precision':>10} {'recall':>8} {'F1':>8} {'samples':>8}"
    lines = [head, f"{'':<{width}} {'(users)':>10} {'(prod.)':>8}"]
    for name, row in found["classes"].items():
        cells = [_shown(row[key]["value"]) for key in ("precision", "recall", "f1")]
        lines.append(f"{name:<{width}} {cells[0]:>10} {cells[1]:>8} {cells[2]:>8} {row['support']:>8}")
    whole = (("overall accuracy", "overall_accuracy"), ("kappa", "kappa"), ("macro F1", "macro_f1"))
    lines += [f"{title}: {_shown(found[key]['value'])}{_interval(found[key])}" for title, key in whole]
    lines += [f"{key}: {found[key]}" for key in ("note", "caution") if key in found]
    if "random_forest" in found:
        lines.append(f"random forest on the same samples: {_forest(found['random_forest'])}")
    if "cross_validation" in found:
        cross = found["cross_validation"]
        lines.append(f"cross-validation ({cross['how']}): {_both(cross)}")
        if "random_forest" in cross:
            lines.append(f"cross-validation of the random forest: {_forest(cross['random_forest'])}")
    return "\n".join([*lines, *(f"{kind}: {told}" for kind, told in remarks(found))])


def remarks(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is to be told of the intervals of forest and folds: ``note`` or ``caution``, and a sentence."""
    parts = [("with the random forest", "note", found.get("random_forest", {}).get("interval_note"))]
    cross = found.get("cross_validation", {})
    forest = cross.get("random_forest", {})
    parts += [("in cross-validation", key, cross.get(key)) for key in ("note", "caution")]
    parts.append(("with the random forest in cross-validation", "note", forest.get("interval_note")))
    return [(kind, f"{where}, {told}") for where, kind, told in parts if told is not None]


def _both(found: dict[str, Any]) -> str:
    accuracy, f1 = found["overall_accuracy"], found["macro_f1"]
    return (
        f"overall accuracy {_shown(accuracy['value'])}{_interval(accuracy)}, macro F1 {_shown(f1['value'])}"
    )


def _forest(found: dict[str, Any]) -> str:
    return _both(found) + (f"; {found['note']}" if "note" in found else "")


def _interval(entry: dict[str, float | None]) -> str:
    if entry.get("low") is None:
        return ""
    return f" (95 % interval {_shown(entry['low'])} to {_shown(entry['high'])})"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _entry(value: float) -> dict[str, float | None]:
    return {"value": None if np.isnan(value) else round(float(value), 6)}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
