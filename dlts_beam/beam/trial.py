"""What a run would do, and how long two of its tiles take: ``--dry-run``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from dlts_beam import storage
from dlts_beam.beam.assembly import MapJob
from dlts_beam.beam.classify import make_handler
from dlts_beam.beam.handler import Cube, Probabilities, WindowModelHandler
from dlts_beam.beam.map_plan import MapPlan
from dlts_beam.beam.runner import runs_in_process
from dlts_beam.beam.stage import ClassifySettings, TileTask
from dlts_beam.engines import Engine
from dlts_beam.errors import DltsError
from dlts_beam.fleet import Fleet, check_price, cost_text, estimate, processors_of
from dlts_beam.grid import Window, split_window
from dlts_beam.io.raster.gdal import to_lonlat
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.plan import MIB
from dlts_beam.progress import duration
from dlts_beam.spec import SeriesSpec

TILES_GEOJSON = ".tiles.geojson"
TRIAL_TILES = 2
MOST_TRIED = 16  # tiles that a trial tries to read before it gives up


@dataclass(frozen=True)
class Trial:
    """What a trial took.

    Attributes:
        seconds, pixels: of the tiles that were classified.
        unread: why tiles were passed over, where the run leaves such tiles without data.
    """

    seconds: float
    pixels: int
    unread: tuple[str, ...] = ()


class UnreadTileError(DltsError):
    """A tile that cannot be read, in a run that goes on without it."""


def describe_plan(planned: MapPlan, options: PipelineOptions, price: float | None = None) -> str:
    """Tell tiles, bytes, memory and time, and write the tiles as GeoJSON beside the output.

    For runners elsewhere, or with a price of one worker for an hour, also what it costs.

    Raises:
        DltsError: a tile cannot be read or computed, the GeoJSON cannot be written, or the price is none.
    """
    check_price(price)
    job, plan = planned.job, planned.plan
    path = job.output + TILES_GEOJSON
    geojson = tiles_geojson(job)
    storage.write_text(path, geojson)
    local = runs_in_process(options.view_as(StandardOptions).runner)
    gpu = planned.settings.gpu
    fleet = Fleet(options.view_as(DirectOptions).direct_num_workers) if local else fleet_of(options, gpu)
    engines = fleet.workers * fleet.engines
    to_read = bytes_to_read(job.series, planned.bands, job.tasks)
    pixels = sum(task.tile.window.pixels for task in job.tasks)
    lines = [
        f"tiles:   {len(job.tasks)} of {plan.tile} x {plan.tile} pixels, {len(job.outside)} outside the area",
        f"windows: {plan.window_width} x {plan.window_height} pixels",
        f"memory:  {plan.needed / MIB:.0f} MiB for each of {engines} workers, of {plan.memory / MIB:.0f} MiB",
        f"to read: {to_read / MIB:.1f} MiB of files",
        f"tiles as GeoJSON: {path}",
    ]
    if nowhere := geojson.count('"geometry": null'):
        lines.append(f"note: {nowhere} of these tiles without geometry: no longitude and latitude there")
    if job.tasks:
        # This machine need not have the GPU that is asked for elsewhere.
        settings = planned.settings if local else replace(planned.settings, gpu=False)
        trial = time_tiles(settings, job.tasks)
        if trial.pixels:
            total = trial.seconds / trial.pixels * pixels
            found = estimate(total / len(job.tasks), len(job.tasks), fleet)
            by_the_clock = total / engines if local else found.seconds
            speed = trial.pixels / max(trial.seconds, 1e-9) / 1e6
            lines.append(
                f"time:    about {duration(by_the_clock)} on {engines} workers"
                f" ({speed:.3f} Mpx/s on one, from a trial of {trial.pixels} pixels)"
            )
            if not local or price is not None:
                grid = job.series.grid
                lines += cost_text(found, fleet, to_read, grid.height * grid.width, price)
        lines += _notes_of(trial)
    return "\n".join(lines)


def _notes_of(trial: Trial) -> list[str]:
    """What to say of tiles that the trial passed over."""
    if not trial.unread:
        return []
    number = len(trial.unread)
    found = f"{number} of the tiles that were tried" if trial.pixels else f"no time: all {number} tiles tried"
    return [f"note: {found} cannot be read and would be left without data; the first: {trial.unread[0]}"]


def fleet_of(options: PipelineOptions, gpu: bool = False) -> Fleet:
    """The workers that the flags of a runner elsewhere ask for; what they leave open is noted."""
    given = options.get_all_options()
    notes: list[str] = []
    if "dataflow" not in str(given["runner"]).lower():
        slots = given["parallelism"]
        if slots < 1:
            notes.append("one worker is assumed: --parallelism says how many there are")
        return Fleet(max(1, slots), 1, tuple(notes))
    workers = given["max_num_workers"] or given["num_workers"]
    if not workers:
        notes.append("one worker is assumed: --max_num_workers says how many there may be")
    processors = processors_of(given["machine_type"])
    if processors is None:
        notes.append("one processor a worker is assumed: --machine_type says how many, as in n2-standard-4")
    if gpu or any("accelerator" in option for option in given["dataflow_service_options"] or []):
        notes.append("the trial ran on this machine, so the estimate says nothing of workers with a GPU")
    return Fleet(workers or 1, processors or 1, tuple(notes))


def time_tiles(settings: ClassifySettings, tasks: tuple[TileTask, ...]) -> Trial:
    """Try the first and the middle tile, or others in their place: one worker, nothing written.

    Raises:
        DltsError: a tile cannot be computed, or cannot be read in a run that does not go on after errors.
    """
    parts = (0, MOST_TRIED // 2, *range(MOST_TRIED))
    places = dict.fromkeys(len(tasks) * part // MOST_TRIED for part in parts)
    handler = make_handler(settings)
    engine = handler.load_model()
    # The first strip takes longer in some engines; a run has many.
    engine.predict(np.zeros(engine.spec.strip_shape, np.float32))
    seconds, pixels, done, unread = 0.0, 0, 0, list[str]()
    with SeriesReader(settings.series, settings.model.preparation.bands) as reader:
        for task in (tasks[place] for place in places):
            started = time.perf_counter()
            try:
                for _ in classify_windows(settings, reader, handler, engine, task):
                    pass
            except UnreadTileError as error:
                unread.append(str(error))
                continue
            seconds += time.perf_counter() - started
            pixels += task.tile.window.pixels
            done += 1
            if done == TRIAL_TILES:
                break
    return Trial(seconds, pixels, tuple(unread))


def classify_windows(
    settings: ClassifySettings,
    reader: SeriesReader,
    handler: WindowModelHandler,
    engine: Engine,
    task: TileTask,
) -> Iterator[tuple[Window, Probabilities]]:
    """The plain loop that the fused stage is measured against: read, prepare, predict, window by window.

    Raises:
        UnreadTileError: a window cannot be read, in a run that goes on after errors.
        DltsError: it cannot be read in any other run, or cannot be computed.
    """
    halo = settings.model.serving.halo
    for window in split_window(task.tile.window, settings.window_height, settings.window_width):
        read = window.grow(halo).intersect(settings.series.grid.window)
        assert read is not None
        wanted = None if settings.area is None else settings.area.inside(window)
        if wanted is not None and not wanted.any():
            continue
        try:
            values, valid = reader.read(read)
        except DltsError as error:
            if settings.quarantine:
                raise UnreadTileError(str(error)) from error
            raise
        (result,) = handler.run_inference([Cube(window, read, values, valid, wanted)], engine)
        assert isinstance(result, Probabilities)
        yield window, result


def bytes_to_read(series: SeriesSpec, bands: Sequence[str], tasks: tuple[TileTask, ...]) -> int:
    """Bytes of the files of these bands, each by the share of its pixels that lies in the tiles."""
    row, col, height, width = np.array([task.tile.window for task in tasks], np.int64).reshape(-1, 4).T
    total = 0.0
    for file in (series.files[number] for number in series.used_files(bands)):
        high = np.minimum(row + height, file.row + file.height) - np.maximum(row, file.row)
        wide = np.minimum(col + width, file.col + file.width) - np.maximum(col, file.col)
        touched = int((high.clip(0) * wide.clip(0)).sum())
        total += file.size * touched / max(1, file.window.pixels)
    return int(total)


def tiles_geojson(job: MapJob) -> str:
    """All tiles as polygons in longitude and latitude; null where a corner has none."""
    work = [(task.tile, task.key, "compute") for task in job.tasks]
    rest = [(record.tile, record.key, "outside") for record in job.outside]
    ordered = sorted(work + rest, key=lambda each: each[0].key)
    corners = _lonlat(job, [tile.window for tile, _, _ in ordered])
    features: list[dict[str, Any]] = []
    for (tile, key, status), ring in zip(ordered, corners, strict=True):
        features.append(
            {
                "type": "Feature",
                "properties": {"name": tile.key, "key": key, "status": status, "pixels": tile.window.pixels},
                "geometry": {"type": "Polygon", "coordinates": [ring]} if np.isfinite(ring).all() else None,
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1) + "\n"


def _lonlat(job: MapJob, windows: Sequence[Window]) -> list[list[list[float]]]:
    """The corners of each window as a closed ring of longitudes and latitudes: all in one call of PROJ."""
    row, col, height, width = np.array(windows, np.float64).reshape(-1, 4).T
    rows = np.stack([row, row, row + height, row + height, row], axis=1)
    cols = np.stack([col, col + width, col + width, col, col], axis=1)
    a, b, c, d, e, f = job.series.grid.transform
    xs, ys = a * cols + b * rows + c, d * cols + e * rows + f
    lonlat = to_lonlat(job.series.grid.crs, xs.ravel().tolist(), ys.ravel().tolist())
    found: list[list[list[float]]] = np.stack(lonlat, axis=-1).round(7).reshape(len(windows), 5, 2).tolist()
    return found
