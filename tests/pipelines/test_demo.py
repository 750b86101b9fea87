"""The demo's own arithmetic and endings; its steps have their own tests, and `make demo` runs them all."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.synthetic import Points, Scene, make_scene, sample_points
from pipelines import baselines, demo
from pipelines.baselines import Baseline, filled_series, score_baselines


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(64, seed=7)


@pytest.fixture(scope="module")
def points(scene) -> Points:
    return sample_points(scene, per_class=20)


def test_the_truth_scores_one(scene, points):
    score = demo.score_map(scene.truth, scene, points)
    assert score.accuracy == 1
    assert score.recall == score.precision == (1,) * 5
    assert (score.unlabelled, score.invented) == (0, 0)
    assert score.nodata == (scene.truth == 255).sum() > 0


def test_what_is_missing_counts_as_wrong_and_what_is_invented_is_told(scene, points):
    values = scene.truth.copy()
    values[scene.truth == 4] = 255
    values[scene.truth == 255] = 1
    score = demo.score_map(values, scene, points)
    scored = scene.truth != 255
    scored[points.row, points.col] = False
    assert score.accuracy == pytest.approx(1 - (scene.truth[scored] == 4).mean())
    assert score.recall[3] == 0
    assert math.isnan(score.precision[3])
    assert score.unlabelled == (scene.truth == 4).sum()
    assert score.invented == (scene.truth == 255).sum()


def test_training_points_do_not_count(scene, points):
    values = scene.truth.copy()
    values[points.row, points.col] = 1
    assert demo.score_map(values, scene, points).accuracy == 1


def test_baselines_rank_as_the_scene_promises(scene, points, monkeypatch):
    monkeypatch.setattr(baselines, "TREES", 20)
    pixels = np.nonzero(scene.truth != 255)
    forest, nearest, single, majority = score_baselines(scene, points, pixels)
    assert [row.single_date for row in (forest, nearest, single, majority)] == [False, False, True, False]
    assert forest.accuracy > single.accuracy + 0.1
    assert nearest.accuracy > single.accuracy
    assert majority.accuracy == pytest.approx(np.bincount(scene.truth[pixels]).max() / len(pixels[0]))


def test_filled_series_keeps_what_was_observed(scene):
    row, col = np.array([3, 40]), np.array([5, 7])
    series = filled_series(scene, row, col)
    assert series.shape == (2, 24, 4)
    seen = scene.valid[:, row, col].T
    np.testing.assert_array_equal(series[seen], scene.cube[:, row, col].transpose(1, 0, 2)[seen])
    assert (series < 65535).all()


@pytest.fixture
def steps(monkeypatch) -> list[tuple[str, ...]]:
    """Replace the four steps by one that knows the answer; give what they were called with."""
    calls: list[tuple[str, ...]] = []

    def fake(argv: tuple[str, ...]) -> int:
        calls.append(argv)
        if argv[0] == "classify-img-series":
            target = Path(argv[argv.index("-o") + 1])
            shutil.copy(target.parent / "scene" / "truth.tif", target)
        return 0

    monkeypatch.setattr(demo, "dlts", fake)
    monkeypatch.setattr(demo, "score_baselines", lambda *_: [Baseline("one date", 0.5, single_date=True)])
    return calls


def test_a_good_map_ends_well_and_names_its_files(steps, tmp_path, capsys):
    assert demo.main(["-o", str(tmp_path), "--size", "64", "--epochs", "3"]) == 0
    assert [call[0] for call in steps] == [
        "generate-img-series", "generate-series", "train-model", "classify-img-series",
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "100.0%" in told
    for path in ("map.tif", "map.png", "truth.png", "model/report.html"):
        assert str(tmp_path / path) in told
    for path in ("map.png", "truth.png"):
        assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "scores.json").read_text())["accuracy"] == 1


def test_a_map_hardly_better_than_one_date_is_a_failure(steps, tmp_path, capsys, monkeypatch):
    one_date = [Baseline("one date", 0.91, single_date=True)]
    monkeypatch.setattr(demo, "score_baselines", lambda *_: one_date)
    assert demo.main(["-o", str(tmp_path), "--size", "64"]) == 1
    assert "less than 10 points apart" in capsys.readouterr().err


def test_a_map_on_another_grid_is_refused(steps, tmp_path, capsys, monkeypatch):
    def shifted(argv: tuple[str, ...]) -> int:
        if argv[0] == "classify-img-series":
            target = Path(argv[argv.index("-o") + 1])
            shutil.copy(target.parent / "scene" / "truth.tif", target)
            with rasterio.open(target, "r+") as image:
                image.transform = image.transform @ image.transform.translation(1, 0)
        return 0

    monkeypatch.setattr(demo, "dlts", shifted)
    assert demo.main(["-o", str(tmp_path), "--size", "64"]) == 1
    assert "does not lie on the grid" in capsys.readouterr().err


def test_a_failing_step_ends_the_demo(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "dlts", lambda _: 1)
    assert demo.main(["-o", str(tmp_path), "--size", "64"]) == 1
    assert "generate-img-series ended with status 1" in capsys.readouterr().err


def test_a_scene_that_cannot_be_is_one_sentence(tmp_path, capsys):
    assert demo.main(["-o", str(tmp_path), "--size", "9"]) == 1
    assert "size must lie in 64" in capsys.readouterr().err


def test_another_scene_leaves_no_old_images(steps, tmp_path):
    for seed in ("7", "8"):
        assert demo.main(["-o", str(tmp_path), "--size", "64", "--seed", seed]) == 0
    names = [path.name for path in sorted((tmp_path / "scene" / "images").iterdir())]
    assert names == [f"DEMO_{date:%Y%m%d}.tif" for date in make_scene(64, 8).dates]


def test_the_whole_demo_on_a_small_scene(tmp_path, capsys):
    """All four steps as they are: the map beats one date by ten points, or the demo itself says no."""
    assert demo.main(["-o", str(tmp_path), "--size", "96", "--epochs", "15"]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["accuracy"] > 0.85
    assert scores["pixels"]["unlabelled"] == scores["pixels"]["invented"] == 0
