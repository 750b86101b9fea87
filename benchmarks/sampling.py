"""Step 2 on 10,000 and 100,000 points, against the naive way and against one plain read of the images.

    python -m benchmarks.sampling [--size 2048] [--steps 24] [--bands 4] [--million] [--folder scratch]

The naive way opens each stacked band and reads a 3 x 3 block for every point and band; it is measured on a
subset of the points in the same run. Neither makes statistics: ours runs with ``--no-summary``, and the
command with its summary has a row of its own. The plain read decodes every block that a point's patch
touches once, all bands of a file in one call, in one thread for each worker. Everything runs in processes of
its own, started by one that stays small: Linux counts the peak of whoever starts a process as the child's
own. A table is printed, then one line of JSON.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window as RasterWindow

from dlts_beam.spec import SeriesSpec

BLOCK = 256
TRANSFORM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 8_000_000.0)
CRS = "EPSG:32721"
NAIVE_POINTS = 40
Result = TypeVar("Result")


class Timed(NamedTuple):
    """What one piece of work took: seconds by the clock and of the processor, and MiB at most."""

    seconds: float
    cpu: float
    peak_mib: float = math.nan

    def best(self, other: Timed) -> Timed:
        """The better of two measurements, figure by figure."""
        return Timed(*(min(pair) for pair in zip(self, other, strict=True)))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=2048, help="side of the scene in pixels")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--bands", type=int, default=4)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="measure all in turn this often, keep the best")
    parser.add_argument("--million", action="store_true", help="also a million points: peak memory")
    parser.add_argument("--folder", help="keep the scene here and use it again (default: a scratch folder)")
    options = parser.parse_args(argv)
    with scratch(options.folder) as folder:
        measure(options, folder)


@contextmanager
def scratch(folder: str | None) -> Iterator[Path]:
    """The folder given, or one that goes when the benchmark ends."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Make the scene where it is not there, measure everything in turn, print table and JSON."""
    series = apart(make_scene, folder, options.size, options.steps, options.bands)
    workers = options.workers
    one, few, many = (
        apart(make_points, folder, options.size, n) for n in (1, options.points, 10 * options.points)
    )
    work: dict[str, Callable[[], Timed]] = {
        "start": lambda: run_step(folder, one, workers),
        "full": lambda: apart(full_read, series, few, workers),
        "naive": lambda: apart(naive_reads, series, few[:NAIVE_POINTS], options.bands),
        "few": lambda: run_step(folder, few, workers),
        "many": lambda: run_step(folder, many, workers),
        "summary": lambda: run_step(folder, few, workers, summary=True),
    }
    if options.million:
        million = apart(make_points, folder, options.size, 1_000_000)
        work["million"] = lambda: run_step(folder, million, workers)
    found: dict[str, Timed] = {}
    for _ in range(options.rounds):
        for name, call in work.items():
            timed = call()
            found[name] = found[name].best(timed) if name in found else timed
    titles = {
        "start": "ours, 1 point: the pipeline's start",
        "full": f"plain read of the touched blocks, {workers} threads",
        "naive": f"naive, {NAIVE_POINTS} points",
        "few": f"ours, {len(few):,} points",
        "many": f"ours, {len(many):,} points",
        "summary": f"ours, {len(few):,} points with statistics and page",
        "million": "ours, 1,000,000 points",
    }
    print(f"{'':46} {'seconds':>9} {'processor':>9} {'peak MiB':>9}")
    for name, timed in found.items():
        print(f"{titles[name]:46} {timed.seconds:9.2f} {timed.cpu:9.2f} {timed.peak_mib:9.0f}")
    out = figures(found, len(few), workers)
    if options.million:
        # Workers apart from the launcher, which holds the points: what does a worker itself need?
        out["worker_peak_mib"] = worker_peak(folder, few)
        out["worker_peak_mib_million"] = worker_peak(folder, million)
        out["million_points_mib"] = points_memory(folder, million)
    print(json.dumps(out))


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """What the function gives, called in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def figures(found: Mapping[str, Timed], points: int, workers: int) -> dict[str, float]:
    """The figures of the last line; those named ``_cpu`` count processor seconds, whoever else is at work."""
    start, full, naive, few, many = (found[name] for name in ("start", "full", "naive", "few", "many"))
    out = {
        "per_point_vs_naive": naive.seconds / NAIVE_POINTS / (few.seconds / points),
        "vs_full_read": (few.seconds - start.seconds) / full.seconds,
        "tenfold_points": many.seconds / few.seconds,
        "pipeline_start_seconds": start.seconds,
        "per_point_vs_naive_cpu": naive.cpu / NAIVE_POINTS / (few.cpu / points),
        "vs_full_read_cpu": (few.cpu - start.cpu) / full.cpu,
        "tenfold_points_cpu": many.cpu / few.cpu,
        "peak_mib": few.peak_mib,
        "peak_mib_tenfold": many.peak_mib,
        "with_summary_seconds": found["summary"].seconds,
        "with_summary_vs_naive": naive.seconds / NAIVE_POINTS / (found["summary"].seconds / points),
        "points": points,
        "workers": workers,
    }
    if "million" in found:
        out["peak_mib_million"] = found["million"].peak_mib
    return {name: round(value, 3) for name, value in out.items()}


def make_scene(folder: Path, size: int, steps: int, bands: int) -> SeriesSpec:
    """Images of smooth fields with noise, about as compressible as satellite images, and their series."""
    from dlts_beam.spec import SeriesSpec
    from pipelines.generate_img_series import main as generate_img_series

    manifest = folder / "series" / "series.json"
    if not manifest.exists():
        (folder / "images").mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        coarse = np.kron(rng.integers(500, 4000, (-(-size // 64), -(-size // 64))), np.ones((64, 64), int))
        field = coarse[:size, :size, None] + 300 * np.arange(bands)
        for step in range(steps):
            noise = rng.normal(0, 40, (size, size, bands))
            image = (field + 200 * np.sin(step / 4) + noise).clip(1, 65535).astype(np.uint16)
            name = folder / "images" / f"scene_2020{1 + step // 2:02d}{1 + step % 2 * 15:02d}.tif"
            with rasterio.open(
                name, "w", driver="GTiff", height=size, width=size, count=bands, dtype="uint16", crs=CRS,
                transform=Affine(*TRANSFORM), nodata=0, compress="deflate", tiled=True, blockxsize=BLOCK,
                blockysize=BLOCK, interleave="pixel",
            ) as file:  # fmt: skip
                file.write(np.moveaxis(image, -1, 0))
        if generate_img_series(["-i", str(folder / "images"), "-o", str(folder / "series")]):
            raise SystemExit("the series could not be made")
    return SeriesSpec.from_json(manifest.read_text())


def make_points(folder: Path, size: int, count: int) -> np.ndarray:
    """(N, 2) rows and columns of distinct random pixels; written as ``points_N.parquet`` too."""
    import geopandas as gpd

    places = np.random.default_rng(count).choice(size * size, count, replace=False)
    pixels = np.stack([places // size, places % size], axis=1)
    path = points_path(folder, count)
    if not path.exists():
        x, y = TRANSFORM[2] + 10 * (pixels[:, 1] + 0.5), TRANSFORM[5] - 10 * (pixels[:, 0] + 0.5)
        frame = gpd.GeoDataFrame({"class": places % 5}, geometry=gpd.points_from_xy(x, y), crs=CRS)
        frame.to_parquet(path)
    return pixels


def points_path(folder: Path, count: int) -> Path:
    return folder / f"points_{count}.parquet"


def run_step(folder: Path, points: np.ndarray, workers: int, summary: bool = False) -> Timed:
    """The whole command, in a process of its own."""
    command = [
        sys.executable, "-m", "pipelines.generate_series", "-i", str(folder / "series"),
        "-s", str(points_path(folder, len(points))), "-o", str(folder / "samples"),
        f"--direct_num_workers={workers}",
        *([] if summary else ["--no-summary"]),
    ]  # fmt: skip
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"generate-series ended with status {status}")
    return Timed(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def worker_peak(folder: Path, points: np.ndarray) -> float:
    """MiB of the only worker process of a run."""
    flags = [
        "-i", str(folder / "series"), "-s", str(points_path(folder, len(points))),
        "-o", str(folder / "samples"), "--direct_running_mode=multi_processing", "--direct_num_workers=1",
    ]  # fmt: skip
    return told(
        f"from pipelines.generate_series import main\nassert main({flags!r}) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )


def points_memory(folder: Path, points: np.ndarray) -> float:
    """MiB by which reading the points, and nothing else, raises the peak of a process."""
    return told(
        "from dlts_beam.io.vector import Columns, read_places\nfrom dlts_beam.spec import SeriesSpec\n"
        f"grid = SeriesSpec.from_json(open({str(folder / 'series' / 'series.json')!r}).read()).grid\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"places = read_places({str(points_path(folder, len(points)))!r}, grid, Columns('class'))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )


def told(script: str) -> float:
    """The number on the last line that a script prints in a fresh interpreter."""
    command = [sys.executable, "-c", f"import resource\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return round(float(done.stdout.split()[-1]), 1)


def full_read(series: SeriesSpec, points: np.ndarray, workers: int) -> Timed:
    """Decode every touched block of every file once; files are shared out among the threads."""
    corners = np.concatenate([points + np.array([row, col]) for row in (-1, 1) for col in (-1, 1)])
    size = series.grid.height
    blocks = np.unique(np.clip(corners, 0, size - 1) // BLOCK, axis=0).tolist()

    def read(path: str) -> None:
        with rasterio.open(path) as file:
            for row, col in blocks:
                file.read(window=RasterWindow(col * BLOCK, row * BLOCK, BLOCK, BLOCK))

    begin, cpu = time.perf_counter(), time.process_time()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(read, [file.path for file in series.files]))
    return Timed(time.perf_counter() - begin, time.process_time() - cpu)


def naive_reads(series: SeriesSpec, points: np.ndarray, bands: int) -> Timed:
    """The naive way: for every point and band open the stacked band and read a 3 x 3 block."""
    folder = Path(series.files[0].path).parent.parent / "series"
    size = series.grid.height
    begin, cpu = time.perf_counter(), time.process_time()
    for row, col in points.tolist():
        window = RasterWindow(min(max(col - 1, 0), size - 3), min(max(row - 1, 0), size - 3), 3, 3)
        for band in range(1, bands + 1):
            with rasterio.open(folder / f"ts_b{band}.vrt") as stack:
                stack.read(window=window)
    return Timed(time.perf_counter() - begin, time.process_time() - cpu)


if __name__ == "__main__":
    main()
