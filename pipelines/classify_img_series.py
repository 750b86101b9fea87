"""Step 4: a series and a trained model to a class map."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlts_beam.command import crash_told, leave
from pipelines._main import run_beam_main

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from dlts_beam.beam.map_plan import MapPlan
    from dlts_beam.beam.map_run import Outcome

DEFAULT_GPU = "nvidia-l4"
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
    add("-m", "--model", required=True, metavar="PATH",
        help="model folder that step 3 wrote (its best-loss model), or one model in it: DIR/acc_model.keras",
    )  # fmt: skip
    add("-o", "--output", required=True, metavar="FILE",
        help="the map: .tif gives a Cloud-Optimized GeoTIFF, .img ERDAS Imagine (below 2 GB)",
    )  # fmt: skip
    add("--tile", type=int, metavar="PIXELS",
        help="side of the tiles that are finished one by one (default 512, less on a small scene, so that all"
        " workers have some, or where --probabilities of many classes take much memory); the map does not"
        " depend on it",
    )  # fmt: skip
    add("--memory", metavar="SIZE",
        help="memory of one worker, such as 600MB, for its tile and for what it reads at once; never changes"
        " the map (default: a worker's share of half of the machine's, at most 600MB, more for a large"
        " --tile)",
    )  # fmt: skip
    add("--date-tolerance", type=float, default=8.0, metavar="DAYS",
        help="how far a time step may lie from the model's in the year (default 8)",
    )  # fmt: skip
    add("--start", metavar="DATE",
        help="classify the interval of a longer series that begins on this day, such as 2020-08-01",
    )  # fmt: skip
    add("--roi", metavar="FILE",
        help="polygons in any coordinate system, in which their edges are straight: only pixels whose centre"
        " lies in one are classified",
    )  # fmt: skip
    add("--roi-layer", metavar="NAME", help="layer of a --roi file that holds several")
    add("--mask", metavar="FILE",
        help="raster: only pixels where it is neither 0, NaN, nodata nor transparent are classified",
    )  # fmt: skip
    add("--probabilities", action="store_true",
        help="also write OUTPUT's name with .probabilities: one band per class, uint16, 65534 stands for 1,"
        " 65535 for nodata; the map is the band with the highest value",
    )  # fmt: skip
    add("--on-error", choices=("fail", "quarantine"), default="fail",
        help="where an image cannot be read: stop (default), or leave the tile nodata, count it, and try it"
        " again in the next run",
    )  # fmt: skip
    add("--engine", choices=("onnx", "tensorflow", "tfx-bsl"),
        help="what computes the model (default onnx, the fastest on CPUs; with --gpu tensorflow)",
    )  # fmt: skip
    add("--gpu", nargs="?", const=DEFAULT_GPU, metavar="TYPE",
        help="compute on a GPU: this machine's, or on Dataflow workers that carry one of this type"
        f" (default {DEFAULT_GPU}); a worker that finds none stops the run",
    )  # fmt: skip
    add("--dry-run", action="store_true",
        help="tell tiles, bytes, memory and an estimate of the time, write OUTPUT.tiles.geojson, no map",
    )  # fmt: skip
    add("--price-per-worker-hour", type=float, metavar="PRICE",
        help="with --dry-run: what one worker costs for an hour, in any currency, to tell what the run costs",
    )  # fmt: skip
    add("--profile", action="store_true", help="tell where the time went")
    return parser


def classify(arguments: argparse.Namespace, options: PipelineOptions) -> None:
    """Check everything, compute the tiles that are not there yet, publish the map."""
    from dlts_beam.beam.dataflow import describe_detached, is_detached
    from dlts_beam.beam.map_plan import MapRequest, plan_map
    from dlts_beam.beam.map_run import run_map
    from dlts_beam.errors import DltsError

    if arguments.price_per_worker_hour is not None and not arguments.dry_run:
        raise DltsError("--price-per-worker-hour goes with --dry-run: 'dlts plan' with the same flags")

    request = MapRequest(
        series=arguments.input_dir,
        model=arguments.model,
        output=arguments.output,
        tile=arguments.tile,
        memory=arguments.memory,
        date_tolerance=arguments.date_tolerance,
        engine=arguments.engine or ("onnx" if arguments.gpu is None else "tensorflow"),
        gpu=arguments.gpu,
        quarantine=arguments.on_error == "quarantine",
        probabilities=arguments.probabilities,
        roi=arguments.roi,
        roi_layer=arguments.roi_layer,
        mask=arguments.mask,
        start=arguments.start,
    )
    planned = plan_map(request, options)
    for note in planned.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.dry_run:
        from dlts_beam.beam.trial import describe_plan

        print(describe_plan(planned, options, arguments.price_per_worker_hour))
        return
    if is_detached(options):
        from dlts_beam.beam.detached import submit_map

        tiles = submit_map(planned, options)
        print(f"{describe_detached(options)}: {tiles} of {len(planned.job.tasks)} tiles to compute")
        return
    outcome = run_map(planned, options)
    _report(planned, outcome)
    if arguments.profile:
        print(profile_text(outcome.seconds))


def _report(planned: MapPlan, outcome: Outcome) -> None:
    certificate, record = outcome.certificate, outcome.record
    grid = certificate.grid
    total = grid.height * grid.width
    broken = f", {certificate.quarantined_pixels} quarantined" if certificate.quarantined_pixels else ""
    print(
        f"{planned.job.output}: {grid.width} x {grid.height} pixels,"
        f" {certificate.classified} classified ({certificate.classified / total:.1%}),"
        f" {certificate.nodata_pixels} nodata{broken}; {record.reused} of {record.expected} tiles reused,"
        f" {outcome.seconds['total']:.1f} s"
    )
    for name in certificate.classes.names:
        pixels = certificate.class_pixels[name]
        print(f"  {name}: {pixels} pixels ({pixels / max(1, certificate.classified):.1%})")
    for tile, reason in record.quarantine.items():
        print(f"warning: tile {tile} is nodata: {reason}", file=sys.stderr)


def profile_text(seconds: dict[str, float]) -> str:
    """Where the time of a run went; the stage's parts are summed over its workers."""
    names = {
        "read": "read (beside the computing)",
        "wait": "wait for a read",
        "prepare": "prepare",
        "infer": "infer",
        "write": "label and write",
        "reuse": "look for finished tiles",
        "compute": "the pipeline, by the clock",
        "assemble": "assemble the map",
        "total": "in all",
    }
    return "\n".join(f"  {seconds[name]:9.2f} s  {text}" for name, text in names.items() if name in seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run step 4; gives the exit status."""
    return run_beam_main(build_parser, classify, argv)


if __name__ == "__main__":
    leave(crash_told(main))
