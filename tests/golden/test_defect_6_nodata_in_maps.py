"""Defect 6, in maps: holes were data. Now they are filled for the model, and never seen means nodata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import rasterio

from dlts_beam.spec import PreparationSpec, Timeline
from tests.fakes import FILL, classify, make_model, read_map, write_scene

BRIGHTER, DARKER, NODATA = 7, 3, 255


def test_holes_are_filled_from_their_own_pixel_and_unseen_pixels_are_nodata(tmp_path: Path) -> None:
    stored = np.array(
        [
            # pixel: rises, falls, rises through a hole, hole first, hole last, seen once, never seen
            [100, 300, 100, 0, 100, 0, 0],
            [200, 200, 0, 300, 50, 250, 0],
            [300, 100, 300, 100, 0, 0, 0],
        ],
        np.uint16,
    ).reshape(3, 1, 7, 1)
    scene = write_scene(tmp_path / "series", stored)
    model = make_model(tmp_path / "model", scene.spec)
    output = tmp_path / "map.tif"
    assert classify(scene, model, output) == 0
    # Seen once: first and last are the same, so it is not brighter.
    assert read_map(output)[0].tolist() == [BRIGHTER, DARKER, BRIGHTER, DARKER, DARKER, DARKER, NODATA]
    with rasterio.open(output) as dataset:
        assert dataset.nodata == NODATA
    certificate = json.loads((tmp_path / "map.tif.json").read_text())
    assert (certificate["classified"], certificate["nodata_pixels"]) == (6, 1)


def test_a_neighbour_that_was_never_seen_takes_the_training_mean(tmp_path: Path) -> None:
    """With patches of 3 the unseen right pixel counts with the mean at both ends: no difference."""
    stored = np.array([[100, 0], [101, 0]], np.uint16).reshape(2, 1, 2, 1)
    scene = write_scene(tmp_path / "series", stored)
    model = make_model(tmp_path / "model", scene.spec, patch=3)
    assert FILL > 0
    assert classify(scene, model, tmp_path / "map.tif") == 0
    assert read_map(tmp_path / "map.tif").tolist() == [[BRIGHTER, NODATA]]


def test_too_few_observations_are_nodata_when_the_model_says_so(tmp_path: Path) -> None:
    stored = np.array([[100, 100], [0, 150], [200, 200]], np.uint16).reshape(3, 1, 2, 1)
    scene = write_scene(tmp_path / "series", stored)
    preparation = PreparationSpec(("b1",), (FILL,), min_valid=3)
    model = make_model(tmp_path / "model", scene.spec, preparation=dataclasses.replace(preparation))
    assert classify(scene, model, tmp_path / "map.tif") == 0
    assert read_map(tmp_path / "map.tif").tolist() == [[NODATA, BRIGHTER]]


def test_a_pixel_seen_outside_the_timeline_only_is_nodata(tmp_path: Path) -> None:
    """Dates on days 0, 13, 26 and 39; the model sees the composites of [0, 13) and [13, 26) alone."""
    stored = np.full((4, 8, 8, 1), 700, np.uint16)
    stored[:2, :4] = 0
    scene = write_scene(tmp_path / "series", stored)
    timeline = Timeline(0.0, 13.0, 2, method="median")
    preparation = PreparationSpec(("b1",), (FILL,), timeline=timeline)
    model = make_model(tmp_path / "model", scene.spec, preparation=preparation)
    assert classify(scene, model, tmp_path / "map.tif") == 0
    found = read_map(tmp_path / "map.tif")
    assert (found[:4] == NODATA).all()
    assert (found[4:] == DARKER).all()
    assert json.loads((tmp_path / "map.tif.json").read_text())["classified"] == 32
