"""The polygons of a region of interest, and which pixels of a grid have their centre in one."""

from __future__ import annotations

import math
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio.crs
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import CRSError

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Window, split_window
from dlts_beam.sampling import centres

BOX = 64  # pixels on a side that are asked about as one before each is asked about alone
# A box of pixel centres is known by nine of them. What the projection bends in between is twice the largest
# distance of one from the middle of its neighbours, as far as curves are parabolas; four times it is safe.
BEND = 4.0
ROUNDING = 1e-6  # of the box, far above that of coordinates and far below a pixel
POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


class Outline:
    """Polygons in a CRS of their own, in which their edges are straight.

    A pixel lies inside where its centre, brought into the CRS of the polygons, does; so the answer is
    exact for polygons of any extent, the whole world too, and the same however the grid is cut. A centre
    without a place in that CRS lies outside. May be pickled; belongs to one thread at a time.
    """

    def __init__(self, grid: Grid, polygons: bytes, crs: str | None = None) -> None:
        """Open nothing yet.

        Args:
            polygons: WKB.
            crs: that of the polygons, as WKT; None for the grid's.
        """
        self._grid = grid
        self._polygons = polygons
        self._crs = crs
        self._shape: shapely.Geometry | None = None
        self._transformer: Transformer | None = None

    @classmethod
    def load(cls, path: str, grid: Grid, layer: str | None = None) -> Outline:
        """The polygons of a vector file, also those in collections; geometries of other kinds are ignored.

        Raises:
            DltsError: the file cannot be read, has several layers and none was chosen, holds no polygons
                or has no CRS that leads to the grid's.
        """
        frame = _read(path, layer)
        if frame.crs is None:
            raise DltsError(f"{path} has no CRS: give it one, so that its place on the map is known")
        shapes = _polygons(np.asarray(frame.geometry.values, dtype=object))
        if not len(shapes):
            raise DltsError(f"{path} holds no polygons: --roi needs the outline of an area")
        shape = shapely.union_all(_polygons(shapely.make_valid(shapes)))
        try:
            target = CRS.from_user_input(_wkt(grid))
            left, _, right, _ = shape.bounds
            content = shapely.to_wkb(_repeated(shape, turns(frame.crs, left, right, grid)))
            if frame.crs.equals(target, ignore_axis_order=True):
                return cls(grid, content)
            outline = cls(grid, content, frame.crs.to_wkt())
            outline._open()
        except (ProjError, CRSError) as error:
            raise DltsError(
                f"cannot bring {path} onto the grid of the series: no transformation is known between their"
                f" coordinate systems ({frame.crs.name} is that of {path}); give --roi a file in that of the"
                " series"
            ) from error
        return outline

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shape": None, "_transformer": None}

    def inside(self, window: Window) -> np.ndarray:
        """Bool (h, w): the pixels of a window whose centre lies in a polygon."""
        self._open()
        (answer,) = self._settle([window])
        out = np.full((window.height, window.width), answer is True)
        if answer is not None:
            return out
        boxes = list(split_window(window, BOX, BOX))
        for box, answer in zip(boxes, self._settle(boxes), strict=True):
            part = out[box.within(window).slices]
            if answer is None:
                rows, cols = np.mgrid[box.row : box.row + box.height, box.col : box.col + box.width]
                part[:] = shapely.contains_xy(self._shape, *self._places(rows, cols))
            else:
                part[:] = answer
        return out

    def _settle(self, windows: list[Window]) -> list[bool | None]:
        """For each window: True where all of it is inside, False where none is, None where both may be."""
        row, col, height, width = np.array(windows, np.float64).T[:, :, None, None]
        steps = np.array([0.0, 0.5, 1.0])
        rows = row + (height - 1) * steps[:, None]
        cols = col + (width - 1) * steps
        places = np.stack(self._places(*np.broadcast_arrays(rows, cols)), axis=-1)  # (N, 3, 3, xy)
        with np.errstate(invalid="ignore"):  # of places that are none, which are infinite
            bend = np.max([_bend(places), _bend(places.swapaxes(1, 2)), _bend(_diagonals(places))], axis=0)
            low, high = places.min(axis=(1, 2)), places.max(axis=(1, 2))
            reach = BEND * bend + ROUNDING * (high - low)
            low, high = low - reach, high + reach
        sure = np.isfinite(low).all(axis=-1) & np.isfinite(high).all(axis=-1)
        answers: list[bool | None] = [None] * len(windows)
        boxes = shapely.box(*low[sure].T, *high[sure].T)
        within, beside = shapely.contains_properly(self._shape, boxes), shapely.disjoint(self._shape, boxes)
        for number, all_in, none_in in zip(np.flatnonzero(sure).tolist(), within, beside, strict=True):
            answers[number] = True if all_in else False if none_in else None
        return answers

    def _places(self, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The centres of pixels in the CRS of the polygons; infinite where they have no place in it."""
        x, y = centres(self._grid, rows, cols)
        return (x, y) if self._transformer is None else self._transformer.transform(x, y)

    def _open(self) -> None:
        if self._shape is None:
            self._shape = shapely.from_wkb(self._polygons)
            shapely.prepare(self._shape)
        if self._transformer is None and self._crs is not None:
            self._transformer = Transformer.from_crs(_wkt(self._grid), self._crs, always_xy=True)


def turns(crs: CRS, left: float, right: float, grid: Grid) -> list[float]:
    """What to add to the longitudes of a file to reach all of a grid: 0, and whole turns where that helps.

    PROJ gives longitudes from -180 to 180 degrees, or leaves those of a grid in degrees, which may go on
    beyond; files also have 0 to 360, or end at 180 degrees sharp, where a centre would lie on an edge.

    Args:
        crs: of the file; there is nothing to add to coordinates that are no longitudes.
        left, right: bounds of what the file holds.
    """
    if not crs.is_geographic:
        return [0.0]
    turn = _turn(crs)
    west, east = -turn / 2, turn / 2
    target = CRS.from_user_input(_wkt(grid))
    if target.is_geographic:
        first, _, last, _ = np.array(grid.bounds()) * (turn / _turn(target))
        west, east = min(west, first), max(east, last)
    return [0.0, *(by for by in (-turn, turn) if left + by <= east and right + by >= west)]


def _turn(crs: CRS) -> float:
    """360 degrees in the unit of a geographic CRS."""
    return round(2 * math.pi / crs.axis_info[0].unit_conversion_factor, 6)


def _bend(places: np.ndarray) -> np.ndarray:
    """(N, xy): how far the middle ones of places (N, 3, any, xy) lie from the middle of the outer ones."""
    bend: np.ndarray = np.abs(places[:, 1] - (places[:, 0] + places[:, 2]) / 2).max(axis=1)
    return bend


def _diagonals(places: np.ndarray) -> np.ndarray:
    """The two diagonals of (N, 3, 3, xy) as (N, 3, 2, xy)."""
    along = np.arange(3)
    return np.stack([places[:, along, along], places[:, along, 2 - along]], axis=2)


def _wkt(grid: Grid) -> str:
    """The grid's CRS, which is any text that GDAL takes, as WKT."""
    return str(rasterio.crs.CRS.from_user_input(grid.crs).to_wkt())


def _read(path: str, layer: str | None) -> gpd.GeoDataFrame:
    if not storage.exists(path):
        raise DltsError(f"there is no file {path}: check the path given with --roi")
    place = storage.gdal_path(path)
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(place) if kind is not None]
        if layer is None and len(layers) > 1:
            raise DltsError(
                f"{path} holds {len(layers)} layers: {', '.join(layers)}; name one with --roi-layer"
            )
        frame = gpd.read_file(place, layer=layer or (layers[0] if layers else None))
    except DataLayerError as error:
        raise DltsError(f"cannot read layer {layer!r} of {path}: {error}") from error
    except DataSourceError as error:
        raise DltsError(f"cannot read {path} as a vector file: {error}") from error
    except shapely.errors.ShapelyError as error:
        raise DltsError(f"{path} holds a geometry that is none: {error}; repair it") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise DltsError(f"{path} holds no geometry: --roi needs the outline of an area, as polygons")
    return frame


def _polygons(shapes: np.ndarray) -> np.ndarray:
    """The polygons and multipolygons among geometries and among the parts of collections, without Z."""
    found = shapes[~shapely.is_missing(shapes)]
    while (collections := shapely.get_type_id(found) == shapely.GeometryType.GEOMETRYCOLLECTION).any():
        found = np.concatenate([found[~collections], shapely.get_parts(found[collections])])
    found = found[np.isin(shapely.get_type_id(found), POLYGONAL) & ~shapely.is_empty(found)]
    flat: np.ndarray = shapely.force_2d(found)
    return flat


def _repeated(shape: shapely.Geometry, moves: list[float]) -> shapely.Geometry:
    """The union of a shape that is moved along x by each of these."""
    if moves == [0.0]:
        return shape
    return shapely.union_all(
        [shapely.transform(shape, lambda places, by=by: places + np.array([by, 0.0])) for by in moves]
    )
