"""A map of 100,000 x 100,000 pixels, without its images: what planning, listing and submitting it take.

    python -m benchmarks.scale [--only plan graph dataflow] [--side 100000]

The series is described by its spec alone: 24 dates of 4 bands, each date in 10 x 10 files on gs://; none of
them exists. Every phase runs in a process of its own, which tells seconds by the clock, seconds of the
processor and its peak. Limits: 60 s and 1 GB for each, and 10 MB for what Dataflow is sent.

series: write and read ``series.json``.
plan: all checks, all tiles, the content key of each.
listing: bytes to read, the GeoJSON of the tiles.
graph: the lists of tiles, and the pipeline as Beam's portable description.
dataflow: the pipeline translated to a Dataflow job, offline.
resume: find and verify the parts of all tiles; they are made first, which is not measured.
certificate: certify all tiles, write the certificate, read it back.
mosaic: the virtual raster over all parts, opened by GDAL.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 100_000
FILES_A_SIDE = 10
STEPS = 24
BANDS = ("blue", "green", "red", "nir")
SECONDS_LIMIT, PEAK_LIMIT, JOB_LIMIT = 60.0, 1e9, 10e6
DATAFLOW = (
    "--runner=DataflowRunner", "--project=some-project", "--region=europe-west4", "--dry_run=True",
    "--temp_location=gs://some-bucket/temp", "--staging_location=gs://some-bucket/staging",
)  # fmt: skip
Figures = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; limits that were passed are printed as missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=SIDE, help="of the grid in pixels")
    parser.add_argument("--files-a-side", type=int, default=FILES_A_SIDE, help="files of each date")
    parser.add_argument("--only", nargs="+", choices=PHASES, default=list(PHASES), metavar="PHASE")
    parser.add_argument("--in-process", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.in_process:
        print(json.dumps(measure(PHASES[options.in_process], options.folder)))
        return
    found: Figures = {"side": options.side, "files_a_side": options.files_a_side}
    with tempfile.TemporaryDirectory(prefix="dlts-bench-") as scratch:
        make(Path(scratch), options.side, options.files_a_side)
        for name in options.only:
            if name in NEED_PARTS:
                make_parts(Path(scratch))
            found[name] = in_process(name, Path(scratch))
            print(line(name, found[name]), flush=True)
    print(json.dumps(found))


def measure(phase: Callable[[Path], Iterator[Figures]], folder: Path) -> Figures:
    """Run one phase in this process: its figures, and what it took from its first yield on.

    A phase gets ready, yields, does its work, and yields its figures.
    """
    steps = phase(folder)
    next(steps)
    clock, processor = time.monotonic(), time.process_time()
    figures = next(steps)
    seconds, used = time.monotonic() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    taken = {"seconds": round(seconds, 2), "processor": round(used, 2), "peak_mb": round(peak / 1e6)}
    return {**taken, **figures}


def in_process(name: str, folder: Path) -> Figures:
    """Run one phase in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--in-process", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, found: Figures) -> str:
    """A phase in one line."""
    met = found["seconds"] < SECONDS_LIMIT and found["peak_mb"] * 1e6 < PEAK_LIMIT
    met &= found.get("job_mb", 0) * 1e6 < JOB_LIMIT
    rest = ", ".join(f"{key} {value}" for key, value in found.items() if key not in _TAKEN)
    return (
        f"{name:<12}{found['seconds']:8.2f} s ({found['processor']:.2f} s of the processor),"
        f" peak {found['peak_mb']} MB: {'ok' if met else 'MISSED'} ({rest})"
    )


_TAKEN = ("seconds", "processor", "peak_mb")


def make(folder: Path, side: int, files_a_side: int = FILES_A_SIDE) -> None:
    """Write ``series/series.json`` and a small model of the tests."""
    from tests.fakes import make_model

    spec = make_series(side, files_a_side)
    (folder / "series").mkdir(parents=True)
    (folder / "series" / "series.json").write_text(spec.to_json())
    make_model(folder / "model", spec, patch=3, batch=4096)


