from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.spec import Band
from tests.dlts_beam.io.raster.scenes import Scene, numbers


def test_truncated_file_is_named_with_band_step_and_window(scene: Scene):
    noise = np.random.default_rng(0).integers(0, 60000, (64, 64, 2)).astype(np.uint16)
    scene.height = scene.width = 64
    for _ in range(2):
        scene.add(noise, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    path = Path(scene.files[1].path)
    path.write_bytes(path.read_bytes()[:9000])
    scene.files.pop()
    scene.register(path, 0, 0, 64, 64)
    spec = scene.series([[[(number, 1)], [(number, 2)]] for number in (0, 1)])
    with SeriesReader(spec) as reader:
        with pytest.raises(UnreadableSourceError) as caught:
            reader.read(Window(40, 48, 9, 16))
        text = str(caught.value)
        for part in (str(path), "band 1, 2", "time step 1 (2020-01-02)", "row 40 col 48 9 x 16"):
            assert part in text
        # The reader goes on with what can be read.
        assert reader.read(Window(0, 0, 4, 4))[1].all()
        with pytest.raises(UnreadableSourceError):
            reader.read_stored(Window(40, 48, 9, 16))


def test_vanished_file_is_unreadable(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    os.remove(spec.files[0].path)
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError) as caught:
        reader.read(Window(0, 0, 2, 2))
    assert spec.files[0].path in str(caught.value)
    assert "time step 0" in str(caught.value)


def test_what_is_no_image_is_unreadable(scene: Scene, tmp_path: Path):
    (tmp_path / "text.tif").write_text("hello")
    scene.register(tmp_path / "text.tif", 0, 0, 6, 7)
    spec = scene.series([[[(0, 1)]]], [Band(1, "a", "uint8")])
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError, match=r"text\.tif, band 1"):
        reader.read(Window(0, 0, 2, 2))


def test_missing_band_is_unreadable(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 4)]]])
    with SeriesReader(spec) as reader, pytest.raises(UnreadableSourceError, match="band 4"):
        reader.read(Window(0, 0, 2, 2))


@pytest.mark.parametrize("change", ["content", "time"])
def test_changed_file_is_refused(scene: Scene, change: str):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    path = Path(spec.files[0].path)
    if change == "content":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        os.utime(path, ns=(1, 1))
    with (
        SeriesReader(spec) as reader,
        pytest.raises(DltsError, match="changed after the series was made") as caught,
    ):
        reader.read(Window(0, 0, 2, 2))
    assert not isinstance(caught.value, UnreadableSourceError)


def test_more_files_than_handles(scene: Scene):
    cube = np.stack([numbers(6, 7, start=100 * k + 1) for k in range(12)])
    spec = scene.series([[[(scene.add(pixels), 1)]] for pixels in cube])
    with SeriesReader(spec, handle_limit=3) as reader:
        for _ in range(2):
            np.testing.assert_array_equal(reader.read(spec.grid.window)[0], cube)
            assert len(reader._pool._open) == 3
        reader.close()
        assert not reader._pool._open
        np.testing.assert_array_equal(reader.read(spec.grid.window)[0], cube)


def test_reader_travels_without_its_handles(scene: Scene):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    with SeriesReader(spec, ("b1",)) as reader:
        expected = reader.read(spec.grid.window)
        with pickle.loads(pickle.dumps(reader)) as copy:
            assert not copy._pool._open
            for one, other in zip(expected, copy.read(spec.grid.window), strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, 6, 2, 2), (5, 0, 2, 1), (9, 9, 1, 1)])
def test_window_outside_the_grid_is_a_mistake_of_the_caller(scene: Scene, window: tuple[int, int, int, int]):
    spec = scene.series([[[(scene.add(numbers(6, 7)), 1)]]])
    with SeriesReader(spec) as reader, pytest.raises(ValueError, match="reaches outside the grid"):
        reader.read(Window(*window))
