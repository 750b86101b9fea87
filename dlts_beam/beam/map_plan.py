"""A request for a map, checked: the job, its tiles and how they are cut. Nothing is computed or written."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace

import numpy as np
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from dlts_beam import storage
from dlts_beam.beam.assembly import MapJob
from dlts_beam.beam.dataflow import resource_hints
from dlts_beam.beam.inputs import check_output
from dlts_beam.beam.runner import runs_in_process
from dlts_beam.beam.stage import ClassifySettings, TileTask
from dlts_beam.certificate import TileKeys, TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import DATE_TOLERANCE, check_fit, select_interval
from dlts_beam.grid import Tile, iter_tiles
from dlts_beam.io.area import Area, area_digest
from dlts_beam.io.raster.assemble import check_output_size, output_driver
from dlts_beam.io.raster.parts import checksum
from dlts_beam.io.tile_area import tile_area
from dlts_beam.machine import available_memory
from dlts_beam.model_folder import SavedModel, find_saved_model, model_digest
from dlts_beam.plan import (
    Plan,
    assembly_notes,
    default_memory,
    default_tile,
    make_plan,
    parse_bytes,
    tile_bytes,
    tile_pixel_bytes,
)
from dlts_beam.spec import ModelSpec, SeriesSpec

SERIES_JSON = "series.json"


@dataclass(frozen=True)
class MapRequest:
    """What the user wants, as the flags say it.

    Attributes:
        series: the series folder.
        model: a model folder or one saved model in it.
        output: the map.
        tile: side of the tiles; None leaves it to the size of the grid.
        memory: budget of one worker; None takes a share of the machine.
        date_tolerance: days between the model's and the series' time steps in the year.
        engine: name of the engine.
        quarantine: go on where an image cannot be read.
        probabilities: also write a raster of them.
        roi, mask: vector file and raster of the area of interest.
        roi_layer: of a vector file that holds several.
        start: first day of the interval of a long series.
        gpu: type of the GPU to compute on; None for none.
    """

    series: str
    model: str
    output: str
    tile: int | None = None
    memory: str | None = None
    date_tolerance: float = DATE_TOLERANCE
    engine: str = "onnx"
    quarantine: bool = False
    probabilities: bool = False
    roi: str | None = None
    mask: str | None = None
    roi_layer: str | None = None
    start: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class MapPlan:
    """A request that was checked: all that a run needs."""

    request: MapRequest
    job: MapJob
    settings: ClassifySettings
    plan: Plan
    notes: tuple[str, ...]

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of the series that the model reads."""
        return self.settings.model.preparation.bands


def plan_map(request: MapRequest, options: PipelineOptions) -> MapPlan:
    """Check everything that can be checked before the work begins.

    Raises:
        DltsError: whatever the user can put right.
    """
    output_driver(request.output)
    if not (math.isfinite(request.date_tolerance) and request.date_tolerance >= 0):
        raise DltsError(f"--date-tolerance must be a number of 0 or more; got {request.date_tolerance:g}")
    if request.gpu is not None and request.engine != "tensorflow":
        raise DltsError(f"--gpu needs --engine tensorflow: the engine {request.engine} computes on CPUs only")
    if request.roi_layer is not None and request.roi is None:
        raise DltsError("--roi-layer goes with --roi, the file that holds the layer")
    whole = load_series(request.series)
    model = find_saved_model(request.model)
    series = whole
    if request.start is not None:
        series = select_interval(whole, model.spec, _date(request.start))
    notes = check_fit(series, model.spec, request.date_tolerance)
    digest = model_digest(model, request.engine)
    plan = _cut(request, series, model.spec, options)
    # A GPU may answer near-ties otherwise than a CPU, so a map never mixes tiles of both.
    computer = request.engine if request.gpu is None else f"{request.engine}-gpu"
    job = MapJob(
        series=series,
        model=model,
        digest=digest,
        engine=computer,
        tile_size=plan.tile,
        tasks=(),
        output=request.output,
        probabilities=request.probabilities,
    )
    for path, mosaic in job.mosaics.items():
        check_output_size(path, mosaic)
    if request.probabilities:
        notes = [*notes, *assembly_notes(len(model.spec.classes), plan.tiles)]
    area = Area.load(series.grid, request.roi, request.mask, request.roi_layer)
    tasks, outside = _tiles(series, model, digest, computer, plan.tile, area)
    if not tasks:
        raise DltsError(
            "there is nothing to classify: no pixel of the series lies in the area that"
            f" {' and '.join(filter(None, (request.roi, request.mask)))} gives; check its place and its CRS"
        )
    job = replace(job, tasks=tasks, outside=outside)
    # Images outside the interval are as dear as those in it.
    others = [*(file.path for file in whole.files), *filter(None, (request.roi, request.mask))]
    for path in job.mosaics:
        check_output(path, others)
    settings = ClassifySettings(
        series=series,
        model=model.spec,
        serving=model.serving,
        digest=digest,
        engine=request.engine,
        window_height=plan.window_height,
        window_width=plan.window_width,
        parts=job.parts,
        probabilities=request.probabilities,
        quarantine=request.quarantine,
        area=area,
        gpu=request.gpu is not None,
        hints=resource_hints(options, request.gpu),
    )
    return MapPlan(request, job, settings, plan, tuple(notes))


