"""Step 4: a series and a trained model to a class map."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlts_beam.errors import DltsError
from pipelines._main import run_beam_main

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from dlts_beam.beam.assembly import MapJob
    from dlts_beam.beam.classify import ClassifySettings
    from dlts_beam.certificate import Certificate, TileRecord
    from dlts_beam.plan import Plan
    from dlts_beam.spec import SeriesSpec

SERIES_JSON = "series.json"
DESCRIPTION = """\
Step 4: classify every pixel of a series with a trained model.

Writes the map with the series' grid, the classes' own values, colours and names, and nodata where a pixel
was never observed. Beside it: OUTPUT.json, the certificate (what the map is made of, tile by tile), and
OUTPUT.run.json (what this run did). A run that was stopped goes on where it was: repeat the command.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's own flags; every other flag goes to Beam."""
    parser = argparse.ArgumentParser(
        prog="dlts classify-img-series",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-i", "--input-dir", required=True, metavar="DIR", help="series folder that step 1 wrote")
    add(
        "-m", "--model", required=True, metavar="PATH",
        help="model folder that step 3 wrote (its best-loss model), or one model in it: DIR/acc_model.keras",
    )  # fmt: skip
    add(
        "-o", "--output", required=True, metavar="FILE",
        help="the map: .tif gives a Cloud-Optimized GeoTIFF, .img ERDAS Imagine",
    )  # fmt: skip
    add(
        "--tile", type=int, default=512, metavar="PIXELS",
        help="side of the tiles that are finished one by one (default 512); the map does not depend on it",
    )  # fmt: skip
    add(
        "--memory", metavar="SIZE",
        help="memory of one worker, such as 512MB; chooses how much is read at once, never the result"
        " (default: half of a worker's share of the machine, at most 512MB)",
    )  # fmt: skip
    add(
        "--date-tolerance", type=float, default=8.0, metavar="DAYS",
        help="how far a time step may lie from the model's in the year (default 8)",
    )  # fmt: skip
    add(
        "--engine", choices=("onnx", "tensorflow"), default="onnx",
        help="what computes the model (default onnx, the fastest on CPUs)",
    )  # fmt: skip
    return parser


def classify(arguments: argparse.Namespace, options: PipelineOptions) -> None:
    """Check everything, compute the tiles that are not there yet, publish the map."""
    from dlts_beam import storage
    from dlts_beam.beam.assembly import check_inputs, finished_certificate
    from dlts_beam.io.raster.assemble import output_driver

    output_driver(arguments.output)
    started = time.time()
    series = _load_series(arguments.input_dir)
    job, settings, plan, notes = _make_job(arguments, options, series)
    storage.check_writable(storage.parent(job.output))
    check_inputs(job.series)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    written: list[TileRecord]
    seconds: dict[str, float]
    with storage.exclusive(job.output + ".lock", job.output):
        certificate = finished_certificate(job)
        if certificate is not None:
            reused, written, seconds = list(certificate.tiles), [], {}
        else:
            reused, written, seconds = _compute(job, settings, options)
            certificate = _publish(job, [*reused, *written], seconds)
        seconds["total"] = time.time() - started
        _record(job, plan, arguments, certificate, len(reused), written, seconds, started, notes)
        storage.remove_tree(job.parts)
    _report(job, certificate, len(reused), seconds)


def _load_series(folder: str) -> SeriesSpec:
    from dlts_beam import storage
    from dlts_beam.spec import SeriesSpec

    path = storage.join(folder, SERIES_JSON)
    if not storage.exists(path):
        raise DltsError(
            f"there is no {SERIES_JSON} in {folder}: run generate-img-series with -o {folder} first"
        )
    return SeriesSpec.from_json(storage.read_bytes(path), path)


def _make_job(
    arguments: argparse.Namespace, options: PipelineOptions, series: SeriesSpec
) -> tuple[MapJob, ClassifySettings, Plan, list[str]]:
    from dlts_beam.beam.assembly import MapJob
    from dlts_beam.beam.classify import ClassifySettings, TileTask
    from dlts_beam.certificate import TileKeys
    from dlts_beam.fit_rule import check_fit
    from dlts_beam.grid import iter_tiles
    from dlts_beam.model_folder import find_saved_model, model_digest
    from dlts_beam.plan import make_plan

    model = find_saved_model(arguments.model)
    notes = check_fit(series, model.spec, arguments.date_tolerance)
    digest = model_digest(model, arguments.engine)
    plan = make_plan(series, model.spec, arguments.tile, _memory(arguments.memory, options))
    keys = TileKeys(series, model.spec, digest, arguments.engine)
    tiles = iter_tiles(series.grid.height, series.grid.width, plan.tile)
    job = MapJob(
        series=series,
        model=model,
        digest=digest,
        engine=arguments.engine,
        tile_size=plan.tile,
        tasks=tuple(TileTask(tile, keys.key(tile)) for tile in tiles),
        output=arguments.output,
    )
    settings = ClassifySettings(
        series=series,
        model=model.spec,
        serving=model.serving,
        engine=arguments.engine,
        window_height=plan.window_height,
        window_width=plan.window_width,
        parts=job.parts,
    )
    return job, settings, plan, notes


def _memory(given: str | None, options: PipelineOptions) -> int:
    from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

    from dlts_beam.beam.runner import runs_in_process
    from dlts_beam.machine import available_memory
    from dlts_beam.plan import default_memory, parse_bytes

    if given is not None:
        return parse_bytes(given)
    local = runs_in_process(options.view_as(StandardOptions).runner)
    workers = options.view_as(DirectOptions).direct_num_workers if local else 1
    return default_memory(available_memory() if local else None, workers)


def _compute(
    job: MapJob, settings: ClassifySettings, options: PipelineOptions
) -> tuple[list[TileRecord], list[TileRecord], dict[str, float]]:
    """Reused records, records of this run, and seconds by what they were spent on."""
    import apache_beam as beam

    from dlts_beam import storage
    from dlts_beam.beam.assembly import GatherRecords, check_inputs, reuse_tiles, take_records
    from dlts_beam.beam.classify import ClassifyTiles
    from dlts_beam.beam.runner import run_pipeline
    from dlts_beam.progress import Progress

    began = time.monotonic()
    reused = reuse_tiles(job)
    seconds = {"reuse": time.monotonic() - began}
    have = {record.name for record in reused}
    todo = [task for task in job.tasks if task.tile.key not in have]
    if not todo:
        return reused, [], seconds
    before = {storage.name(entry.path): entry.stamp for entry in storage.list_files(job.parts)}

    def done() -> int:
        found = {storage.name(entry.path): entry.stamp for entry in storage.list_files(job.parts)}
        return sum(found.get(name, before.get(name)) != before.get(name) for name in names)

    names = [task.tile.key + ".tif" for task in todo]

    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            pipeline
            | "Tiles" >> beam.Create(todo)
            | "ClassifyTiles" >> ClassifyTiles(settings)
            | "GatherRecords" >> GatherRecords(job.parts)
        )

    began = time.monotonic()
    pixels = sum(task.tile.window.pixels for task in todo) / len(todo)
    with Progress(len(todo), done, pixels):
        result = run_pipeline(build, options)
    seconds["compute"] = time.monotonic() - began
    seconds.update(_metric_seconds(result))
    check_inputs(job.series)
    return reused, take_records(job.parts), seconds


