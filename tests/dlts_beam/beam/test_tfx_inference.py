"""tfx-bsl's handler in the fused stage: the same results, window by window, as our own handler gives."""

from __future__ import annotations

from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import translations

from dlts_beam.beam.assembly import GatherRecords, take_records
from dlts_beam.beam.classify import ClassifyTiles, _inference, make_handler
from dlts_beam.beam.handler import Cube, Probabilities, Skipped, Unread
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.beam.stage import ClassifySettings, TileTask, WindowCoder
from dlts_beam.beam.tfx_inference import InferStrips, _CollectAnswers, _CutStrips
from dlts_beam.engines.tfx_bsl import answer_of
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window, iter_tiles
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.model_folder import find_saved_model, model_digest
from tests.fakes import Scene, random_scene
from tests.pipelines.test_cut_invariance import real_model

HEIGHT, WIDTH = 20, 30


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return random_scene(tmp_path_factory.mktemp("scene") / "series", HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def settings(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> ClassifySettings:
    folder = tmp_path_factory.mktemp("model")
    model = real_model(folder / "model", scene, "conv_bilstm", 3)
    saved = find_saved_model(str(model))
    digest = model_digest(saved, "tfx-bsl")
    return ClassifySettings(
        scene.spec, saved.spec, saved.serving, digest, "tfx-bsl", 8, 8, str(folder / "parts")
    )


def tasks() -> list[TileTask]:
    return [TileTask(tile, f"key of {tile.key}") for tile in iter_tiles(HEIGHT, WIDTH, 16)]


def test_reading_cutting_inference_and_writing_are_one_stage(settings: ClassifySettings) -> None:
    pipeline = beam.Pipeline(runner="DirectRunner", options=PipelineOptions())
    records = pipeline | beam.Create(tasks()) | "Classify" >> ClassifyTiles(settings)
    _ = records | "Gather" >> GatherRecords(settings.parts)
    phases = [translations.annotate_downstream_side_inputs, translations.greedily_fuse]
    _, stages = translations.create_and_optimize_stages(
        pipeline.to_runner_api(), phases=phases, known_runner_urns=frozenset()
    )
    (reading,) = [
        [transform.unique_name for transform in stage.transforms]
        for stage in stages
        if any(transform.unique_name == "Classify/ReadWindows/Read" for transform in stage.transforms)
    ]
    for name in ("CutStrips", "BeamML_RunInference", "CollectAnswers", "Classify/WriteTiles/Write"):
        assert any(name in transform for transform in reading)


def test_every_tile_is_written_and_no_cube_encoded(
    settings: ClassifySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(coder: WindowCoder, value: object) -> bytes:
        raise AssertionError("a cube was encoded")

    monkeypatch.setattr(WindowCoder, "encode", never)

    def build(pipeline: beam.Pipeline) -> None:
        records = pipeline | beam.Create(tasks()) | ClassifyTiles(settings)
        _ = records | GatherRecords(settings.parts)

    run_pipeline(build, parse_options(["--direct_num_workers", "2"]))
    records = take_records(settings.parts)
    assert [record.name for record in records] == [task.tile.key for task in tasks()]
    assert sum(record.classified + record.nodata for record in records) == HEIGHT * WIDTH
    assert all(record.classified for record in records)


@pytest.fixture(scope="module")
def handler(settings: ClassifySettings) -> InferStrips:
    model = settings.model
    return InferStrips(
        settings.serving, model.serving, model.preparation, settings.series.days, settings.digest
    )


def test_a_window_gets_what_our_own_handler_gives(settings: ClassifySettings, handler: InferStrips) -> None:
    window = Window(0, 0, HEIGHT, WIDTH)
    with SeriesReader(settings.series) as reader:
        values, valid = reader.read(window)
    model = settings.model
    cut = _CutStrips(model.serving, model.preparation, settings.series.days)
    collect, tfx = _CollectAnswers(model.serving), handler._handler
    session = tfx.load_model()
    collect.start_bundle()
    found = []
    # Nothing was read, nothing is wanted, nothing was ever observed, and a window with work.
    blind = Cube(window, window, values.copy(), np.zeros_like(valid))
    elements = [Unread("why"), Skipped(Window(3, 4, 2, 5)), blind, Cube(window, window, values, valid)]
    for number, element in enumerate(elements):
        for keyed in cut.process((number, element)):
            (answer,) = tfx.run_inference([keyed], session)
            found += collect.process(answer)
    collect.finish_bundle()
    assert [key for key, _ in found] == [0, 1, 2, 3]
    assert found[0][1] == Unread("why")
    for place, shape in ((1, (2, 5)), (2, (HEIGHT, WIDTH))):
        assert found[place][1].labelled.shape == shape
        assert not found[place][1].labelled.any()
        assert found[place][1].quantised.shape == (0, 2)

    with SeriesReader(settings.series) as reader:
        cube = Cube(window, window, *reader.read(window))
    ours = make_handler(settings)
    ours._engine = "tensorflow"
    (wanted,) = ours.run_inference([cube], ours.load_model())
    assert isinstance(wanted, Probabilities)
    np.testing.assert_array_equal(found[3][1].labelled, wanted.labelled)
    assert np.abs(found[3][1].quantised.astype(int) - wanted.quantised).max() <= 1


def test_a_worker_loads_no_other_model_than_the_planned_one(settings: ClassifySettings) -> None:
    other = _inference(replace(settings, digest="0" * 64))
    assert isinstance(other, InferStrips)
    with pytest.raises(DltsError, match=r"saved_model changed while the run was on its way: leave it"):
        other._handler.load_model()


def test_a_bundle_that_ends_within_a_window_is_a_defect(settings: ClassifySettings) -> None:
    class Log:
        pass

    model = settings.model
    cut = _CutStrips(model.serving, model.preparation, settings.series.days)
    window = Window(0, 0, HEIGHT, WIDTH)
    with SeriesReader(settings.series) as reader:
        strips = list(cut.process(("key", Cube(window, window, *reader.read(window)))))
    assert len(strips) > 1
    collect = _CollectAnswers(model.serving)
    collect.start_bundle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{_CollectAnswers.__module__}.{answer_of.__name__}", lambda log: np.full((64, 2), 0.5))
        assert list(collect.process((strips[0][0], Log()))) == []
    with pytest.raises(RuntimeError, match="before all strips came of"):
        collect.finish_bundle()
