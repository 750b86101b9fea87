"""The points, and with them the one promise of the scene: time tells the classes apart, no date does."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from dlts_beam.synthetic import Points, Scene, make_scene, sample_points
from dlts_beam.tensors.preparation import fill_gaps


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(192, seed=7)


def test_points_are_inside_their_pixels_and_carry_the_truth(scene):
    points = sample_points(scene, per_class=50)
    assert len(points) == 250
    assert len(set(zip(points.row.tolist(), points.col.tolist(), strict=True))) == 250
    for row, col, x, y, value in zip(*vars(points).values(), strict=True):
        assert scene.grid.rowcol(x, y) == (row, col)
        assert scene.truth[row, col] == value


def test_points_are_spread(scene):
    points = sample_points(scene, per_class=60)
    forest = points.value == scene.classes.values[0]
    squares = points.row[forest] // 12 * 16 + points.col[forest] // 12
    assert len(set(squares.tolist())) == 60, "60 forest points lie in 60 different squares"


def test_a_small_class_gives_what_it_has(scene):
    points = sample_points(scene, per_class=10**6)
    assert len(points) == (scene.truth != scene.classes.nodata).sum()


def test_time_tells_the_classes_apart_and_no_single_date_does(scene):
    days = np.array([date.toordinal() for date in scene.dates], np.float64)

    def series(points: Points) -> np.ndarray:
        values = scene.cube[:, points.row, points.col].astype(np.float32)
        valid = np.repeat(scene.valid[:, points.row, points.col, None], values.shape[-1], axis=-1)
        return fill_gaps(values, valid, days, np.zeros(values.shape[-1], np.float32)).transpose(1, 0, 2)

    train = sample_points(scene, per_class=150, seed=1)
    other = sample_points(scene, per_class=10**6, seed=2)
    keep = np.random.default_rng(3).choice(len(other), 3000, replace=False)
    test = Points(*(column[keep] for column in vars(other).values()))
    inputs, truth = series(train), series(test)

    def accuracy(columns: slice, trees: int) -> float:
        forest = RandomForestClassifier(trees, random_state=0, n_jobs=1)
        forest.fit(inputs[:, columns].reshape(len(train), -1), train.value)
        return float(forest.score(truth[:, columns].reshape(len(test), -1), test.value))

    over_time = accuracy(slice(None), 100)
    best_date = max(accuracy(slice(step, step + 1), 30) for step in range(len(days)))
    majority = np.bincount(test.value).max() / len(test)
    assert over_time > 0.88
    assert over_time - best_date > 0.15
    assert majority < 0.5
