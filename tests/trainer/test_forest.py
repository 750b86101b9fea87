from __future__ import annotations

import tracemalloc

import keras
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from trainer import forest, statistics
from trainer.feed import FitData
from trainer.layers import Trees
from trainer.models import ModelShape, branches_of, build_model


def test_a_forest_learns_what_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "TREES", 100)
    generator = np.random.default_rng(0)
    class_ids = np.arange(80) % 3
    prepared = generator.normal(0, 0.2, (80, 4, 3, 3, 2)).astype(np.float32)
    prepared[:, 2, 1, 1, 0] += 5 * class_ids  # at the centre only
    found = forest.forest_predictions(prepared, class_ids, np.arange(60), np.arange(60, 80))
    np.testing.assert_array_equal(found, class_ids[60:])
    monkeypatch.setattr(forest, "MOST_SAMPLES", 30)
    assert len(forest.forest_predictions(prepared, class_ids, np.arange(60), np.arange(60, 80))) == 20


def test_whole_patches_are_not_copied_for_their_centres() -> None:
    generator = np.random.default_rng(0)
    prepared = generator.normal(size=(400, 6, 9, 9, 2)).astype(np.float32)
    places = np.arange(400)[::-1]
    tracemalloc.start()
    flat = forest._flat(prepared, places)
    spikes = statistics.spike_share(prepared, np.ones(400, bool))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(flat, prepared[places][:, :, 4, 4].reshape(400, 12))
    assert spikes == statistics.spike_share(prepared[:, :, 4:5, 4:5], np.ones(400, bool))
    assert peak < prepared.nbytes / 4


def branch_of(trees: int = 7, depth: int = 4, classes: int = 4) -> keras.Model:
    settings = {"forest_trees": trees, "forest_depth": depth, "ltae_width": 8, "mlp_units": 8}
    model = build_model("ltae_mlp_forest", ModelShape(5, 2, 1, classes), settings)
    return branches_of(model)[-1]


def make_data(classes: int = 4, left_out: int | None = None) -> FitData:
    """Series with a plain pattern for each class and much noise; every third one validates."""
    generator = np.random.default_rng(3)
    class_ids = np.arange(150) % classes
    series = generator.normal(0, 1, (150, 5, 1, 1, 2)).astype(np.float32)
    series[np.arange(150), class_ids, 0, 0, 0] += 2
    places = np.arange(150)
    training = places[(places % 3 > 0) & (class_ids != left_out)]
    weights = generator.uniform(0.5, 2, 150).astype(np.float32)
    return FitData(series, class_ids, classes, training, places[::3], weights, np.ones(2, np.float32))


@pytest.mark.parametrize("left_out", [None, 1])
def test_a_grown_branch_answers_as_the_forest_does(left_out: int | None) -> None:
    data, branch = make_data(left_out=left_out), branch_of()
    measured = forest.grow_forest(branch, data, seed=5)
    flat = data.series.reshape(150, -1)
    theirs = RandomForestClassifier(7, max_depth=4, random_state=5)
    theirs.fit(flat[data.training], data.class_ids[data.training], sample_weight=data.weights[data.training])
    wanted = np.zeros((150, 4))
    wanted[:, theirs.classes_] = theirs.predict_proba(flat)
    ours = np.asarray(branch(data.series))
    np.testing.assert_allclose(ours, wanted, atol=1e-6)
    assert wanted.std(axis=0)[theirs.classes_].min() > 0.05
    for prefix, places in (("", data.training), ("val_", data.validation)):
        right = wanted[places].argmax(1) == data.class_ids[places]
        assert measured[f"{prefix}accuracy"] == pytest.approx(right.mean())
    assert measured["val_loss"] > measured["loss"] > 0


def test_values_at_a_threshold_go_to_the_left() -> None:
    """Where float32 cannot hold a threshold exactly, the next smaller number parts the same values."""
    low = np.float32(1000)
    high = np.nextafter(low, np.float32(1))
    values = np.array([low, high] * 20, np.float32)
    series = np.tile(values[:, None, None, None, None], (1, 5, 1, 1, 2))
    data = FitData(
        series, np.arange(40) % 2, 2, np.arange(40), np.arange(0), np.ones(40, np.float32), np.ones(2)
    )
    branch = branch_of(classes=2)
    forest.grow_forest(branch, data, seed=0)
    np.testing.assert_array_equal(np.asarray(branch(series)).argmax(1), data.class_ids)


def test_trees_as_built_say_nothing_and_survive_saving(tmp_path) -> None:
    branch = branch_of()
    data = make_data()
    np.testing.assert_allclose(np.asarray(branch(data.series)), 0.25, rtol=1e-6)
    forest.grow_forest(branch, data, seed=5)
    branch.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    np.testing.assert_array_equal(np.asarray(loaded(data.series)), np.asarray(branch(data.series)))
    assert isinstance(loaded.get_layer("trees"), Trees)
