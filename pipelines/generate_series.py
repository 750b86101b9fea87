"""Step 2, ``dlts generate-series``: a series and labelled places to samples for training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dlts_beam.command import crash_told, leave
from pipelines._main import run_beam_main

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from dlts_beam.candidates import Chosen
    from dlts_beam.io.polygons import PolygonRule
    from dlts_beam.io.vector import Columns
    from dlts_beam.plan_files import PlanFile
    from dlts_beam.shards import ShardResult, ShardSettings
    from dlts_beam.spec import ClassTable, SamplesSpec, SeriesSpec

SERIES_JSON = "series.json"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="dlts generate-series",
        description="Cut the patch series of labelled points or polygons out of a series and write them as "
        "TFRecords, with samples.json, classes.csv, schema.pbtxt, and rejected.csv, which accounts for "
        "everything that became no sample; statistics.json and quality.csv say what the samples are like, "
        "and samples.html shows it.",
        epilog="Example: dlts generate-series -i series -s points.gpkg -c class -o samples",
    )
    need = parser.add_argument_group("what to read and write")
    need.add_argument("-i", "--input-dir", required=True, help="series folder, made by generate-img-series")
    need.add_argument("-s", "--samples", required=True, help="vector file: any format of OGR, or GeoParquet")
    need.add_argument("-c", "--column-label", default="class", help="column of the labels (default: class)")
    need.add_argument("-o", "--series-dir", required=True, help="samples folder to write")
    need.add_argument("--layer", help="layer of a vector file that holds several")
    need.add_argument("--samples-crs", help="CRS of a vector file that names none, such as EPSG:4326")
    label = parser.add_argument_group("labels: integers or texts")
    label.add_argument(
        "-n", "--num-classes", type=int, help="number of classes; only checked: it is read from the labels"
    )
    label.add_argument(
        "--classes",
        help="CSV with columns value, name, colour: fixes the classes, their order, names and colours (the "
        "value may be called class, the name label); other labels are rejected. A classes.csv that lies "
        "beside the vector file is only used when it is named here",
    )
    sample = parser.add_argument_group("samples")
    sample.add_argument("--patch", type=int, default=3, help="odd side of a patch in pixels (default: 3)")
    sample.add_argument(
        "--min-valid", type=int, default=1,
        help="reject pixels with fewer valid time steps (default: 1)",
    )  # fmt: skip
    sample.add_argument(
        "--keep", nargs="+", default=[], metavar="COLUMN", help="attributes to keep with each sample"
    )
    sample.add_argument(
        "--block-size", type=float,
        help="side of the spatial blocks for splits, in map units (default: a 20th of the series' longer "
        "side, at least 10 pixels)",
    )  # fmt: skip
    sample.add_argument("--start-column", help="column with the first day of each feature's own interval")
    sample.add_argument("--end-column", help="column with the last day of each feature's own interval")
    sample.add_argument(
        "--steps", type=int, help="time steps of each interval (default: those of the longest one)"
    )
    polygon = parser.add_argument_group("polygons")
    polygon.add_argument(
        "--samples-per-polygon", type=int, default=1000,
        help="take at most this many pixels of a polygon, spread evenly; 0 takes all (default: 1000)",
    )  # fmt: skip
    polygon.add_argument(
        "--erode", type=int, default=0, help="stay this many pixels off a polygon's edge (default: 0)"
    )
    run = parser.add_argument_group("running")
    run.add_argument("--shards", type=int, help="number of files (default: by the amount of data)")
    run.add_argument(
        "--skip-unreadable", action="store_true",
        help="reject the pixels of windows that cannot be read; else an unreadable image ends the run",
    )  # fmt: skip
    run.add_argument(
        "--no-summary", action="store_true",
        help="leave out statistics.json, quality.csv and samples.html, which read all samples once more",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run step 2; gives the exit status."""
    return run_beam_main(build_parser, _run, argv)


