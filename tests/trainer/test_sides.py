"""No model, no forest and no choice between trials is measured on what it has learned from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer import tune
from trainer.cli import parse_args
from trainer.crossval import cross_validate
from trainer.dataset import read_samples
from trainer.feed import FitData
from trainer.folder import ModelFolder
from trainer.models import branches_of
from trainer.options import sample_groups
from trainer.progress import Progress
from trainer.setup import make_setup

MLP = ("--model", "mlp", "--model-config", '{"units": 8}', "-e", "1")


class Learned:
    """Stands in for the training: notes the places that each model was given, and trains nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fits: list[FitData] = []
        monkeypatch.setattr("trainer.setup.fit_model", self.fit)

    def fit(self, model: keras.Model, data: FitData, *rest: Any) -> list[Progress]:
        self.fits.append(data)
        return [
            Progress(branch.name, best=dict.fromkeys(("last", "acc", "loss"), branch.get_weights()))
            for branch in branches_of(model)
        ]


@pytest.mark.parametrize("flags", [("--folds", "4"), ("--leave-out", "year")])
def test_every_sample_is_measured_once_by_those_that_never_saw_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """The stand-ins are right about what they have learned and about nothing else: all must be wrong."""
    fake = make_fake((30, 30))
    fake.kept["farm"] = [f"farm {k % 15}" for k in range(60)]
    fake.kept["year"] = [str(2010 + k % 15 % 3) for k in range(60)]
    folder = Path(write_fake(tmp_path / "s", fake))
    lines = [f"{name},{0.1 if k % 7 == 0 else 0.9}" for k, name in enumerate(fake.ids)]
    (folder / "quality.csv").write_text("\n".join(["id,quality", *lines]) + "\n")
    given = ["-i", str(folder), "-o", str(tmp_path / "m"), *MLP, "--split-by", "farm", "-v", "0.2", *flags]
    args = parse_args([*given, "--min-quality", "0.5"])
    setup = make_setup(args)
    class_ids = setup.samples.class_ids
    farms, years = (sample_groups(setup.samples, name) for name in ("farm", "year"))

    learned = Learned(monkeypatch)
    tested: list[np.ndarray] = []
    of_forest: list[tuple[np.ndarray, np.ndarray]] = []
    drawn_by: list[np.ndarray] = []

    def remembered(places: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.where(np.isin(places, known), class_ids[places], 1 - class_ids[places])

    def predict(model: object, series: np.ndarray, places: np.ndarray) -> np.ndarray:
        tested.append(places)
        data = learned.fits[-1]
        known = np.concatenate([data.training, data.validation])
        return np.eye(2, dtype=np.float32)[remembered(places, known)]

    def forest(
        prepared: np.ndarray, ids: np.ndarray, known: np.ndarray, places: np.ndarray, *rest: Any
    ) -> np.ndarray:
        of_forest.append((known, places))
        return remembered(places, known)

    def measured(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, *rest: Any) -> dict[str, Any]:
        drawn_by.append(groups)
        np.testing.assert_array_equal(truth, class_ids)
        accuracy = {"value": float((truth == predicted).mean())}
        return dict.fromkeys(("overall_accuracy", "kappa", "macro_f1"), accuracy)

    monkeypatch.setattr("trainer.evaluate.predict", predict)
    monkeypatch.setattr("trainer.crossval.forest_predictions", forest)
    monkeypatch.setattr("trainer.crossval.measured", measured)
    found = cross_validate(setup, args, ModelFolder(str(tmp_path / "m")), "key")

    assert found["overall_accuracy"]["value"] == found["random_forest"]["overall_accuracy"]["value"] == 0
    assert [row["overall_accuracy"] for row in found["folds"]] == [0] * len(tested)
    assert [row["random_forest"] for row in found["folds"]] == [0] * len(tested)
    assert len(learned.fits) == len(tested) == len(of_forest) == (4 if flags[0] == "--folds" else 3)
    assert sorted(np.concatenate(tested).tolist()) == list(range(60))
    for data, test, (known, places) in zip(learned.fits, tested, of_forest, strict=True):
        np.testing.assert_array_equal(places, test)
        seen = np.concatenate([data.training, data.validation])
        assert min(len(data.training), len(data.validation), len(test)) > 0
        assert len({*data.training, *data.validation, *test}) == len(seen) + len(test)
        assert not {*farms[seen]} & {*farms[test]}
        assert not {*farms[data.training]} & {*farms[data.validation]}
        if flags[0] == "--leave-out":
            assert not {*years[seen]} & {*years[test]}
        # A forest has no epochs to choose, so what chooses the model's may grow it; nothing else does.
        assert sorted(known.tolist()) == sorted(seen.tolist())
        assert setup.trusted[data.training].all()
    assert not setup.trusted[np.concatenate(tested)].all()  # a test without difficult samples would flatter
    for groups in drawn_by:
        np.testing.assert_array_equal(groups, farms if flags[0] == "--folds" else years)


def test_trials_are_compared_on_the_validation_split_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers about samples of the other splits would make the loss NaN, and are not asked for."""
    fake = make_fake((24, 24))
    parts = ["train", "test", "validation", "train"]
    fake.kept["part"] = [parts[k % 4] for k in range(48)]
    samples = read_samples([write_fake(tmp_path / "s", fake)])
    validation, training = (np.flatnonzero(samples.kept["part"] == name) for name in ("validation", "train"))
    chance = np.random.default_rng(1).uniform(0.1, 0.9, 48)  # of the reference class
    answers = np.empty((48, 2), np.float32)
    answers[np.arange(48), samples.class_ids] = chance
    answers[np.arange(48), 1 - samples.class_ids] = 1 - chance
    answers[samples.kept["part"] != "validation"] = np.nan
    asked: list[int] = []

    def predict(model: object, series: np.ndarray, places: np.ndarray) -> np.ndarray:
        asked.extend(places.tolist())
        return answers[places]

    monkeypatch.setattr("trainer.evaluate.predict", predict)
    learned = Learned(monkeypatch)
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "t"), *MLP, "--split-column", "part"]
    assert tune.main([*flags, "--trials", "1"]) == 0
    with (tmp_path / "t" / tune.TRIALS_CSV).open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["validation_loss"]) == pytest.approx(-np.log(chance[validation]).mean(), abs=2e-6)
    assert float(row["validation_accuracy"]) == pytest.approx((chance[validation] > 0.5).mean())
    assert asked == validation.tolist()
    (data,) = learned.fits
    np.testing.assert_array_equal(data.training, training)
    np.testing.assert_array_equal(data.validation, validation)
