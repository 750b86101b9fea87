"""Classify tiles: read, infer and write in one fused stage; only specs and small records cross a shuffle."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from dlts_beam.beam.handler import Read, Result, WindowModelHandler
from dlts_beam.beam.read_windows import ReadWindows
from dlts_beam.beam.stage import ClassifySettings, TileTask, WindowKey
from dlts_beam.beam.write_tiles import WriteTiles
from dlts_beam.certificate import TileRecord


class ClassifyTiles(beam.PTransform):
    """TileTask -> TileRecord; the tile's files are written on the way.

    The reshuffle spreads the tiles over the workers. Behind it everything is one fused stage: pixels
    never leave the worker.
    """

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, tasks: beam.PCollection[TileTask]) -> beam.PCollection[TileRecord]:
        # Steps with different hints are never fused, so all three have the same ones.
        hints = self._settings.hints
        return (
            tasks
            | "SpreadTiles" >> beam.Reshuffle()
            | "ReadWindows" >> ReadWindows(self._settings).with_resource_hints(**hints)
            | "InferWindows" >> InferWindows(self._settings).with_resource_hints(**hints)
            | "WriteTiles" >> WriteTiles(self._settings).with_resource_hints(**hints)
        )


class InferWindows(beam.PTransform):
    """(WindowKey, Read) -> (WindowKey, Result), by Beam's RunInference."""

    def __init__(self, settings: ClassifySettings) -> None:
        super().__init__()
        self._inference = _inference(settings)

    def expand(
        self, cubes: beam.PCollection[tuple[WindowKey, Read]]
    ) -> beam.PCollection[tuple[WindowKey, Result]]:
        return cubes | "RunInference" >> self._inference


def _inference(settings: ClassifySettings) -> beam.PTransform:
    """How the engine takes part in RunInference: with our model handler or with tfx-bsl's own."""
    if settings.engine != "tfx-bsl":
        return RunInference(KeyedModelHandler(make_handler(settings)))
    from dlts_beam.beam.tfx_inference import InferStrips

    model = settings.model
    return InferStrips(
        settings.serving, model.serving, model.preparation, settings.series.days, settings.digest
    )


def make_handler(settings: ClassifySettings) -> WindowModelHandler:
    """The model handler of a run."""
    model = settings.model
    return WindowModelHandler(
        settings.serving,
        model.serving,
        model.preparation,
        settings.series.days,
        settings.engine,
        settings.gpu,
        settings.digest,
    )