def _run(args: argparse.Namespace, options: PipelineOptions) -> None:
    from dlts_beam import storage
    from dlts_beam.beam.dataflow import describe_detached, is_detached, is_dry_run
    from dlts_beam.beam.runner import check_submission
    from dlts_beam.candidates import choose_candidates
    from dlts_beam.io.vector import read_places
    from dlts_beam.plan_files import name_plan, write_plan
    from dlts_beam.samples_folder import (
        account_for,
        check_folder,
        clear_folder,
        clear_leftovers,
        clear_scratch,
        complete_folder,
        locked,
        show_summary,
    )
    from dlts_beam.sampling import plan_shards

    _check_flags(args)
    series = _read_series(args.input_dir)
    table = _read_classes(args.classes)
    image = min((file.path for file in series.files), key=storage.is_remote)
    check_submission(options, {"--series-dir": args.series_dir, "an image of the series": image})
    storage.check_writable(args.series_dir)
    check_folder(args.series_dir)
    places = read_places(
        args.samples, series.grid, _columns(args), _polygon_rule(args), args.samples_crs, args.layer
    )
    chosen = choose_candidates(places, series, args.column_label, table, args.num_classes, args.steps)
    settings = _settings(args, series, chosen)
    layout = settings.layout
    dry = is_dry_run(options)  # leaves all as it is
    with nullcontext(lambda: None) if dry else locked(args.series_dir) as check_lock:
        if not dry:
            clear_folder(args.series_dir)
        keep_scratch = dry
        try:
            plans = [
                (name_plan if dry else write_plan)(plan, args.series_dir)
                for plan in plan_shards(
                    chosen.candidates, places.kept, settings.tiling, layout.nbytes, args.shards
                )
            ]
            if is_detached(options):
                from dlts_beam.beam.detached import SamplesJob, submit_samples

                job = SamplesJob(settings, series, chosen, places.labels, plans, not args.no_summary)
                submit_samples(job, options, args.skip_unreadable)
                keep_scratch = True  # the job's last step removes it
                print(f"{describe_detached(options)}: {chosen.pixels} pixels to cut out")
                return
            clear_leftovers(args.series_dir, len(plans))
            results = _extract(args, options, series, settings, plans)
            check_lock()
            spec = account_for(settings, series, chosen, results, places.labels)
            if not args.no_summary:
                _summarise(args, options, spec)
                show_summary(spec, args.series_dir)
            check_lock()
            complete_folder(spec, args.series_dir)
        finally:
            if not keep_scratch:
                check_lock()  # the scratch may be another run's by now
                clear_scratch(args.series_dir)
    _report(spec, args.series_dir, summarised=not args.no_summary)


def _check_flags(args: argparse.Namespace) -> None:
    from dlts_beam.errors import DltsError

    if args.patch < 1 or args.patch % 2 == 0:
        raise DltsError(f"--patch must be odd, so that a pixel sits in the middle; got {args.patch}")
    if (args.start_column is None) != (args.end_column is None):
        raise DltsError("--start-column and --end-column go together: give both or none")
    least = {"min_valid": 1, "samples_per_polygon": 0, "erode": 0, "shards": 1, "steps": 1, "num_classes": 1}
    for name, low in least.items():
        value = getattr(args, name)
        if value is not None and value < low:
            raise DltsError(f"--{name.replace('_', '-')} must be {low} or more; got {value}")
    if args.block_size is not None and not 0 < args.block_size < float("inf"):
        raise DltsError(f"--block-size must be more than 0 map units; got {args.block_size:g}")
    if len(set(args.keep)) != len(args.keep):
        raise DltsError(f"--keep names a column twice: {' '.join(args.keep)}")


def _read_series(folder: str) -> SeriesSpec:
    from dlts_beam import storage
    from dlts_beam.errors import DltsError
    from dlts_beam.spec import SeriesSpec

    path = storage.join(folder, SERIES_JSON)
    if not storage.exists(path):
        raise DltsError(
            f"{folder} is not a series folder: there is no {SERIES_JSON}; run generate-img-series first"
        )
    return SeriesSpec.from_json(storage.read_bytes(path), path)


