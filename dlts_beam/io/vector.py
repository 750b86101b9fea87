"""Labelled features of a vector file: attributes, and the pixels of the grid that they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from dlts_beam import storage
from dlts_beam.accounts import NO_GEOMETRY, NO_PIXEL, OUTSIDE, PIXEL, UNSUPPORTED, Rejected
from dlts_beam.candidates import Places
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.intervals import Interval, check_interval
from dlts_beam.io.attributes import date_text, text_of, values_of
from dlts_beam.io.polygons import PolygonRule, polygon_pixels
from dlts_beam.labels import clean_labels
from dlts_beam.sampling import inside, pixels_of

POINTS = (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT)
POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
# Columns of a table without geometry that OGR takes for coordinates.
X_NAMES, Y_NAMES = "x,lon,long,longitude,easting", "y,lat,latitude,northing"


@dataclass(frozen=True)
class Columns:
    """Names of the columns that are read.

    Attributes:
        label: the class labels.
        kept: attributes that travel with the samples.
        interval: start and end of each feature's time interval.
    """

    label: str
    kept: tuple[str, ...] = ()
    interval: tuple[str, str] | None = None


def read_places(
    path: str,
    grid: Grid,
    columns: Columns,
    rule: PolygonRule | None = None,
    crs: str | None = None,
    layer: str | None = None,
) -> Places:
    """Read a vector file and find the pixels of its features, reprojected to the grid.

    Args:
        path: any format that OGR reads, or GeoParquet; local or gs://.
        grid: the series' grid.
        columns: what is read.
        rule: how pixels are taken from polygons.
        crs: the file's CRS where it names none (or names it wrongly).
        layer: of a file that holds several.

    Raises:
        DltsError: the file cannot be read, has no such column or no CRS, or an interval is no interval.
    """
    frame = _read(path, layer)
    _check_columns(frame, columns, path)
    if not len(frame):
        raise DltsError(f"{path} holds no features")
    frame = frame.set_geometry(gpd.GeoSeries(_plain(frame.geometry.array), crs=frame.crs, index=frame.index))
    usable = _usable(np.asarray(frame.geometry.values, dtype=object))
    frame, source_crs = _to_grid(frame, grid, crs, path)
    geometry = np.asarray(frame.geometry.values, dtype=object)
    feature, row, col, refused = _pixels(geometry, usable, grid, rule or PolygonRule())
    x, y = _representatives(geometry)
    return Places(
        labels=clean_labels(values_of(frame[columns.label]), columns.label),
        kept=tuple(tuple(text_of(value) for value in frame[name].tolist()) for name in columns.kept),
        intervals=_intervals(frame, columns.interval, path),
        x=x,
        y=y,
        feature=feature,
        row=row,
        col=col,
        refused=tuple(part for part in refused if len(part.feature)),
        source_crs=source_crs,
    )


def _read(path: str, layer: str | None) -> gpd.GeoDataFrame:
    if not storage.exists(path):
        raise DltsError(f"there is no vector file {path}: check the path given with -s/--samples")
    if path.lower().endswith((".parquet", ".geoparquet")):
        return _read_parquet(path)
    # A geometry whose coordinates make no shape becomes none: rejected by itself, not with the file.
    options: dict[str, Any] = {"on_invalid": "ignore"}
    if path.lower().endswith((".csv", ".tsv")):
        options |= {"X_POSSIBLE_NAMES": X_NAMES, "Y_POSSIBLE_NAMES": Y_NAMES, "AUTODETECT_TYPE": "YES"}
    place = storage.gdal_path(path)
    try:
        chosen = layer or _only_layer(path, place)
        frame = gpd.read_file(place, **({} if chosen is None else {"layer": chosen}), **options)
    except DataLayerError as error:
        raise DltsError(f"cannot read layer {layer!r} of {path}: {error}") from error
    except DataSourceError as error:
        raise DltsError(f"cannot read {path} as a vector file: {error}") from error
    except UnicodeDecodeError as error:
        raise DltsError(
            f"the texts of {path} are not in the encoding that it names, or not in UTF-8 where it names none:"
            " save it as UTF-8, or correct the .cpg file of a shapefile (such as to ISO-8859-1)"
        ) from error
    if not isinstance(frame, gpd.GeoDataFrame):
        hint = "choose another file or --layer"
        if "X_POSSIBLE_NAMES" in options:
            hint = f"name its columns of coordinates one of {X_NAMES} and one of {Y_NAMES}"
        raise DltsError(f"{path} holds no geometry: {hint}")
    return frame


def _only_layer(path: str, place: str) -> str | None:
    """The only layer with geometry; None where none is known to have any, such as in a table.

    Raises:
        DltsError: there are several: which one is meant must be said.
    """
    spatial = [str(name) for name, kind in pyogrio.list_layers(place) if kind is not None]
    if len(spatial) > 1:
        raise DltsError(f"{path} holds {len(spatial)} layers: {', '.join(spatial)}; name one with --layer")
    return spatial[0] if spatial else None


def _read_parquet(path: str) -> gpd.GeoDataFrame:
    with storage.local_copy(path) as local:
        try:
            return gpd.read_parquet(local)
        except (ValueError, OSError, shapely.GEOSException) as error:
            raise DltsError(f"cannot read {path} as GeoParquet: {_line(error)}") from error


def _line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())


def _check_columns(frame: gpd.GeoDataFrame, columns: Columns, path: str) -> None:
    have = [str(name) for name in frame.columns if name != frame.geometry.name]
    wanted = [("-c/--column-label", columns.label), *(("--keep", name) for name in columns.kept)]
    if columns.interval is not None:
        wanted += zip(("--start-column", "--end-column"), columns.interval, strict=True)
    for flag, name in wanted:
        if name not in have:
            raise DltsError(f"{path} has no column {name!r} ({flag}); it has {', '.join(have) or 'none'}")


def _to_grid(frame: gpd.GeoDataFrame, grid: Grid, crs: str | None, path: str) -> tuple[gpd.GeoDataFrame, str]:
    """The features in the grid's CRS, and the name of their own."""
    if crs is not None:
        try:
            frame = frame.set_crs(CRS.from_user_input(crs), allow_override=True)
        except CRSError as error:
            raise DltsError(f"--samples-crs {crs} is no CRS that can be understood: {error}") from error
    if frame.crs is None:
        raise DltsError(f"{path} names no CRS: give it with --samples-crs, such as EPSG:4326")
    target = CRS.from_user_input(grid.crs)
    if frame.crs == target:
        return frame, target.name
    try:
        return frame.to_crs(target), frame.crs.name
    except ProjError as error:
        raise DltsError(
            f"{path} cannot be reprojected from {frame.crs.name} to {target.name}: {_line(error)};"
            " name the CRS that its coordinates are in with --samples-crs, or give the images another one"
        ) from error