def make_series(side: int, files_a_side: int) -> Any:
    """A series without files: names, sizes and generations as a bucket of an archive has them."""
    from rasterio.crs import CRS

    from dlts_beam.grid import Grid
    from dlts_beam.spec import Band, SeriesSpec, Source, SourceFile, TimeStep

    generator = np.random.default_rng(0)
    edges = np.linspace(0, side, files_a_side + 1).astype(int).tolist()
    files: list[SourceFile] = []
    steps, sources = [], []
    for number in range(STEPS):
        day = dt.date(2024, 1, 4) + dt.timedelta(days=15 * number)
        steps.append(TimeStep(number, day.isoformat()))
        first = len(files)
        for row, end_row in itertools.pairwise(edges):
            for col, end_col in itertools.pairwise(edges):
                name = f"gs://some-archive/images/{day:%Y%m%d}/T{row:06d}_{col:06d}_{day:%Y%m%d}.tif"
                size = int(generator.integers(500_000_000, 900_000_000))
                generation = str(generator.integers(1_700_000_000_000_000, 1_800_000_000_000_000))
                box = row, col, end_row - row, end_col - col
                files.append(SourceFile(name, *box, size, generation, block=(512, 512)))
        each = range(first, len(files))
        sources.append(tuple(tuple(Source(f, b + 1) for f in each) for b in range(len(BANDS))))
    return SeriesSpec(
        grid=Grid(CRS.from_epsg(32721).to_wkt(), (10.0, 0.0, 500_000.0, 0.0, -10.0, 8_000_000.0), side, side),
        steps=tuple(steps),
        bands=tuple(Band(b + 1, name, "uint16", 0.0) for b, name in enumerate(BANDS)),
        files=tuple(files),
        sources=tuple(sources),
    )


def plan(folder: Path, *flags: str) -> Any:
    """The plan of the map."""
    from dlts_beam.beam.map_plan import MapRequest, plan_map
    from dlts_beam.beam.runner import parse_options

    request = MapRequest(str(folder / "series"), str(folder / "model"), str(folder / "map.tif"))
    return plan_map(request, parse_options(flags))


