from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.spec import PreparationSpec
from tests.trainer.helpers import make_fake, write_fake
from trainer import evaluate, plots, statistics
from trainer.dataset import read_samples
from trainer.folder import ModelFolder
from trainer.prepared import prepare_samples
from trainer.progress import Progress
from trainer.results import (
    Predictions,
    forest_summary,
    history_section,
    log_confusion,
    map_units,
    measured,
    write_results,
    wrong_section,
)

NAMES = ("class 0", "class 1")


def test_the_report_shows_the_worst_samples_and_loads_nothing(tmp_path: Path) -> None:
    fake = make_fake((12, 12))
    samples = read_samples([write_fake(tmp_path / "s", fake)])
    prepared = prepare_samples(samples, PreparationSpec(("b1", "b2"), (0.0, 0.0)))
    places = np.arange(12, 24)
    truth = samples.class_ids[places]
    predicted = truth.copy()
    predicted[3] = 1 - truth[3]
    probabilities = np.where(np.eye(2)[predicted] == 1, 0.9, 0.1).astype(np.float32)
    predictions = Predictions(places, truth, predicted, probabilities, samples.ids[places])
    training = np.arange(24) < 12
    classes = fake.spec.classes
    wrong = wrong_section(predictions, samples, prepared, training, range(6), ("b1", "b2"), classes)
    assert str(samples.ids[15]) in wrong
    assert wrong.count("<tr>") == 2  # the head and one sample
    assert "0.100" in wrong
    found = {"split": "test", **measured(truth, predicted, predictions.groups, NAMES, 2)}
    folder = ModelFolder(str(tmp_path / "m"))
    write_results(folder, found, classes, "test", [wrong])
    page = (tmp_path / "m" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    assert "<script" not in page
    log_confusion(folder, found, NAMES)
    assert list((tmp_path / "m" / "log" / "test").iterdir())
    predictions = Predictions(places, truth, truth, probabilities, samples.ids[places])
    assert wrong_section(predictions, samples, prepared, training, range(6), ("b1", "b2"), classes) == ""


def test_only_samples_that_the_model_has_not_used_tell_of_others(tmp_path: Path) -> None:
    truth = np.arange(24) % 2
    groups = np.arange(24).astype(str)
    for part, flatters, shown in (
        ("test", False, "on 24 samples of the test split;"),
        ("new", False, "on 24 new samples;"),
        ("validation", True, "on 24 samples of the validation split;"),
        ("all", True, "on 24 samples;"),
    ):
        found = {"split": part, **measured(truth, truth, groups, NAMES, 2, unseen=not flatters)}
        write_results(ModelFolder(str(tmp_path)), found, make_fake().spec.classes, part, [])
        page = (tmp_path / "report.html").read_text()
        assert shown in page
        assert ("the figures flatter" in page) == flatters
        assert ("no sample was wrong" in page) == ("no sample was wrong" in evaluate.table(found)) != flatters


@pytest.mark.parametrize(
    ("groups", "told"),
    [(1, "all samples measured are of one group"), (3, "of 3 independent groups only"), (12, None)],
)
def test_few_groups_are_told_on_the_terminal_and_in_the_report(
    tmp_path: Path, groups: int, told: str | None
) -> None:
    truth = np.arange(24) % 2
    predicted, group = np.where(np.arange(24) < 4, 1 - truth, truth), (np.arange(24) % groups).astype(str)
    measures = measured(truth, predicted, group, NAMES, 2)
    cross = {"how": "2 folds", "folds": [{"fold": 1}], **measures}
    found = {"split": "test", **measures, "cross_validation": cross}
    table = evaluate.table(found)
    write_results(ModelFolder(str(tmp_path)), found, make_fake().spec.classes, "test", [])
    page = (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "metrics.json").read_text()) == found
    assert ("95 % interval" in table) == (groups > 1)
    if told is None:
        assert "caution" not in found
        assert "caution" not in table
        return
    assert f"\ncaution: {found['caution']}" in table
    assert "\ncaution: in cross-validation, " in table
    assert told in found["caution"]
    assert page.count(told) == 2


def test_clouds_left_in_are_told_from_clean_series() -> None:
    generator = np.random.default_rng(0)
    season = 0.4 + 0.3 * np.sin(np.arange(24) / 4)
    clean = season[None, :] + generator.normal(0, 0.03, (300, 24))
    cloudy = np.where(generator.random(clean.shape) < 0.15, generator.uniform(0.8, 1.4, clean.shape), clean)
    training = np.arange(300) < 200
    shares = [
        statistics.spike_share(series[:, :, None, None, None].astype(np.float32), training)
        for series in (clean, cloudy)
    ]
    assert shares[0] < 0.04 < statistics.UNMASKED_SPIKES < shares[1]
    assert statistics.spike_share(np.ones((5, 2, 1, 1, 1), np.float32), np.ones(5, bool)) == 0