def _read_classes(path: str | None) -> ClassTable | None:
    from dlts_beam import storage
    from dlts_beam.spec import ClassTable

    return None if path is None else ClassTable.from_csv(storage.read_text(path), path)


def _columns(args: argparse.Namespace) -> Columns:
    from dlts_beam.io.vector import Columns

    interval = None if args.start_column is None else (args.start_column, args.end_column)
    return Columns(args.column_label, tuple(args.keep), interval)


def _polygon_rule(args: argparse.Namespace) -> PolygonRule:
    from dlts_beam.io.polygons import PolygonRule

    return PolygonRule(args.samples_per_polygon, args.erode)


def _settings(args: argparse.Namespace, series: SeriesSpec, chosen: Chosen) -> ShardSettings:
    from dlts_beam.records import RecordLayout
    from dlts_beam.sampling import common_dtype, default_block_size, make_tiling
    from dlts_beam.shards import ShardSettings

    dtype = str(common_dtype(series.bands))
    return ShardSettings(
        folder=args.series_dir,
        tiling=make_tiling(series, args.patch),
        layout=RecordLayout(len(chosen.steps), args.patch, len(series.bands), dtype, tuple(args.keep)),
        cuts=chosen.cuts,
        classes=len(chosen.classes),
        min_valid=args.min_valid,
        block_size=args.block_size or default_block_size(series.grid),
    )


def _extract(
    args: argparse.Namespace,
    options: PipelineOptions,
    series: SeriesSpec,
    settings: ShardSettings,
    plans: Sequence[PlanFile],
) -> list[ShardResult]:
    """Run the pipeline; what became of each shard."""
    import apache_beam as beam

    from dlts_beam import storage
    from dlts_beam.beam.extract import ExtractSamples, WriteResults, read_results
    from dlts_beam.beam.runner import run_pipeline
    from dlts_beam.samples_folder import RESULTS_JSON

    path = storage.join(args.series_dir, RESULTS_JSON)

    def build(pipeline: beam.Pipeline) -> object:
        return (
            pipeline
            | "Plans" >> beam.Create([plan.path for plan in plans])
            | "ExtractSamples" >> ExtractSamples(series, settings, args.skip_unreadable)
            | "WriteResults" >> WriteResults(path)
        )

    run_pipeline(build, options)
    return read_results(path, plans)


def _summarise(args: argparse.Namespace, options: PipelineOptions, spec: SamplesSpec) -> None:
    """Read the written samples back: their statistics, and a quality score for each."""
    import apache_beam as beam

    from dlts_beam import storage
    from dlts_beam.beam.runner import run_pipeline
    from dlts_beam.beam.statistics import SummariseSamples
    from dlts_beam.spec import shard_name

    paths = [storage.join(args.series_dir, shard_name(n, spec.shards)) for n in range(spec.shards)]

    def build(pipeline: beam.Pipeline) -> object:
        return (
            pipeline
            | "Shards" >> beam.Create(list(enumerate(paths)))
            | "SummariseSamples" >> SummariseSamples(spec, args.series_dir)
        )

    run_pipeline(build, options)


def _report(spec: SamplesSpec, folder: str, summarised: bool) -> None:
    from dlts_beam import storage
    from dlts_beam.accounts import ledger_text
    from dlts_beam.samples_folder import class_table_text
    from dlts_beam.samples_page import SAMPLES_HTML

    print(class_table_text(spec))
    print(ledger_text("features", spec.features))
    print(ledger_text("candidate pixels", spec.candidates))
    print(f"wrote {spec.samples} samples of shape {spec.shape} in {spec.shards} files to {folder}")
    if summarised:
        print(f"look at them in {storage.join(folder, SAMPLES_HTML)}")


if __name__ == "__main__":
    leave(crash_told(main))
