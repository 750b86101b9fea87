"""One run of step 4, from what the user wants to a published map with its certificate."""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult

from dlts_beam import __version__, storage
from dlts_beam.beam.assembly import (
    GatherRecords,
    MapJob,
    finished_certificate,
    publish,
    reuse_tiles,
    take_records,
)
from dlts_beam.beam.classify import ClassifySettings, ClassifyTiles, TileTask
from dlts_beam.beam.dataflow import resource_hints
from dlts_beam.beam.handler import NAMESPACE, give_freed_memory_back
from dlts_beam.beam.inputs import check_output, check_stock, take_stock
from dlts_beam.beam.runner import check_submission, run_pipeline, runs_in_process
from dlts_beam.beam.tile_lists import ReadTileLists, write_tile_lists
from dlts_beam.certificate import RUN_RECORD, Certificate, RunRecord, TileKeys, TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import DATE_TOLERANCE, check_fit, select_interval
from dlts_beam.grid import Tile, iter_tiles
from dlts_beam.io.area import Area, area_digest
from dlts_beam.io.raster.assemble import output_driver
from dlts_beam.io.raster.gdal import gdal_version
from dlts_beam.io.raster.parts import MAP, checksum
from dlts_beam.machine import available_memory
from dlts_beam.model_folder import SavedModel, find_saved_model, model_digest
from dlts_beam.plan import Plan, default_memory, default_tile, make_plan, parse_bytes
from dlts_beam.progress import Progress
from dlts_beam.retry import retried
from dlts_beam.spec import ModelSpec, SeriesSpec

