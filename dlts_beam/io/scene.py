"""A synthetic scene as files: what a user would bring to the four steps, and the truth to compare with."""

from __future__ import annotations

import re
from dataclasses import dataclass

import geopandas
import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.synthetic import Points, Scene

BLOCK = 256
_IMAGE = re.compile(r"DEMO_\d{8}\.tif")


@dataclass(frozen=True)
class SceneFiles:
    """Where a scene lies: folder of images, labelled points, truth map and class table."""

    images: str
    points: str
    truth: str
    classes: str


def write_scene(scene: Scene, points: Points, folder: str) -> SceneFiles:
    """Write ``images/DEMO_YYYYMMDD.tif``, ``points.gpkg``, ``truth.tif`` and ``classes.csv``.

    Images are tiled and compressed, with all bands in one file per date. The points have columns
    ``class`` (the value) and ``name``. Images of an earlier scene in that folder go: a series is all
    that its folder holds.

    Raises:
        DltsError: a file cannot be written.
    """
    files = SceneFiles(
        storage.join(folder, "images"),
        storage.join(folder, "points.gpkg"),
        storage.join(folder, "truth.tif"),
        storage.join(folder, "classes.csv"),
    )
    wanted = {f"DEMO_{date:%Y%m%d}.tif" for date in scene.dates}
    for entry in storage.list_files(files.images):
        if _IMAGE.fullmatch(storage.name(entry.path)) and storage.name(entry.path) not in wanted:
            storage.remove(entry.path)
    for date, image in zip(scene.dates, scene.cube, strict=True):
        path = storage.join(files.images, f"DEMO_{date:%Y%m%d}.tif")
        _write_raster(path, np.moveaxis(image, -1, 0), scene, scene.nodata, scene.bands, scene.scale)
    _write_raster(files.truth, scene.truth[None], scene, scene.classes.nodata, ("class",), None)
    _write_points(files.points, points, scene)
    storage.write_text(files.classes, scene.classes.to_csv())
    return files


def read_map(path: str) -> tuple[Grid, np.ndarray]:
    """Read a class map that fits in memory: its grid and its values (H, W), nodata as stored.

    Raises:
        DltsError: the map cannot be read.
    """
    try:
        with rasterio.open(storage.gdal_path(path)) as source:
            a, b, c, d, e, f = tuple(source.transform)[:6]
            wkt = source.crs.to_wkt() if source.crs is not None else ""
            return Grid(wkt, (a, b, c, d, e, f), source.height, source.width), source.read(1)
    except RasterioError as error:
        raise DltsError(f"cannot read map {path}: {error}") from error


def _write_raster(
    path: str, layers: np.ndarray, scene: Scene, nodata: int, names: tuple[str, ...], scale: float | None
) -> None:
    count, height, width = layers.shape
    with (
        storage.staged(path) as aside,
        rasterio.open(
            aside,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype=layers.dtype,
            crs=CRS.from_user_input(scene.grid.crs),
            transform=Affine(*scene.grid.transform),
            nodata=nodata,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="deflate",
            predictor=2,
            interleave="pixel",
        ) as image,
    ):
        image.write(layers)
        image.descriptions = names
        if scale is not None:
            image.scales = (scale,) * count


def _write_points(path: str, points: Points, scene: Scene) -> None:
    names = dict(zip(scene.classes.values, scene.classes.names, strict=True))
    table = geopandas.GeoDataFrame(
        {"class": points.value.astype(np.int32), "name": [names[int(value)] for value in points.value]},
        geometry=geopandas.points_from_xy(points.x, points.y),
        crs=scene.grid.crs,
    )
    with storage.staged(path) as aside:
        table.to_file(aside, layer="points", driver="GPKG")
