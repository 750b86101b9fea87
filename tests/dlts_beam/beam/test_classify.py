"""The fused stage: what crosses a shuffle, how windows travel, what a broken bundle leaves."""

from __future__ import annotations

import threading
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import translations

from dlts_beam.beam.assembly import GatherRecords, take_records
from dlts_beam.beam.classify import ClassifyTiles
from dlts_beam.beam.handler import NAMESPACE, Cube, Probabilities, Unread, WindowModelHandler
from dlts_beam.beam.read_windows import _ReadWindows
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.beam.stage import ClassifySettings, TileTask, WindowCoder, WindowKey
from dlts_beam.beam.write_tiles import _WriteTiles
from dlts_beam.grid import Window, iter_tiles, split_window
from dlts_beam.spec import ModelSpec
from tests.fakes import make_model, random_scene

HEIGHT, WIDTH = 20, 30


def settings_of(folder: Path, window: int = 8, patch: int = 3) -> ClassifySettings:
    scene = random_scene(folder / "series", HEIGHT, WIDTH)
    model = make_model(folder / "model", scene.spec, patch)
    spec = ModelSpec.from_json((model / "model.json").read_text())
    parts, digest = str(folder / "parts"), spec.serving_sha256["loss"]
    serving = str(model / "serving/loss")
    return ClassifySettings(scene.spec, spec, serving, digest, "onnx", window, window, parts)


def tasks(size: int = 16) -> list[TileTask]:
    return [TileTask(tile, f"key of {tile.key}") for tile in iter_tiles(HEIGHT, WIDTH, size)]


def test_read_infer_and_write_are_one_stage(tmp_path: Path) -> None:
    """Behind the reshuffle nothing but records leaves the stage that reads."""
    pipeline = beam.Pipeline(runner="DirectRunner", options=PipelineOptions())
    records = pipeline | beam.Create(tasks()) | "Classify" >> ClassifyTiles(settings_of(tmp_path))
    _ = records | "Gather" >> GatherRecords(str(tmp_path))
    phases = [
        translations.annotate_downstream_side_inputs,
        translations.expand_gbk,  # else nothing parts the steps on its two sides
        translations.greedily_fuse,
    ]
    _, stages = translations.create_and_optimize_stages(
        pipeline.to_runner_api(), phases=phases, known_runner_urns=frozenset()
    )
    reading = [
        [transform.unique_name for transform in stage.transforms]
        for stage in stages
        if any(transform.unique_name == "Classify/ReadWindows/Read" for transform in stage.transforms)
    ]
    assert len(reading) == 1
    assert len(stages) > 1
    assert not any(name.startswith(("Create", "Gather/Keep")) for name in reading[0])
    assert any("BeamML_RunInference" in name for name in reading[0])
    assert "Classify/WriteTiles/Write" in reading[0]


def test_every_tile_gets_one_record(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)

    def build(pipeline: beam.Pipeline) -> None:
        records = pipeline | beam.Create(tasks()) | ClassifyTiles(settings)
        _ = records | GatherRecords(settings.parts)

    run_pipeline(build, parse_options(["--direct_num_workers", "2"]))
    records = take_records(settings.parts)
    assert [(record.name, record.key) for record in records] == [
        (task.tile.key, task.key) for task in tasks()
    ]
    assert sum(record.classified + record.nodata for record in records) == HEIGHT * WIDTH


def test_metrics_count_tiles_pixels_bytes_and_time(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create(tasks()) | ClassifyTiles(settings)

    result = run_pipeline(build, parse_options(["--direct_num_workers", "2"]))
    counted = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    found = {counter.key.metric.name: counter.committed for counter in counted}
    assert (found["tiles"], found["pixels"]) == (len(tasks()), HEIGHT * WIDTH)
    # Every window is read once with its halo of one pixel: float32 values and their validity.
    windows = [window for task in tasks() for window in split_window(task.tile.window, 8, 8)]
    read = [window.grow(1).intersect(Window(0, 0, HEIGHT, WIDTH)) for window in windows]
    cells = sum(window.pixels for window in read if window is not None)
    assert found["bytes_read"] == cells * len(settings.series.steps) * len(settings.series.bands) * 5
    assert 0 < found["pixels_computed"] <= HEIGHT * WIDTH
    assert {"read_micros", "wait_micros", "prepare_micros", "infer_micros", "write_micros"} <= set(found)
    assert found["read_micros"] > 0
    assert found["infer_micros"] > 0


def test_all_workers_of_a_process_share_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], WindowModelHandler.load_model
    monkeypatch.setattr(WindowModelHandler, "load_model", lambda self: (loads.append(1), load(self))[1])
    settings = settings_of(tmp_path)

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create(tasks(8)) | ClassifyTiles(settings)

    run_pipeline(build, parse_options(["--direct_num_workers", "4"]))
    assert len(loads) == 1


