"""What a run would do, and how long two of its tiles take: ``--dry-run``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from dlts_beam import storage
from dlts_beam.beam.assembly import MapJob
from dlts_beam.beam.classify import ClassifySettings, TileTask, make_handler
from dlts_beam.beam.handler import Cube, Probabilities, WindowModelHandler
from dlts_beam.beam.map_run import MapPlan
from dlts_beam.beam.runner import runs_in_process
from dlts_beam.engines import Engine
from dlts_beam.grid import Window, split_window
from dlts_beam.io.raster.gdal import to_lonlat
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.plan import MIB
from dlts_beam.progress import duration
from dlts_beam.spec import SeriesSpec

TILES_GEOJSON = ".tiles.geojson"
TRIAL_TILES = 2


def describe_plan(planned: MapPlan, options: PipelineOptions) -> str:
    """Tell tiles, bytes, memory and time, and write the tiles as GeoJSON beside the output.

    Raises:
        DltsError: a trial tile cannot be read or computed, or the GeoJSON cannot be written.
    """
    job, plan = planned.job, planned.plan
    path = job.output + TILES_GEOJSON
    storage.write_text(path, tiles_geojson(job))
    local = runs_in_process(options.view_as(StandardOptions).runner)
    workers = options.view_as(DirectOptions).direct_num_workers if local else 1
    pixels = sum(task.tile.window.pixels for task in job.tasks)
    lines = [
        f"tiles:   {len(job.tasks)} of {plan.tile} x {plan.tile} pixels, {len(job.outside)} outside the area",
        f"windows: {plan.window_height} x {plan.window_width} pixels",
        f"memory:  {plan.needed / MIB:.0f} MiB for each of {workers} workers, of {plan.memory / MIB:.0f} MiB",
        f"to read: {bytes_to_read(job.series, job.tasks) / MIB:.1f} MiB of files",
        f"tiles as GeoJSON: {path}",
    ]
    if job.tasks:
        seconds, tried = time_tiles(planned.settings, job.tasks)
        total = seconds / tried * pixels / workers
        lines.append(
            f"time:    about {duration(total)} on {workers} workers"
            f" ({tried / max(seconds, 1e-9) / 1e6:.3f} Mpx/s on one, from a trial of {tried} pixels)"
        )
    return "\n".join(lines)


def time_tiles(settings: ClassifySettings, tasks: tuple[TileTask, ...]) -> tuple[float, int]:
    """Seconds and pixels of a trial: the first and the middle tile, one worker, nothing written."""
    chosen = sorted({0, len(tasks) // 2})[:TRIAL_TILES]
    handler = make_handler(settings)
    engine = handler.load_model()
    # The first strip takes longer in some engines; a run has many.
    engine.predict(np.zeros(engine.spec.strip_shape, np.float32))
    pixels, started = 0, time.perf_counter()
    with SeriesReader(settings.series, settings.model.preparation.bands) as reader:
        for number in chosen:
            for _ in classify_windows(settings, reader, handler, engine, tasks[number]):
                pass
            pixels += tasks[number].tile.window.pixels
    return time.perf_counter() - started, pixels


def classify_windows(
    settings: ClassifySettings,
    reader: SeriesReader,
    handler: WindowModelHandler,
    engine: Engine,
    task: TileTask,
) -> Iterator[tuple[Window, Probabilities]]:
    """The plain loop that the fused stage is measured against: read, prepare, predict, window by window."""
    halo = settings.model.serving.halo
    for window in split_window(task.tile.window, settings.window_height, settings.window_width):
        read = window.grow(halo).intersect(settings.series.grid.window)
        assert read is not None
        wanted = None if settings.area is None else settings.area.inside(window)
        if wanted is not None and not wanted.any():
            continue
        values, valid = reader.read(read)
        (result,) = handler.run_inference([Cube(window, read, values, valid, wanted)], engine)
        assert isinstance(result, Probabilities)
        yield window, result


def bytes_to_read(series: SeriesSpec, tasks: tuple[TileTask, ...]) -> int:
    """Bytes of the files, each by the share of its pixels that lies in the tiles."""
    total = 0.0
    for file in series.files:
        touched = 0
        for task in tasks:
            part = file.window.intersect(task.tile.window)
            touched += part.pixels if part is not None else 0
        total += file.size * touched / max(1, file.window.pixels)
    return int(total)


def tiles_geojson(job: MapJob) -> str:
    """All tiles as polygons in longitude and latitude."""
    work = [(task.tile, task.key, "compute") for task in job.tasks]
    rest = [(record.tile, record.key, "outside") for record in job.outside]
    features: list[dict[str, Any]] = []
    for tile, key, status in sorted(work + rest, key=lambda each: each[0].key):
        row, col, height, width = tile.window
        corners = [
            (row, col),
            (row, col + width),
            (row + height, col + width),
            (row + height, col),
            (row, col),
        ]
        xs, ys = zip(*(job.series.grid.xy(r, c) for r, c in corners), strict=True)
        lon, lat = to_lonlat(job.series.grid.crs, xs, ys)
        ring = [[round(x, 7), round(y, 7)] for x, y in zip(lon, lat, strict=True)]
        features.append(
            {
                "type": "Feature",
                "properties": {"name": tile.key, "key": key, "status": status, "pixels": tile.window.pixels},
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"