SERIES_JSON = "series.json"
INFERENCE_MICROS = "inference_batch_latency_micro_secs"  # the name that RunInference gives it


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


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        seconds: by what they were spent on; read, prepare, infer, write and wait are summed over workers.
    """

    certificate: Certificate
    record: RunRecord
    seconds: dict[str, float] = field(default_factory=dict)


def plan_map(request: MapRequest, options: PipelineOptions) -> MapPlan:
    """Check everything that can be checked before the work begins.

    Raises:
        DltsError: whatever the user can put right.
    """
    output_driver(request.output)
    if request.gpu is not None and request.engine != "tensorflow":
        raise DltsError(f"--gpu needs --engine tensorflow: the engine {request.engine} computes on CPUs only")
    series = load_series(request.series)
    model = find_saved_model(request.model)
    if request.start is not None:
        series = select_interval(series, model.spec, _date(request.start))
    notes = check_fit(series, model.spec, request.date_tolerance)
    digest = model_digest(model, request.engine)
    tile = request.tile if request.tile is not None else default_tile(series.grid.height, series.grid.width)
    plan = make_plan(series, model.spec, tile, _memory(request.memory, options))
    area = Area.load(series.grid, request.roi, request.mask)
    # A GPU may answer near-ties otherwise than a CPU, so a map never mixes tiles of both.
    computer = request.engine if request.gpu is None else f"{request.engine}-gpu"
    tasks, outside = _tiles(series, model, digest, computer, plan.tile, area)
    if not tasks:
        raise DltsError(
            "there is nothing to classify: no pixel of the series lies in the area that"
            f" {' and '.join(filter(None, (request.roi, request.mask)))} gives; check its place and its CRS"
        )
    job = MapJob(
        series=series,
        model=model,
        digest=digest,
        engine=computer,
        tile_size=plan.tile,
        tasks=tasks,
        output=request.output,
        outside=outside,
        probabilities=request.probabilities,
    )
    others = [*(file.path for file in series.files), *filter(None, (request.roi, request.mask))]
    for path in job.mosaics:
        check_output(path, others)
    settings = ClassifySettings(
        series=series,
        model=model.spec,
        serving=model.serving,
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


def run_map(planned: MapPlan, options: PipelineOptions) -> Outcome:
    """Compute the tiles that are not there yet, publish the map, its certificate and the record of the run.

    Raises:
        DltsError: whatever the user can put right; another run that writes the same output.
    """
    job, started = planned.job, time.time()
    check_submission(options, worker_paths(planned))
    storage.check_writable(storage.parent(job.output))
    quarantine = planned.request.quarantine
    good = take_stock(job.series, quarantine)
    written: list[TileRecord] = []
    seconds: dict[str, float] = {}
    with job.locked():
        for path in (*job.mosaics, job.certificate, job.output + RUN_RECORD):
            storage.remove_leftovers(path)
        certificate = finished_certificate(job)
        reused = len(job.tasks)
        if certificate is None:
            kept = _timed("reuse", seconds, lambda: reuse_tiles(job))
            reused = len(kept)
            written = _compute(planned, kept, options, seconds)
            if written:
                check_stock(job.series, quarantine, good)
            give_freed_memory_back()  # local workers are threads of this process
            certificate = _timed("assemble", seconds, lambda: publish(job, [*kept, *written]))
        seconds["total"] = time.time() - started
        record = record_run(planned, written, reused, seconds, started)
        storage.remove_tree(job.parts)
    return Outcome(certificate, record, seconds)


def worker_paths(planned: MapPlan) -> dict[str, str]:
    """Paths that the workers open, by what they are; of the images a local one, where there is any."""
    request, job = planned.request, planned.job
    images = [job.series.files[source.file].path for source in job.series.all_sources()]
    paths = {
        "--output": job.output,
        "--model": planned.settings.serving,
        "an image of the series": min(images, key=storage.is_remote),
    }
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
        inside = None if area is None else area.inside(tile.window)
        if inside is None:
            tasks.append(TileTask(tile, keys.key(tile)))
        elif inside.any():
            tasks.append(TileTask(tile, keys.key(tile, area_digest(inside))))
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


def _compute(
    planned: MapPlan, kept: list[TileRecord], options: PipelineOptions, seconds: dict[str, float]
) -> list[TileRecord]:
    """Run the pipeline on the tiles that nothing is known of; gives their records."""
    job = planned.job
    have = {record.name for record in kept}
    todo = [task for task in job.tasks if task.tile.key not in have]
    if not todo:
        return []

    lists = write_tile_lists(job.parts, todo)
    pixels = sum(task.tile.window.pixels for task in todo) / len(todo)
    with Progress(len(todo), _counter(job.parts, todo), pixels):
        build = partial(build_pipeline, planned=planned, lists=lists)
        result = _timed("compute", seconds, lambda: run_pipeline(build, options))
    seconds.update(stage_seconds(result))
    return take_records(job.parts)


def build_pipeline(pipeline: beam.Pipeline, planned: MapPlan, lists: Sequence[str]) -> None:
    """Apply the transforms: from the lists of tiles to one file of their records."""
    records = (
        pipeline
        | "ReadTileLists" >> ReadTileLists(lists)
        | "ClassifyTiles" >> ClassifyTiles(planned.settings)
    )
    _ = records | "GatherRecords" >> GatherRecords(planned.job.parts)


def _counter(parts: str, todo: Iterable[TileTask]) -> Any:
    """A function that counts the tiles whose part was written since."""
    names = [task.tile.key + MAP for task in todo]

    def stamps() -> dict[str, str]:
        return {storage.name(entry.path): entry.stamp for entry in storage.list_files(parts)}

    before = stamps()

    def count() -> int:
        now = stamps()
        return sum(name in now and now[name] != before.get(name) for name in names)

    return count


def stage_seconds(result: PipelineResult) -> dict[str, float]:
    """``read``, ``prepare``, … summed over the workers, from the stage's own counters."""
    metrics = result.metrics()
    seconds: dict[str, float] = {}
    for counter in metrics.query(MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        what = counter.key.metric.name
        if what.endswith("_micros"):
            name = what.removesuffix("_micros")
            seconds[name] = seconds.get(name, 0.0) + (counter.committed or counter.attempted or 0) / 1e6
    # tfx-bsl's handler counts nothing for us, but Beam does for every handler, in the handler's namespace.
    for latency in metrics.query(MetricsFilter().with_name(INFERENCE_MICROS))["distributions"]:
        taken = latency.committed or latency.attempted
        if latency.key.metric.namespace != NAMESPACE and taken is not None:
            seconds["infer"] = seconds.get("infer", 0.0) + taken.sum / 1e6
    return seconds


def record_run(
    planned: MapPlan, written: list[TileRecord], reused: int, seconds: dict[str, float], started: float
) -> RunRecord:
    """Write the record of the run.

    Raises:
        DltsError: the tiles do not add up.
    """
    job, plan = planned.job, planned.plan
    broken = {record.name: record.quarantined for record in written if record.quarantined is not None}
    record = RunRecord(
        expected=len(job.tasks),
        written=len(written) - len(broken),
        reused=reused,
        quarantined=len(broken),
        outside=len(job.outside),
        seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
        started=dt.datetime.fromtimestamp(started, dt.UTC).isoformat(timespec="seconds"),
        settings={
            **vars(planned.request),
            "tile": plan.tile,
            "window": [plan.window_height, plan.window_width],
            "memory": plan.memory,
        },
        versions={
            "dlts-beam": __version__,
            "python": platform.python_version(),
            "apache-beam": beam.__version__,
            "numpy": np.__version__,
            "gdal": gdal_version(),
        },
        notes=planned.notes,
        quarantine=broken,
    )
    if record.expected != record.written + record.reused + record.quarantined:
        raise DltsError(
            f"{record.expected} tiles were expected, {record.written} written, {record.reused} reused and"
            f" {record.quarantined} quarantined: do not trust {job.output}"
        )
    retried(lambda: storage.write_text(job.output + RUN_RECORD, record.to_json()))
    return record


def _memory(given: str | None, options: PipelineOptions) -> int:
    if given is not None:
        return parse_bytes(given)
    local = runs_in_process(options.view_as(StandardOptions).runner)
    direct = options.view_as(DirectOptions)
    workers = direct.direct_num_workers if local else 1
    return default_memory(
        available_memory() if local else None, workers, direct.direct_running_mode == "multi_processing"
    )


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise DltsError(f"--start needs a date like 2020-08-01; got {text!r}") from error


def _timed(name: str, seconds: dict[str, float], work: Any) -> Any:
    """Do the work and keep how long it took."""
    began = time.monotonic()
    result = work()
    seconds[name] = time.monotonic() - began
    return result
