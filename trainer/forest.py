"""Random forests: one that a deep model must be better than, and one that is a branch of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

    from trainer.feed import FitData
    from trainer.layers import Trees

TREES = 500
MOST_SAMPLES = 20_000  # a forest on more takes longer than the model and hardly gains
LEAST_OF_CLASS = 100  # samples that a class keeps of more, where there are not too many classes
TINY = 1e-7  # what a probability counts for at least, in a loss


def forest_predictions(
    prepared: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    training: NDArray[np.int64],
    test: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.int64]:
    """Class ids of the test samples by a forest of 500 trees.

    It sees the centre's prepared series, all dates and bands as one flat vector, of the training samples; of
    more than ``MOST_SAMPLES`` as many, as `thinned` chooses them (`learned_from` tells it).
    Those of a validation split may be among them where others are measured: it has no epochs to choose, so it
    may learn from both.
    """
    from sklearn.ensemble import RandomForestClassifier

    training, _ = thinned(training, class_ids)
    forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=-1)
    forest.fit(_flat(prepared, training), class_ids[training])
    return forest.predict(_flat(prepared, test)).astype(np.int64)


def learned_from(count: int) -> str | None:
    """What to tell of a forest that was given ``count`` training samples; None where it took them all."""
    if count <= MOST_SAMPLES:
        return None
    return f"trained on {MOST_SAMPLES:,} of {count:,} samples"


def thinned(
    places: NDArray[np.int64], class_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As many training samples as a forest takes: of each class its share, and of a rare one enough to learn.

    Args:
        places: int64 (m,), in the order of the ids, so that no order of shards decides.
        class_ids: int64 (n,), of all samples.

    Returns:
        Places, at most ``MOST_SAMPLES``, in order, and float64 as many: how many samples each of them stands
        for, where 1 is the mean of all; less in a rare class.
    """
    if len(places) <= MOST_SAMPLES:
        return places, np.ones(len(places))
    classes, class_of, counts = np.unique(class_ids[places], return_inverse=True, return_counts=True)
    least = np.minimum(counts, min(LEAST_OF_CLASS, MOST_SAMPLES // len(classes)))
    exact = (MOST_SAMPLES - least.sum()) * (counts - least) / (counts - least).sum()
    kept = least + np.floor(exact).astype(np.int64)
    left = MOST_SAMPLES - kept.sum()
    kept[np.argsort(np.floor(exact) - exact, kind="stable")[:left]] += 1  # the largest remainders
    chosen = np.concatenate([_spread(np.flatnonzero(class_of == k), kept[k]) for k in range(len(classes))])
    chosen.sort()
    return places[chosen], (counts / kept * MOST_SAMPLES / len(places))[class_of[chosen]]


def is_forest(branch: keras.Model) -> bool:
    """Whether a branch is grown, not trained."""
    return _trees_of(branch) is not None


def grow_forest(branch: keras.Model, data: FitData, seed: int) -> dict[str, float]:
    """Grow the trees of a branch on the training split; on a part of it as `forest_predictions` does.

    Returns:
        ``loss`` and ``accuracy`` on the samples it learned from, and ``val_loss`` and ``val_accuracy`` on a
        validation split that is not empty, as an epoch of a network has them.
    """
    from sklearn.ensemble import RandomForestClassifier

    layer = _trees_of(branch)
    assert layer is not None
    training, stands_for = thinned(data.training, data.class_ids)
    # Class weights have raised a rare class already: that more of it was kept must not raise it again.
    given = data.weights[training]
    weights = np.maximum(given * stands_for, np.minimum(given, 1))
    forest = RandomForestClassifier(layer.trees, max_depth=layer.depth, random_state=seed, n_jobs=-1)
    forest.fit(_flat(data.series, training), data.class_ids[training], sample_weight=weights)
    layer.set_weights(lay_out(forest, layer.depth, layer.classes))
    measured: dict[str, float] = {}
    for prefix, places in (("", training), ("val_", _spread(data.validation, MOST_SAMPLES))):
        if len(places):
            found = forest.predict_proba(_flat(data.series, places))
            own = np.zeros((len(places), data.classes))
            own[:, forest.classes_] = found
            truth = data.class_ids[places]
            chosen = np.clip(own[np.arange(len(places)), truth], TINY, 1)
            measured[f"{prefix}loss"] = float(-np.log(chosen).mean())
            measured[f"{prefix}accuracy"] = float((own.argmax(1) == truth).mean())
    return measured


def lay_out(forest: Any, depth: int, classes: int) -> list[NDArray[Any]]:
    """A scikit-learn forest as the weights of `trainer.layers.Trees`: features, thresholds, shares.

    scikit-learn compares float32 values with float64 thresholds; rounded down to float32, a threshold parts
    the same values.
    """
    trees, splits = len(forest.estimators_), 2**depth - 1
    feature = np.zeros((trees, splits), np.float32)
    threshold = np.full((trees, splits), np.finfo(np.float32).max, np.float32)
    share = np.zeros((trees, splits + 1, classes), np.float32)
    for number, estimator in enumerate(forest.estimators_):
        tree = estimator.tree_
        shares = np.zeros((tree.node_count, classes))
        shares[:, forest.classes_] = tree.value[:, 0]
        waiting = [(0, 0)]
        while waiting:
            node, place = waiting.pop()
            if tree.children_left[node] < 0:
                while place < splits:  # a leaf above the last level: to its left-most end
                    place = 2 * place + 1
                share[number, place - splits] = shares[node] / shares[node].sum()
                continue
            feature[number, place] = tree.feature[node]
            threshold[number, place] = _rounded_down(tree.threshold[node])
            waiting.append((int(tree.children_left[node]), 2 * place + 1))
            waiting.append((int(tree.children_right[node]), 2 * place + 2))
    return [feature, threshold, share]


def _rounded_down(value: float) -> np.float32:
    nearest = np.float32(value)
    return nearest if nearest <= value else np.nextafter(nearest, np.float32(-np.inf))


def _trees_of(branch: keras.Model) -> Trees | None:
    from trainer.layers import Trees

    return next((layer for layer in branch.layers if isinstance(layer, Trees)), None)


def _spread(places: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """All places, or ``most`` of them: one by chance, always the same, of each of as many equal stretches.

    Every second one would be of one season, where each pixel has two.
    """
    if len(places) <= most:
        return places
    ends = np.arange(most + 1) * len(places) // most
    within = np.random.default_rng(0).random(most) * np.diff(ends)
    return places[ends[:-1] + within.astype(np.int64)]


def _flat(series: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The centre's series, all dates and bands as one vector: (n, T * B)."""
    middle = series.shape[2] // 2
    return np.asarray(series[:, :, middle, middle][places]).reshape(len(places), -1)  # no patch is copied
