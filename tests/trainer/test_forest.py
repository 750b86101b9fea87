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
from trainer.weights import sample_weights


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


def test_all_samples_are_taken_where_they_are_not_too_many() -> None:
    places = np.arange(0, 2 * forest.MOST_SAMPLES, 2)
    chosen, stands_for = forest.thinned(places, np.zeros(places[-1] + 1, np.int64))
    assert chosen is places
    assert (stands_for == 1).all()
    assert forest.learned_from(len(places)) is None
    assert forest.learned_from(40_123) == "trained on 20,000 of 40,123 samples"


@pytest.mark.parametrize(
    "counts", [(30_000, 3, 500), (5, 20_000, 20_000, 150), (7_001, 7_000, 6_000), (60_000,), (99,) * 300]
)
def test_no_class_is_lost_among_too_many_samples(counts: tuple[int, ...]) -> None:
    class_ids = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    places = np.delete(np.arange(len(class_ids)), 7)
    chosen, stands_for = forest.thinned(places, class_ids)
    assert len(chosen) == forest.MOST_SAMPLES
    assert (np.diff(chosen) > 0).all()
    assert np.isin(chosen, places).all()
    had = np.bincount(class_ids[places], minlength=len(counts))
    kept = np.bincount(class_ids[chosen], minlength=len(counts))
    assert (kept >= np.minimum(had, min(forest.LEAST_OF_CLASS, forest.MOST_SAMPLES // len(counts)))).all()
    assert (kept <= had).all()
    most = int(had.argmax())
    assert kept[most] == pytest.approx(forest.MOST_SAMPLES * had[most] / had.sum(), rel=0.02, abs=1)
    stood_for = np.bincount(class_ids[chosen], stands_for)
    np.testing.assert_allclose(stood_for, had * forest.MOST_SAMPLES / len(places))
    np.testing.assert_array_equal(forest.thinned(places, class_ids)[0], chosen)


def test_no_season_is_left_out_among_too_many_samples() -> None:
    """Samples are in the order of their ids: the two seasons of a pixel stand side by side."""
    chosen, _ = forest.thinned(np.arange(40_000), np.zeros(40_000, np.int64))
    assert 9_500 < np.count_nonzero(chosen % 2) < 10_500


@pytest.mark.parametrize("class_weights", [False, True])
def test_forests_have_seen_a_rare_class_and_class_weights_weigh_the_same(
    monkeypatch: pytest.MonkeyPatch, class_weights: bool
) -> None:
    """Two rare samples among ten times as many as are taken."""
    monkeypatch.setattr(forest, "MOST_SAMPLES", 40)
    class_ids = np.zeros(400, np.int64)
    class_ids[[5, 205]] = 1
    series = np.zeros((400, 5, 1, 1, 2), np.float32)
    series[class_ids == 1] = 9
    places = np.arange(400)
    weights = sample_weights(class_ids, places, 2, class_weights)
    drawn = {}

    class Forest(RandomForestClassifier):
        def fit(self, flat, truth, sample_weight=None):
            drawn[len(drawn)] = np.bincount(truth, sample_weight)
            return super().fit(flat, truth, sample_weight)

    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier", Forest)
    branch = branch_of(trees=50, classes=2)
    forest.grow_forest(branch, FitData(series, class_ids, 2, places, places[:0], weights, np.ones(2)), seed=0)
    assert np.asarray(branch(series[[5, 0]]))[:, 1] == pytest.approx([0.9, 0], abs=0.15)
    assert drawn[0] == pytest.approx([19.1, 20] if class_weights else [38, 2], rel=0.06)
    found = forest.forest_predictions(series, class_ids, places, np.array([0, 5, 205]))
    assert found.tolist() == [0, 1, 1]
    assert drawn[1].tolist() == [38, 2]


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