def _metric_seconds(result: Any) -> dict[str, float]:
    """``read``, ``prepare``, … summed over the workers, from the stage's own counters."""
    from apache_beam.metrics import MetricsFilter

    from dlts_beam.beam.handler import NAMESPACE

    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    seconds: dict[str, float] = {}
    for counter in counters:
        what = counter.key.metric.name
        if what.endswith("_micros"):
            name = what.removesuffix("_micros")
            seconds[name] = seconds.get(name, 0.0) + (counter.committed or counter.attempted or 0) / 1e6
    return seconds


def _publish(job: MapJob, records: list[TileRecord], seconds: dict[str, float]) -> Certificate:
    from dlts_beam.beam.assembly import publish

    began = time.monotonic()
    certificate = publish(job, records)
    seconds["assemble"] = time.monotonic() - began
    return certificate


def _record(
    job: MapJob,
    plan: Plan,
    arguments: argparse.Namespace,
    certificate: Certificate,
    reused: int,
    written: list[TileRecord],
    seconds: dict[str, float],
    started: float,
    notes: list[str],
) -> None:
    import datetime as dt

    from dlts_beam import __version__, storage
    from dlts_beam.certificate import RUN_RECORD, RunRecord

    broken = {record.name: record.quarantined for record in written if record.quarantined is not None}
    settings = {**vars(arguments), "window": [plan.window_height, plan.window_width], "memory": plan.memory}
    record = RunRecord(
        expected=len(job.tasks),
        written=len(written) - len(broken),
        reused=reused,
        quarantined=len(broken),
        seconds={name: round(value, 3) for name, value in sorted(seconds.items())},
        started=dt.datetime.fromtimestamp(started, dt.UTC).isoformat(timespec="seconds"),
        settings=settings,
        versions=_versions() | {"dlts-beam": __version__},
        notes=tuple(notes),
        quarantine=broken,
    )
    if record.expected != record.written + record.reused + record.quarantined:
        raise DltsError(
            f"{record.expected} tiles were expected, {record.written} written, {record.reused} reused and"
            f" {record.quarantined} quarantined: do not trust {job.output}"
        )
    storage.write_text(job.output + RUN_RECORD, record.to_json())


def _versions() -> dict[str, str]:
    import platform

    import apache_beam
    import numpy
    import rasterio

    return {
        "python": platform.python_version(),
        "apache-beam": apache_beam.__version__,
        "numpy": numpy.__version__,
        "gdal": rasterio.__gdal_version__,
    }


def _report(job: MapJob, certificate: Certificate, reused: int, seconds: dict[str, float]) -> None:
    total = certificate.classified + certificate.nodata_pixels + certificate.quarantined_pixels
    print(
        f"{job.output}: {certificate.grid.height} x {certificate.grid.width} pixels,"
        f" {certificate.classified} classified ({certificate.classified / total:.1%}),"
        f" {certificate.nodata_pixels} nodata; {reused} of {len(job.tasks)} tiles reused,"
        f" {seconds['total']:.1f} s"
    )
    for name in job.model.spec.classes.names:
        pixels = certificate.class_pixels[name]
        print(f"  {name}: {pixels} pixels ({pixels / total:.1%})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run step 4; gives the exit status."""
    return run_beam_main(build_parser, classify, argv)


if __name__ == "__main__":
    sys.exit(main())
