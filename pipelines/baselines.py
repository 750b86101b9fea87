"""Simple methods to hold a map against: they learn from the same points of a synthetic scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlts_beam.synthetic import Points, Scene
from dlts_beam.tensors.preparation import fill_gaps

TREES = 100
CHUNK = 16_384  # pixels whose series are held at once


@dataclass(frozen=True)
class Baseline:
    """A method and its accuracy; ``single_date`` marks the one that sees one date only."""

    name: str
    accuracy: float
    single_date: bool = False


def score_baselines(scene: Scene, points: Points, pixels: tuple[np.ndarray, np.ndarray]) -> list[Baseline]:
    """Train on all points and score on ``pixels`` (rows, columns), each (N,).

    All of them see the gap-filled series, so the single date also profits from the dates next to it;
    it is the date that is best on the first CHUNK of ``pixels``. Both favours go to the baseline.
    """
    # Heavy, and needed here only.
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier

    inputs, labels = filled_series(scene, points.row, points.col), points.value
    row, col = pixels
    truth = scene.truth[row, col]

    def grow(step: slice) -> RandomForestClassifier:
        forest = RandomForestClassifier(TREES, random_state=0, n_jobs=-1)
        return forest.fit(inputs[:, step].reshape(len(labels), -1), labels)

    every_date = grow(slice(None))
    # Choosing the date by the truth itself can only flatter it.
    look = filled_series(scene, row[:CHUNK], col[:CHUNK])
    one_date = [grow(slice(step, step + 1)) for step in range(len(scene.dates))]
    found = [float(forest.score(look[:, step], truth[:CHUNK])) for step, forest in enumerate(one_date)]
    best = int(np.argmax(found))
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(inputs.reshape(len(labels), -1), labels)
    right_all = right_one = right_nearest = 0
    for start in range(0, len(row), CHUNK):
        part = slice(start, start + CHUNK)
        series, wanted = filled_series(scene, row[part], col[part]), truth[part]
        flat = series.reshape(len(wanted), -1)
        right_all += int((every_date.predict(flat) == wanted).sum())
        right_nearest += int((nearest.predict(flat) == wanted).sum())
        right_one += int((one_date[best].predict(series[:, best]) == wanted).sum())
    value = scene.classes.values[int(np.argmax([(truth == value).sum() for value in scene.classes.values]))]
    commonest = scene.classes.names[scene.classes.values.index(value)]
    return [
        Baseline("random forest on all dates", right_all / len(row)),
        Baseline("1-NN on all dates", right_nearest / len(row)),
        Baseline(f"random forest on the best single date, {scene.dates[best]}", right_one / len(row), True),
        Baseline(f"majority class: all {commonest}", float((truth == value).mean())),
    ]


def filled_series(scene: Scene, row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Gap-filled series of pixels, stored units: float32 (N, T, B)."""
    values = scene.cube[:, row, col].astype(np.float32)
    valid = np.repeat(scene.valid[:, row, col, None], values.shape[-1], axis=-1)
    days = np.array([date.toordinal() for date in scene.dates], np.float64)
    filled = fill_gaps(values, valid, days, np.zeros(values.shape[-1], np.float32))
    return np.ascontiguousarray(filled.transpose(1, 0, 2))