def _plain(geometry: Any) -> np.ndarray:
    """Geometries (N,), collections of nothing but points, or but polygons, as the one shape that they are."""
    out = np.array(geometry, dtype=object)
    for number in np.flatnonzero(shapely.get_type_id(out) == shapely.GeometryType.GEOMETRYCOLLECTION):
        parts = shapely.get_parts(out[number])
        kinds = set(shapely.get_type_id(parts).tolist())
        if kinds == {shapely.GeometryType.POINT}:
            out[number] = shapely.MultiPoint(parts.tolist())
        elif kinds == {shapely.GeometryType.POLYGON}:
            out[number] = shapely.MultiPolygon(parts.tolist())
    return out


def _usable(geometry: np.ndarray) -> np.ndarray:
    """Bool (N,): neither null nor empty nor invalid, in the CRS they came in."""
    return ~shapely.is_missing(geometry) & ~shapely.is_empty(geometry) & shapely.is_valid(geometry)


def _pixels(
    geometry: np.ndarray, usable: np.ndarray, grid: Grid, rule: PolygonRule
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Rejected]]:
    """Pixels (feature, row, col) of all geometries, and what was refused."""
    kinds = shapely.get_type_id(geometry)
    is_point, is_polygon = usable & np.isin(kinds, POINTS), usable & np.isin(kinds, POLYGONS)
    refused = [
        _whole(NO_GEOMETRY, np.flatnonzero(~usable), geometry),
        _whole(UNSUPPORTED, np.flatnonzero(usable & ~is_point & ~is_polygon), geometry),
    ]
    parts = [_point_pixels(geometry, np.flatnonzero(is_point), grid, refused)]
    parts += [_polygon_pixels(geometry, np.flatnonzero(is_polygon), grid, rule, refused)]
    feature, row, col = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(feature, kind="stable")
    return feature[order], row[order], col[order], refused


