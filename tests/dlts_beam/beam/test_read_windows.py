"""What is waited for, what is not, and what is not even read, where an image cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlts_beam import retry
from dlts_beam.beam import read_windows
from dlts_beam.beam.handler import Cube, Read, Unread
from dlts_beam.beam.read_windows import _ReadWindows
from dlts_beam.beam.stage import ClassifySettings, TileTask
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.handles import HandlePool
from dlts_beam.io.raster.reader import SeriesReader, UnreadableSourceError
from dlts_beam.spec import SourceFile
from tests.dlts_beam.beam.test_classify import settings_of, tasks

# Four tiles of 20 x 30 pixels, of four, four, two and two windows.
ALL = [Cube] * 12


@pytest.fixture
def settings(tmp_path: Path) -> ClassifySettings:
    return replace(settings_of(tmp_path), quarantine=True)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, in place of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waited.append)
    return waited


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of images that cannot be opened, for as long as they stand in the list."""
    paths: list[str] = []
    get = HandlePool.get

    def opened(pool: HandlePool, file: SourceFile, nodata: float | None) -> object:
        if file.path in paths:
            raise UnreadableSourceError(f"cannot open image {file.path}: the disk is damaged")
        return get(pool, file, nodata)

    monkeypatch.setattr(HandlePool, "get", opened)
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """Windows that the reader was asked for."""
    asked: list[Window] = []
    read = SeriesReader.read

    def counted(reader: SeriesReader, window: Window) -> tuple[np.ndarray, np.ndarray]:
        asked.append(window)
        return read(reader, window)

    monkeypatch.setattr(SeriesReader, "read", counted)
    return asked


def bundle(reading: _ReadWindows, some: list[TileTask]) -> Iterator[Read]:
    """What comes of the windows of some tiles."""
    reading.start_bundle()
    for task in some:
        yield from (cube for _, cube in reading.process(task))
    yield from (last.value[1] for last in reading.finish_bundle())


@pytest.fixture
def reading(settings: ClassifySettings) -> Iterator[_ReadWindows]:
    reading = _ReadWindows(settings)
    reading.setup()
    yield reading
    reading.teardown()


def test_a_missing_image_is_not_waited_for(settings, reading, pauses, reads) -> None:
    Path(settings.series.files[2].path).unlink()
    cubes = list(bundle(reading, tasks()))
    assert [type(cube) for cube in cubes] == [Unread] * 12
    assert all("there is no such file" in cube.reason for cube in cubes)
    assert pauses == []
    assert len(reads) == 4  # one window of each tile


def test_a_broken_image_is_waited_for_once_and_used_when_it_is_back(
    settings, reading, pauses, reads, broken, monkeypatch
) -> None:
    broken.append(settings.series.files[2].path)
    assert [type(cube) for cube in bundle(reading, tasks()[:2])] == [Unread] * 8
    assert pauses == [0.2, 0.8]
    assert len(reads) == 3 + 1
    # Another image is another matter.
    broken[:] = [settings.series.files[1].path]
    assert [type(cube) for cube in bundle(reading, tasks()[2:3])] == [Unread] * 2
    assert pauses == [0.2, 0.8] * 2
    # After a while it may have been mended, so that a pause may help again.
    broken[:] = [settings.series.files[2].path]
    with monkeypatch.context() as patch:
        patch.setattr(read_windows, "PATIENCE", -1.0)
        assert [type(cube) for cube in bundle(reading, tasks()[:1])] == [Unread] * 4
    assert pauses == [0.2, 0.8] * 3
    broken.clear()
    assert [type(cube) for cube in bundle(reading, tasks())] == ALL


def test_an_image_that_comes_back_is_used_for_the_next_tile(
    settings, reading, pauses, reads, broken
) -> None:
    """Also for the same tile, when a bundle is done again."""
    broken.append(settings.series.files[0].path)
    assert [type(cube) for cube in bundle(reading, tasks()[:1])] == [Unread] * 4
    broken.clear()
    assert [type(cube) for cube in bundle(reading, tasks())] == ALL
    assert pauses == [0.2, 0.8]


def test_a_run_that_fails_waits_every_time(settings, pauses, broken) -> None:
    reading = _ReadWindows(replace(settings, quarantine=False))
    reading.setup()
    broken.append(settings.series.files[0].path)
    for _ in range(2):
        with pytest.raises(DltsError, match="the disk is damaged"):
            list(bundle(reading, tasks()[:1]))
    reading.teardown()
    assert pauses[:4] == [0.2, 0.8] * 2
