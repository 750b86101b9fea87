"""Small series and vector files for tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.grid import Grid
from dlts_beam.spec import Band, Reading, SeriesSpec, Source, SourceFile, TimeStep

UTM = "EPSG:32721"
TRANSFORM = (30.0, 0.0, 500_000.0, 0.0, -30.0, 8_000_000.0)


def make_series(
    folder: Path,
    cube: np.ndarray,
    *,
    first: str = "2020-01-01",
    every: int = 16,
    nodata: float | None = None,
    crs: str = UTM,
    transform: tuple[float, float, float, float, float, float] = TRANSFORM,
    reading: Reading | None = None,
    scale: float = 1.0,
    dated: bool = True,
    block: int | None = None,
) -> SeriesSpec:
    """Write a cube (T, H, W, B) as one GeoTIFF per time step and ``folder/series.json`` over them.

    Args:
        folder: made if need be; images go to ``folder/images``.
        cube: stored values.
        first, every: date of the first time step, and days between two.
        nodata: of every band.
        crs, transform: of the grid.
        reading: further rules.
        scale: of every band.
        dated: False gives numbered time steps.
        block: side of the files' tiles; None leaves strips.
    """
    steps, height, width, bands = cube.shape
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {}
    files, times = [], []
    for step in range(steps):
        day = dt.date.fromisoformat(first) + dt.timedelta(days=step * every)
        path = images / f"image_{day:%Y%m%d}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=cube.dtype,
            crs=crs, transform=Affine(*transform), nodata=nodata, compress="deflate", **tiles,
        ) as image:  # fmt: skip
            image.write(np.moveaxis(cube[step], -1, 0))
            blocks = image.block_shapes[0]
        stamp = storage.stat(path)
        files.append(
            SourceFile(str(path), 0, 0, height, width, stamp.size, stamp.stamp, block=(blocks[0], blocks[1]))
        )
        times.append(TimeStep(step, day.isoformat() if dated else None))
    with rasterio.open(path) as image:
        wkt = image.crs.to_wkt()
    spec = SeriesSpec(
        grid=Grid(wkt, transform, height, width),
        steps=tuple(times),
        bands=tuple(Band(b + 1, f"b{b + 1}", str(cube.dtype), nodata, scale) for b in range(bands)),
        files=tuple(files),
        sources=tuple(tuple((Source(step, b + 1),) for b in range(bands)) for step in range(steps)),
        reading=reading or Reading(),
    )
    (folder / "series.json").write_text(spec.to_json(), encoding="utf-8")
    return spec


def random_cube(
    steps: int = 4, height: int = 20, width: int = 30, bands: int = 2, dtype: str = "uint16", seed: int = 0
) -> np.ndarray:
    """(T, H, W, B) of values from 1 to 9999: 0 is free for nodata."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 10_000, (steps, height, width, bands)).astype(dtype)


def pixel_centres(grid: Grid, pixels: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    """Map coordinates x and y of the centres of (row, col) pixels."""
    places = [grid.xy(row + 0.5, col + 0.5) for row, col in pixels]
    return [x for x, _ in places], [y for _, y in places]


def write_points(
    path: Path, x: Sequence[float], y: Sequence[float], crs: str | None = UTM, **columns: Sequence[object]
) -> Path:
    """Write points with attributes; the extension decides the format."""
    frame = gpd.GeoDataFrame(dict(columns), geometry=gpd.points_from_xy(x, y), crs=crs)
    frame.to_file(path)
    return path