def test_the_worst_samples_are_the_wrong_ones_that_the_model_was_surest_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = make_fake((20, 20))
    samples = read_samples([write_fake(tmp_path, fake)])
    prepared = prepare_samples(samples, PreparationSpec(("b1", "b2"), (0.0, 0.0)))
    places = np.arange(10, 40)
    truth = samples.class_ids[places]
    # Two of three are wrong; of the right ones, some are surer than any wrong one, some less sure.
    chance = np.random.default_rng(3).permutation(np.linspace(0.02, 0.45, 30))
    chance[::3] = np.linspace(0.55, 0.99, 10)
    probabilities = np.empty((30, 2), np.float32)
    probabilities[np.arange(30), truth], probabilities[np.arange(30), 1 - truth] = chance, 1 - chance
    predicted = evaluate.predicted_classes(probabilities)
    np.testing.assert_array_equal(predicted == truth, np.arange(30) % 3 == 0)
    drawn: list[plots.WrongSample] = []

    def draw(days: Sequence[float], wrong: Sequence[plots.WrongSample]) -> bytes:
        drawn.extend(wrong)
        return b""

    monkeypatch.setattr(plots, "wrong_png", draw)
    predictions = Predictions(places, truth, predicted, probabilities, samples.ids[places])
    training = np.arange(40) < 10
    page = wrong_section(predictions, samples, prepared, training, range(6), ("b1", "b2"), fake.spec.classes)
    worst = sorted((k for k in range(30) if k % 3), key=lambda k: chance[k])[:9]
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page)][1:]
    for row, k in zip(rows, worst, strict=True):
        assert row[1:3] == [f"{samples.x[places[k]]:.1f}", f"{samples.y[places[k]]:.1f}"]
    assert [(row[0], *row[3:]) for row in rows] == [
        (samples.ids[places[k]], NAMES[truth[k]], NAMES[1 - truth[k]], f"{chance[k]:.3f}") for k in worst
    ]
    means = [prepared[training & (samples.class_ids == k), :, 0, 0].mean(axis=0) for k in (0, 1)]
    for k, sample in zip(worst, drawn, strict=True):
        band = ("b1", "b2").index(sample.band)
        assert sample.title.startswith(samples.ids[places[k]])
        np.testing.assert_array_equal(sample.series, prepared[places[k], :, 0, 0, band])
        for (name, mean, _), own in ((sample.reference, truth[k]), (sample.predicted, 1 - truth[k])):
            assert name == NAMES[own]
            np.testing.assert_allclose(mean, means[own][:, band], rtol=1e-5)


def test_the_pictures_have_the_reference_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predicted = np.array([0] * 6 + [1] * 4), np.array([0, 0, 0, 1, 1, 1] + [1] * 4)
    found = {"split": "test", **measured(truth, predicted, np.arange(10).astype(str), NAMES, 2)}
    shown: list[list[list[int]]] = []
    draw = plots.confusion_png

    def note(matrix: np.ndarray, names: Sequence[str], title: str) -> bytes:
        shown.append(matrix.tolist())
        return draw(matrix, names, title)

    monkeypatch.setattr(plots, "confusion_png", note)
    folder = ModelFolder(str(tmp_path))
    write_results(folder, found, make_fake().spec.classes, "test", [])
    log_confusion(folder, found, NAMES)
    assert shown == [[[3, 3], [0, 4]]] * 2
    assert json.loads((tmp_path / "metrics.json").read_text())["confusion_matrix"]["values"] == shown[0]


def test_the_history_tells_where_a_forest_learned_from_a_part() -> None:
    grown = Progress("forest", [{"epoch": 1, "seconds": 2.0, "loss": 0.25}])
    assert "epochs; loss 0.2500.</p>" in history_section([grown], 20_000)
    told = "epochs; loss 0.2500; trained on 20,000 of 20,001 samples.</p>"
    assert told in history_section([grown], 20_001)


@pytest.mark.parametrize(
    ("x", "y", "crs", "shown"),
    [
        (-6081330.04, -1338395.25, 'PROJCS["unknown",UNIT["metre",1]]', ("-6081330.0", "-1338395.2")),
        (500015.0, 8999985.0, "EPSG:32721", ("500015.0", "8999985.0")),
        (12.5, 7.75, 'PROJCRS["local"]', ("12.5", "7.8")),
        (-56.12345678, -12.5, 'GEOGCS["WGS 84"]', ("-56.123457", "-12.500000")),
        (0.0000012, 51.0, "EPSG:4326", ("0.000001", "51.000000")),
    ],
)
def test_coordinates_can_be_pasted_into_a_gis(x: float, y: float, crs: str, shown: tuple[str, str]) -> None:
    assert map_units(x, y, crs) == shown


@pytest.mark.parametrize("wrong", ["wrong", "right"])
def test_a_forest_without_an_error_and_one_without_a_hit_prove_as_little_as_such_a_model(
    tmp_path: Path, wrong: str
) -> None:
    truth, groups = np.arange(43) % 2, np.arange(43).astype(str)
    found = measured(truth, np.where(groups == "5", 1 - truth, truth), groups, NAMES, 2)
    flat = measured(truth, truth if wrong == "wrong" else 1 - truth, groups, NAMES, 2)
    forest = forest_summary(flat, "trained on 9 of 99 samples")
    assert forest["note"] == "trained on 9 of 99 samples"
    cross = {"how": "2 folds", "folds": [{"fold": 1}], **flat, "random_forest": forest}
    found = {"split": "test", **found, "random_forest": forest, "cross_validation": cross}
    table = evaluate.table(found)
    write_results(ModelFolder(str(tmp_path)), found, make_fake().spec.classes, "test", [])
    page = (tmp_path / "report.html").read_text()
    bound = f"no sample was {wrong}, which leaves a bootstrap nothing to draw: after 43 independent groups"
    for where in ("ith the random forest", "n cross-validation", "ith the random forest in cross-validation"):
        assert f"{where}, {bound}" in table
        assert f"{where}, {bound}" in page
    assert table.count(f"up to 6.7% {wrong} ones") == page.count(f"up to 6.7% {wrong} ones") == 3
    assert "\nnote: with the random forest, " in table
