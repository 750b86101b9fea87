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
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from dlts_beam import __version__, storage
from dlts_beam.beam.assembly import (
    GatherRecords,
    finished_certificate,
    publish,
    reuse_tiles,
    take_records,
)
from dlts_beam.beam.classify import ClassifyTiles
from dlts_beam.beam.handler import NAMESPACE, give_freed_memory_back
from dlts_beam.beam.inputs import check_stock, take_stock
from dlts_beam.beam.map_plan import MapPlan, worker_paths
from dlts_beam.beam.runner import check_submission, run_pipeline
from dlts_beam.beam.stage import TileTask
from dlts_beam.beam.tile_lists import ReadTileLists, write_tile_lists
from dlts_beam.certificate import RUN_RECORD, Certificate, RunRecord, TileRecord
from dlts_beam.errors import DltsError
from dlts_beam.io.raster.assemble import AUX
from dlts_beam.io.raster.gdal import gdal_version
from dlts_beam.io.raster.parts import MAP
from dlts_beam.progress import Progress
from dlts_beam.retry import retried

INFERENCE_MICROS = "inference_batch_latency_micro_secs"  # the name that RunInference gives it


@dataclass
class Outcome:
    """What a run did.

    Attributes:
        seconds: by what they were spent on; read, prepare, infer, write and wait are summed over workers.
    """

    certificate: Certificate
    record: RunRecord
    seconds: dict[str, float] = field(default_factory=dict)


def run_map(planned: MapPlan, options: PipelineOptions) -> Outcome:
    """Compute the tiles that are not there yet, publish the map, its certificate and the record of the run.

    Raises:
        DltsError: whatever the user can put right; another run that writes the same output.
    """
    job, started = planned.job, time.time()
    good = check_places(planned, options)
    written: list[TileRecord] = []
    seconds: dict[str, float] = {}
    with job.locked() as check_locks:
        sides = [path + AUX for path in job.mosaics]
        for path in (*job.mosaics, *sides, job.certificate, job.output + RUN_RECORD):
            storage.remove_leftovers(path)
        certificate = finished_certificate(job)
        reused = len(job.tasks)
        if certificate is None:
            kept = _timed("reuse", seconds, lambda: reuse_tiles(job))
            reused = len(kept)
            written = _compute(planned, kept, options, seconds)
            if written:
                check_stock(job.series, planned.bands, planned.request.quarantine, good)
            give_freed_memory_back()  # local workers are threads of this process
            check_locks()
            certificate = _timed("assemble", seconds, lambda: publish(job, [*kept, *written], check_locks))
        seconds["total"] = time.time() - started
        check_locks()  # the parts may be another run's by now
        record = record_run(planned, written, reused, seconds, started)
        storage.remove_tree(job.parts)
    return Outcome(certificate, record, seconds)


def check_places(planned: MapPlan, options: PipelineOptions) -> frozenset[int]:
    """Before a run: workers reach their files, the output can be written, the images are as they were.

    Returns:
        What `take_stock` gives.

    Raises:
        DltsError: something of it is not so.
    """
    check_submission(options, worker_paths(planned))
    storage.check_writable(storage.parent(planned.job.output))
    return take_stock(planned.job.series, planned.bands, planned.request.quarantine)


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


def _timed(name: str, seconds: dict[str, float], work: Any) -> Any:
    """Do the work and keep how long it took."""
    began = time.monotonic()
    result = work()
    seconds[name] = time.monotonic() - began
    return result
