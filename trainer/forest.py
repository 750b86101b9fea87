"""A random forest on the same samples: what a deep model must be better than."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TREES = 500
MOST_SAMPLES = 20_000  # a forest on more takes longer than the model and hardly gains


def forest_predictions(
    prepared: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    training: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.int64]:
    """Class ids of the test samples by a forest of 500 trees.

    It sees the centre's prepared series, all dates and bands as one flat vector, of the training and the
    validation samples: it has no epochs to choose, so it may learn from both.
    """
    from sklearn.ensemble import RandomForestClassifier

    if len(training) > MOST_SAMPLES:
        training = training[np.linspace(0, len(training) - 1, MOST_SAMPLES).round().astype(np.int64)]
    middle = prepared.shape[2] // 2

    def flat(places: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(prepared[places][:, :, middle, middle]).reshape(len(places), -1)

    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=-1)
    forest.fit(flat(training), class_ids[training])
    return forest.predict(flat(test)).astype(np.int64)
