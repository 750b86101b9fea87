from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlts_beam.beam.handler import (
    Cube,
    Probabilities,
    Skipped,
    Unread,
    WindowModelHandler,
    give_freed_memory_back,
    keep_freed_memory,
    labelled_pixels,
)
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.postprocess import label_pixels
from dlts_beam.spec import ModelSpec, PreparationSpec, Timeline
from tests.fakes import expected_map, make_model, random_scene


def handler_of(folder: Path, patch: int) -> tuple[WindowModelHandler, np.ndarray, SeriesReader]:
    scene = random_scene(folder / "series", 20, 30)
    model = make_model(folder / "model", scene.spec, patch)
    spec = ModelSpec.from_json((model / "model.json").read_text())
    serving = str(model / "serving" / "loss")
    handler = WindowModelHandler(serving, spec.serving, spec.preparation, scene.spec.days, "onnx")
    return handler, expected_map(scene.stored, scene.spec.days, patch), SeriesReader(scene.spec)


@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize("window", [Window(0, 0, 20, 30), Window(7, 11, 6, 5), Window(19, 0, 1, 30)])
def test_a_window_gets_the_labels_of_the_whole_raster(tmp_path: Path, patch: int, window: Window) -> None:
    handler, wanted, reader = handler_of(tmp_path, patch)
    read = window.grow(patch // 2).intersect(Window(0, 0, 20, 30))
    assert read is not None
    cube = Cube(window, read, *reader.read(read))
    (result,) = handler.run_inference([cube], handler.load_model())
    assert isinstance(result, Probabilities)
    wanted = wanted[window.slices]
    np.testing.assert_array_equal(result.labelled, wanted != 255)
    found = np.array([3, 7])[label_pixels(result.quantised)]
    np.testing.assert_array_equal(found, wanted[result.labelled])


@pytest.mark.parametrize("patch", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_only_wanted_pixels_are_computed(tmp_path: Path, patch: int, share: float) -> None:
    handler, _, reader = handler_of(tmp_path, patch)
    window = Window(0, 0, 20, 30)
    values, valid = reader.read(window)
    engine = handler.load_model()
    (whole,) = handler.run_inference([Cube(window, window, values, valid)], engine)
    chosen = np.random.default_rng(0).random((20, 30)) < share
    (some,) = handler.run_inference([Cube(window, window, values, valid, chosen)], engine)
    assert isinstance(whole, Probabilities)
    assert isinstance(some, Probabilities)
    np.testing.assert_array_equal(some.labelled, whole.labelled & chosen)
    np.testing.assert_array_equal(some.quantised, whole.quantised[chosen[whole.labelled]])


def test_what_was_not_read_goes_through(tmp_path: Path) -> None:
    handler, _, _ = handler_of(tmp_path, 1)
    engine = handler.load_model()
    unread, skipped = handler.run_inference([Unread("why"), Skipped(Window(0, 0, 2, 3))], engine)
    assert unread == Unread("why")
    assert isinstance(skipped, Probabilities)
    assert skipped.labelled.shape == (2, 3)
    assert skipped.quantised.shape == (0, 2)
    assert handler.get_num_bytes([Unread("why")]) == 0


def test_a_model_that_gives_no_probabilities_is_told(tmp_path: Path) -> None:
    handler, _, reader = handler_of(tmp_path, 1)
    window = Window(0, 0, 4, 30)

    class Broken:
        spec = handler._serving

        def predict(self, strip: np.ndarray) -> np.ndarray:
            return np.full((64, 2), np.nan, np.float32)

    cube = Cube(window, window, *reader.read(window))
    with pytest.raises(DltsError, match="gives no probabilities for the window at row 0 col 0"):
        list(handler.run_inference([cube], Broken()))  # type: ignore[arg-type]


def test_the_centre_decides_how_often_a_pixel_was_seen() -> None:
    valid = np.zeros((3, 3, 3, 1), bool)
    valid[:, 0, 0] = True
    valid[:2, 1, 1] = True
    window = Window(1, 1, 1, 1)
    cube = Cube(window, Window(0, 0, 3, 3), np.zeros((3, 3, 3, 1), np.float32), valid)
    days = np.array([0.0, 13.0, 26.0])

    def labelled(least: int, timeline: Timeline | None = None) -> bool:
        spec = PreparationSpec(("b1",), (0.0,), timeline=timeline, min_valid=least)
        return bool(labelled_pixels(cube, days, spec)[0, 0])

    assert [labelled(least) for least in (1, 2, 3)] == [True, True, False]
    one_period = Timeline(0.0, 13.0, 1, method="median")
    assert [labelled(least, one_period) for least in (1, 2, 3)] == [True, False, False]


def test_freed_memory_can_be_kept_and_given_back() -> None:
    keep_freed_memory()
    give_freed_memory_back()