def records_of(planned: Any) -> list[Any]:
    """A record for each tile, as if it were computed."""
    from dlts_beam.certificate import TileRecord

    records = []
    for task in planned.job.tasks:
        pixels = task.tile.window.pixels
        counts = (pixels // 3, pixels - pixels // 3)
        records.append(TileRecord(task.tile.key, task.tile.window, task.key, task.key[::-1], counts, 0))
    return records


def series_phase(folder: Path) -> Iterator[Figures]:
    """Read ``series.json`` and write it again."""
    from dlts_beam.beam.map_plan import load_series

    yield {}
    spec = load_series(str(folder / "series"))
    text = spec.to_json()
    yield {"files": len(spec.files), "sources": len(spec.all_sources()), "json_mb": megabytes(text)}


def plan_phase(folder: Path) -> Iterator[Figures]:
    """Plan the map."""
    import dlts_beam.beam.map_run  # noqa: F401

    yield {}
    yield {"tiles": len(plan(folder).job.tasks)}


def listing_phase(folder: Path) -> Iterator[Figures]:
    """Tell of all tiles, as ``dlts plan`` does beside its trial."""
    from dlts_beam.beam.trial import bytes_to_read, tiles_geojson

    planned = plan(folder)
    yield {}
    size = bytes_to_read(planned.job.series, planned.bands, planned.job.tasks)
    yield {"to_read_gb": round(size / 1e9), "geojson_mb": megabytes(tiles_geojson(planned.job))}


def graph_phase(folder: Path) -> Iterator[Figures]:
    """Build the pipeline that step 4 runs."""
    import apache_beam as beam

    from dlts_beam.beam.map_run import build_pipeline
    from dlts_beam.beam.tile_lists import write_tile_lists

    planned = plan(folder)
    yield {}
    lists = write_tile_lists(planned.job.parts, planned.job.tasks)
    pipeline = beam.Pipeline()
    build_pipeline(pipeline, planned, lists)
    size = len(pipeline.to_runner_api().SerializeToString())
    yield {"graph_mb": round(size / 1e6, 3), "lists": len(lists)}


def dataflow_phase(folder: Path) -> Iterator[Figures]:
    """Translate the pipeline to a Dataflow job; nothing is sent."""
    import apache_beam as beam

    from dlts_beam.beam.map_run import build_pipeline
    from dlts_beam.beam.runner import make_runner, parse_options
    from dlts_beam.beam.tile_lists import write_tile_lists

    planned = plan(folder, *DATAFLOW)
    yield {}
    options = parse_options(DATAFLOW)
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    build_pipeline(pipeline, planned, write_tile_lists(planned.job.parts, planned.job.tasks))
    job = pipeline.run().job
    size = len(job.proto_pipeline.SerializeToString()) + len(job.json())
    yield {"job_mb": round(size / 1e6, 3), "steps": len(job.proto_pipeline.components.transforms)}


def resume_phase(folder: Path) -> Iterator[Figures]:
    """List the parts and verify each."""
    from dlts_beam.beam.assembly import reuse_tiles

    planned = plan(folder)
    yield {}
    yield {"reused": len(reuse_tiles(planned.job))}


def certificate_phase(folder: Path) -> Iterator[Figures]:
    """Certify all tiles."""
    from dlts_beam.certificate import Certificate

    planned = plan(folder)
    records = records_of(planned)
    yield {}
    text = planned.job.certify(records, {}).to_json()
    Certificate.from_json(text)
    yield {"json_mb": megabytes(text)}


def mosaic_phase(folder: Path) -> Iterator[Figures]:
    """Write and open the virtual raster that the map is assembled from."""
    import rasterio

    from dlts_beam.io.raster.assemble import vrt_text

    planned = plan(folder)
    (mosaic,) = planned.job.mosaics.values()
    yield {}
    text = vrt_text(mosaic, [task.tile for task in planned.job.tasks])
    path = Path(planned.job.parts) / "all.vrt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with rasterio.open(path) as dataset:
        pixels = dataset.width * dataset.height
    yield {"vrt_mb": megabytes(text), "pixels": pixels}


def make_parts(folder: Path) -> None:
    """Write a part for every tile, on all cores; what is there stays."""
    jobs = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        pool.starmap(_some_parts, [(folder, number, jobs) for number in range(jobs)])


def _some_parts(folder: Path, number: int, of: int) -> None:
    from dlts_beam.certificate import TileRecord
    from dlts_beam.io.raster import parts

    job = plan(folder).job
    os.makedirs(job.parts, exist_ok=True)
    generator = np.random.default_rng(number)
    for task in job.tasks[number::of]:
        path = Path(job.parts) / parts.part_name(task.tile)
        if path.exists():
            continue
        window = task.tile.window
        fields = generator.choice(np.array([3, 7], np.uint8), (64, 64)).repeat(8, 0).repeat(8, 1)
        values = fields[: window.height, : window.width]
        counts = int((values == 3).sum()), int((values == 7).sum())
        record = TileRecord(task.tile.key, window, task.key, parts.checksum(values), counts, 0)
        # Not through the storage module, which waits for the disk after each: that is no part of a resume.
        path.write_bytes(parts._encode(values[None], record, job.series.grid, 255))


def megabytes(text: str) -> float:
    """Size of a text in UTF-8."""
    return round(len(text.encode()) / 1e6, 2)


PHASES: dict[str, Callable[[Path], Iterator[Figures]]] = {
    "series": series_phase,
    "plan": plan_phase,
    "listing": listing_phase,
    "graph": graph_phase,
    "dataflow": dataflow_phase,
    "certificate": certificate_phase,
    "mosaic": mosaic_phase,
    "resume": resume_phase,
}
NEED_PARTS = ("resume",)

if __name__ == "__main__":
    main()
