"""Probabilities of step 4: what they are, and whose they are when a run comes again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from dlts_beam.postprocess import LEVELS
from tests.fakes import SCALE, Scene, classify, load, make_model, read_map
from tests.pipelines.test_classify_area import write_area

NODATA = 255


@pytest.mark.parametrize("extension", ["tif", "img"])
def test_the_map_is_a_view_on_the_probabilities(scene: Scene, tmp_path: Path, extension: str) -> None:
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    output = tmp_path / f"map.{extension}"
    assert classify(scene, model, output, "--probabilities", "--tile", "16") == 0
    with rasterio.open(tmp_path / f"map.probabilities.{extension}") as dataset:
        assert dataset.dtypes == ("uint16", "uint16")
        assert dataset.nodata == 65535
        assert dataset.descriptions == ("darker", "brighter")
        chances = dataset.read()
    found = read_map(output)
    seen = found != NODATA
    np.testing.assert_array_equal(np.array([3, 7])[chances.argmax(axis=0)][seen], found[seen])
    assert (chances[:, ~seen] == 65535).all()
    assert np.abs(chances[:, seen].sum(axis=0, dtype=int) - LEVELS).max() <= 1
    assert load(tmp_path / f"map.{extension}.json")["probability_levels"] == LEVELS
    assert abs(chances[1][seen] / LEVELS - 0.5).min() < 9 * 4000 * SCALE

    alone = tmp_path / "alone" / f"map.{extension}"
    assert classify(scene, model, alone) == 0
    assert alone.read_bytes() == output.read_bytes()
    cut = tmp_path / "cut" / f"map.{extension}"
    assert classify(scene, model, cut, "--probabilities", "--tile", "32") == 0
    name = f"map.probabilities.{extension}"
    assert (cut.parent / name).read_bytes() == (tmp_path / name).read_bytes()


def test_probabilities_asked_for_later_are_computed_then(scene: Scene, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    assert classify(scene, model, output, "--tile", "32") == 0
    before = output.read_bytes()
    assert classify(scene, model, output, "--tile", "32", "--probabilities") == 0
    assert load(tmp_path / "map.tif.run.json")["written"] == 4
    assert output.read_bytes() == before
    assert classify(scene, model, output, "--tile", "32", "--probabilities") == 0
    assert load(tmp_path / "map.tif.run.json")["reused"] == 4
    # And back: the class map alone comes from the same tiles.
    assert classify(scene, model, output, "--tile", "32") == 0
    assert load(tmp_path / "map.tif.run.json")["reused"] == 4
    assert load(tmp_path / "map.tif.json")["probability_levels"] is None


def test_probabilities_of_another_model_do_not_stay_beside_the_map(scene: Scene, tmp_path: Path) -> None:
    output, chances = tmp_path / "map.tif", tmp_path / "map.probabilities.tif"
    model = make_model(tmp_path / "model", scene.spec)
    assert classify(scene, model, output, "--probabilities") == 0
    assert classify(scene, model, output) == 0
    assert chances.exists()  # still those of this map
    assert classify(scene, model, output, "--probabilities") == 0
    make_model(tmp_path / "model", scene.spec, reverse=True)
    assert classify(scene, model, output) == 0
    assert not chances.exists()
    assert sorted(path.name for path in tmp_path.glob("map*")) == [
        "map.tif", "map.tif.aux.xml", "map.tif.json", "map.tif.run.json",
    ]  # fmt: skip


def test_probabilities_of_the_same_map_stay_however_it_is_cut(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, chances = tmp_path / "map.tif", tmp_path / "map.probabilities.tif"
    model = make_model(tmp_path / "model", scene.spec)
    write_area(tmp_path / "area.gpkg", scene)
    area = ("--roi", str(tmp_path / "area.gpkg"))
    assert classify(scene, model, output, *area, "--tile", "16", "--probabilities") == 0
    assert classify(scene, model, output, *area, "--tile", "32") == 0
    assert chances.exists()
    assert "note:" not in capsys.readouterr().err
    # Nobody knows by now whose they are, so they are told of, not removed.
    assert classify(scene, model, output, "--tile", "16") == 0
    assert f"note: {chances} was there before and is not of this map; " in capsys.readouterr().err
    assert classify(scene, model, output, "--tile", "16", "--probabilities") == 0
    assert classify(scene, model, output, *area, "--tile", "32") == 0
    told = f"note: removed {chances}, which belongs to the map that {output} was before; add --probabilities"
    assert told in capsys.readouterr().err
    assert not chances.exists()