def worker_paths(planned: MapPlan) -> dict[str, str]:
    """Paths that the workers open, by what they are; of the images a local one, where there is any."""
    request, job = planned.request, planned.job
    images = [job.series.files[number].path for number in job.series.used_files(planned.bands)]
    paths = {"--output": job.output, "--model": planned.settings.serving}
    if images:
        paths["an image of the series"] = min(images, key=storage.is_remote)
    return paths if request.mask is None else {**paths, "--mask": request.mask}


def load_series(folder: str) -> SeriesSpec:
    """``series.json`` of a series folder.

    Raises:
        DltsError: it is missing or not valid.
    """
    path = storage.join(folder, SERIES_JSON)
    if not storage.exists(path):
        raise DltsError(
            f"there is no {SERIES_JSON} in {folder}: run generate-img-series with -o {folder} first"
        )
    return SeriesSpec.from_json(storage.read_bytes(path), path)


def _tiles(
    series: SeriesSpec, model: SavedModel, digest: str, engine: str, size: int, area: Area | None
) -> tuple[tuple[TileTask, ...], tuple[TileRecord, ...]]:
    """Tiles to compute, and records of those without a wanted pixel."""
    keys = TileKeys(series, model.spec, digest, engine)
    tasks: list[TileTask] = []
    outside: list[TileRecord] = []
    for tile in iter_tiles(series.grid.height, series.grid.width, size):
        inside = None if area is None else tile_area(area, tile.window)
        if inside is None:
            tasks.append(TileTask(tile, keys.key(tile)))
        elif inside.any():
            wanted = area_digest(inside)
            tasks.append(TileTask(tile, keys.key(tile, wanted), wanted))
        else:
            outside.append(_outside(tile, keys.key(tile, "outside"), model.spec))
    if area is not None:
        area.close()
    return tuple(tasks), tuple(outside)


def _outside(tile: Tile, key: str, model: ModelSpec) -> TileRecord:
    """The record of a tile that is nodata from the start."""
    classes = model.classes
    shape = tile.window.height, tile.window.width
    return TileRecord(
        tile.key,
        tile.window,
        key,
        checksum(np.full(shape, classes.nodata, classes.map_dtype)),
        (0,) * len(classes),
        tile.window.pixels,
    )


def _cut(request: MapRequest, series: SeriesSpec, model: ModelSpec, options: PipelineOptions) -> Plan:
    """Tiles and windows, as the user wants them or as they fit."""
    area = request.roi is not None or request.mask is not None
    per_pixel = tile_pixel_bytes(model, request.probabilities, area)
    given = None if request.memory is None else parse_bytes(request.memory)
    tile = request.tile
    if tile is None:
        tile = default_tile(series.grid.height, series.grid.width, per_pixel)
    memory = given if given is not None else _memory(options, tile_bytes(series, tile, per_pixel))
    return make_plan(series, model, tile, memory, request.probabilities, area)


def _memory(options: PipelineOptions, tile: int) -> int:
    """Budget of one worker where the user gives none; ``tile`` is the bytes of a tile."""
    local = runs_in_process(options.view_as(StandardOptions).runner)
    direct = options.view_as(DirectOptions)
    workers = direct.direct_num_workers if local else 1
    return default_memory(
        available_memory() if local else None,
        workers,
        direct.direct_running_mode == "multi_processing",
        tile,
    )


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise DltsError(f"--start needs a date like 2020-08-01; got {text!r}") from error