def _point_pixels(
    geometry: np.ndarray, features: np.ndarray, grid: Grid, refused: list[Rejected]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places, owner = shapely.get_coordinates(geometry[features], return_index=True)
    feature = features[owner]
    x, y = places[:, 0], places[:, 1]
    row, col = pixels_of(grid, x, y)
    within = inside(grid, row, col)
    lost = np.setdiff1d(features, feature[within])
    refused.append(_whole(OUTSIDE, lost, geometry))
    # A multipoint that reaches out of the grid is used; its places outside are accounted for one by one.
    out = ~within & ~np.isin(feature, lost)
    none = np.full(int(out.sum()), -1, np.int64)
    refused.append(Rejected(PIXEL, OUTSIDE, feature[out], x[out], y[out], none, none))
    return feature[within], row[within], col[within]


def _polygon_pixels(
    geometry: np.ndarray, features: np.ndarray, grid: Grid, rule: PolygonRule, refused: list[Rejected]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nothing = np.zeros(0, np.int64)
    numbers, rows, cols = [nothing], [nothing], [nothing]
    outside, small = [], []
    extent = shapely.Polygon([grid.xy(r, c) for r, c in _corners(grid)])
    shapely.prepare(extent)
    for number in features.tolist():
        # Where the grid's CRS does not reach, reprojected coordinates are infinite.
        finite = np.isfinite(shapely.bounds(geometry[number])).all()
        if not finite or not extent.intersects(geometry[number]):
            outside.append(number)
            continue
        row, col = polygon_pixels(geometry[number], grid, rule)
        if not len(row):
            small.append(number)
        numbers.append(np.full(len(row), number, np.int64))
        rows.append(row)
        cols.append(col)
    refused.append(_whole(OUTSIDE, np.array(outside, np.int64), geometry))
    refused.append(_whole(NO_PIXEL, np.array(small, np.int64), geometry))
    return np.concatenate(numbers), np.concatenate(rows), np.concatenate(cols)


def _corners(grid: Grid) -> list[tuple[int, int]]:
    return [(0, 0), (0, grid.width), (grid.height, grid.width), (grid.height, 0)]


def _whole(reason: str, features: np.ndarray, geometry: np.ndarray) -> Rejected:
    """Whole features refused."""
    return Rejected.features(reason, features, *_representatives(geometry[features]))


def _representatives(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A place of each geometry for people: the middle of its box; NaN where there is none."""
    left, bottom, right, top = shapely.bounds(geometry).reshape(-1, 4).T
    return (left + right) / 2, (bottom + top) / 2


def _intervals(
    frame: gpd.GeoDataFrame, names: tuple[str, str] | None, path: str
) -> tuple[Interval | None, ...]:
    if names is None:
        return ()
    out: list[Interval | None] = []
    for number, values in enumerate(zip(frame[names[0]].tolist(), frame[names[1]].tolist(), strict=True)):
        texts = [date_text(value) for value in values]
        if not all(texts):
            out.append(None)
            continue
        try:
            out.append(check_interval(*texts))
        except ValueError as error:
            raise DltsError(f"feature {number} of {path} has no proper interval: {error}") from error
    return tuple(out)