def test_cubes_are_never_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to cross a stage nor to count their bytes: pixels stay where they are."""

    def never(coder: WindowCoder, value: object) -> bytes:
        raise AssertionError("a cube was encoded")

    monkeypatch.setattr(WindowCoder, "encode", never)
    settings = settings_of(tmp_path)

    def build(pipeline: beam.Pipeline) -> None:
        records = pipeline | beam.Create(tasks()) | ClassifyTiles(settings)
        _ = records | GatherRecords(settings.parts)

    run_pipeline(build, parse_options(["--direct_num_workers", "2"]))
    assert len(take_records(settings.parts)) == len(tasks())


def test_the_coder_gives_back_what_it_was_given(tmp_path: Path) -> None:
    window = Window(1, 2, 3, 4)
    cube = Cube(window, window, np.ones((2, 3, 4, 1), np.float32), np.ones((2, 3, 4, 1), bool))
    coder = WindowCoder()
    found = coder.decode(coder.encode(cube))
    assert isinstance(found, Cube)
    np.testing.assert_array_equal(found.values, cube.values)
    assert found.window == window
    assert coder.estimate_size(cube) == 2 * 3 * 4 * 5
    assert coder.estimate_size(Unread("why")) == 64


def test_windows_come_in_order_and_are_read_one_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    reading = _ReadWindows(settings)
    read, threads, started = _ReadWindows._read, set(), []

    def watched(self: _ReadWindows, task: TileTask, window: Window) -> object:
        threads.add(threading.current_thread())
        started.append(window)
        return read(self, task, window)

    monkeypatch.setattr(_ReadWindows, "_read", watched)
    reading.setup()
    reading.start_bundle()
    wanted = [window for task in tasks() for window in split_window(task.tile.window, 8, 8)]
    found = []
    for task in tasks():
        for key, cube in reading.process(task):
            assert isinstance(cube, Cube)
            assert key.window == cube.window
            found.append(key)
    assert len(found) == len(wanted) - 1
    (last,) = reading.finish_bundle()
    found.append(last.value[0])
    assert [key.window for key in found] == wanted == started
    assert [key.number for key in found if key.task == tasks()[0]] == [0, 1, 2, 3]
    assert all(key.of == 4 for key in found if key.task == tasks()[0])
    reading.teardown()
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_a_bundle_that_ends_within_a_tile_is_a_defect(tmp_path: Path) -> None:
    writing = _WriteTiles(settings_of(tmp_path))
    writing.start_bundle()
    task = tasks()[0]
    labelled = np.zeros((8, 8), bool)
    result = Probabilities(labelled, np.empty((0, 2), np.uint16))
    assert list(writing.process((WindowKey(task, Window(0, 0, 8, 8), 0, 4), result))) == []
    with pytest.raises(RuntimeError, match="before all windows of these tiles came: r00000c00000"):
        writing.finish_bundle()
    writing.start_bundle()
    writing.finish_bundle()


def test_windows_of_a_tile_may_come_in_any_order(tmp_path: Path) -> None:
    writing = _WriteTiles(settings_of(tmp_path))
    task = tasks()[0]
    windows = list(split_window(task.tile.window, 8, 8))
    generator = np.random.default_rng(0)
    chances = [generator.integers(0, 65535, (64, 2), np.uint16) for _ in windows]
    records = []
    for order in (range(4), (2, 0, 3, 1)):
        writing.start_bundle()
        for number in order:
            result = Probabilities(np.ones((8, 8), bool), chances[number])
            records += writing.process((WindowKey(task, windows[number], number, 4), result))
        writing.finish_bundle()
    assert len(records) == 2
    assert records[0] == records[1]
