"""The area of interest: which pixels of the grid are to be classified."""

from __future__ import annotations

import hashlib
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid, Window
from dlts_beam.io.raster.handles import EXACT

BOX = 64  # pixels on a side that are asked about as one before each is asked about alone


class Area:
    """Pixels whose centre lies in a polygon of a file and whose value in a mask raster is a number but 0.

    The answer for a pixel depends on its own centre only, so it is the same however the grid is cut. An
    area may be pickled; it belongs to one thread at a time.
    """

    def __init__(self, grid: Grid, polygons: bytes | None = None, mask: str | None = None) -> None:
        """Open nothing yet.

        Args:
            polygons: WKB in the CRS of the grid.
            mask: a raster of any grid; nearest pixel of its first band. 0, NaN, nodata, what an alpha band
                makes transparent, and its outside are not wanted.
        """
        self._grid = grid
        self._polygons = polygons
        self._mask = mask
        self._shape: shapely.Geometry | None = None
        self._dataset: Any = None
        self._alpha = 0

    @classmethod
    def load(cls, grid: Grid, roi: str | None, mask: str | None) -> Area | None:
        """The area that the user's files describe; None where they give none.

        Raises:
            DltsError: a file cannot be read, holds no polygons or has no CRS.
        """
        if roi is None and mask is None:
            return None
        area = cls(grid, None if roi is None else _read_polygons(roi, grid), mask)
        if mask is not None:
            area._open_mask()
            area.close()
        return area

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shape": None, "_dataset": None}

    def inside(self, window: Window) -> np.ndarray:
        """Bool (h, w): the wanted pixels of a window inside the grid.

        Raises:
            DltsError: the mask raster cannot be read.
        """
        out = np.ones((window.height, window.width), bool)
        if self._polygons is not None:
            out &= self._in_polygons(window)
        if self._mask is not None and out.any():
            out &= self._in_mask(window)
        return out

    def close(self) -> None:
        """Close the mask raster."""
        if self._dataset is not None:
            self._dataset.close()
            self._dataset.src_dataset.close()
            self._dataset = None

    def _in_polygons(self, window: Window) -> np.ndarray:
        if self._shape is None:
            assert self._polygons is not None
            self._shape = shapely.from_wkb(self._polygons)
            shapely.prepare(self._shape)
        out = np.zeros((window.height, window.width), bool)
        for row in range(0, window.height, BOX):
            for col in range(0, window.width, BOX):
                part = out[row : row + BOX, col : col + BOX]
                first_row, first_col = window.row + row, window.col + col
                corners = [
                    self._grid.xy(first_row + r, first_col + c)
                    for r, c in ((0, 0), (0, part.shape[1]), part.shape, (part.shape[0], 0))
                ]
                box = shapely.Polygon(corners)
                if shapely.disjoint(self._shape, box):
                    continue
                if shapely.contains_properly(self._shape, box):
                    part[:] = True
                    continue
                rows, cols = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
                a, b, c, d, e, f = self._grid.transform
                y_at, x_at = rows + first_row + 0.5, cols + first_col + 0.5
                x, y = a * x_at + b * y_at + c, d * x_at + e * y_at + f
                part[:] = shapely.contains_xy(self._shape, x, y)
        return out

    def _in_mask(self, window: Window) -> np.ndarray:
        self._open_mask()
        try:
            box = RasterWindow(window.col, window.row, window.width, window.height)
            values, alpha = self._dataset.read([1, self._alpha], window=box)
        except RasterioError as error:
            raise DltsError(f"cannot read the mask {self._mask}: {error.__cause__ or error}") from error
        return (values != 0) & ~np.isnan(values) & (alpha > 0)

    def _open_mask(self) -> None:
        if self._dataset is not None:
            return
        assert self._mask is not None
        try:
            source = rasterio.open(storage.gdal_path(self._mask))
        except RasterioError as error:
            raise DltsError(f"cannot open the mask {self._mask}: {error}") from error
        if source.crs is None:
            source.close()
            raise DltsError(f"the mask {self._mask} has no CRS: give it one, for example with gdal_edit.py")
        has_alpha = ColorInterp.alpha in source.colorinterp
        try:
            # An environment keeps GDAL from printing what it also raises.
            with rasterio.Env():
                self._dataset = WarpedVRT(
                    source,
                    crs=CRS.from_user_input(self._grid.crs),
                    transform=Affine(*self._grid.transform),
                    height=self._grid.height,
                    width=self._grid.width,
                    resampling=Resampling.nearest,
                    tolerance=EXACT,
                    add_alpha=not has_alpha,
                )
        except (CRSError, CPLE_BaseError) as error:
            source.close()
            raise DltsError(
                f"cannot bring the mask {self._mask} onto the grid of the series: no transformation is known"
                " between their coordinate systems; give --mask a file in that of the series"
            ) from error
        except RasterioError as error:
            source.close()
            raise DltsError(f"cannot bring the mask {self._mask} onto the series' grid: {error}") from error
        bands = self._dataset.colorinterp
        self._alpha = bands.index(ColorInterp.alpha) + 1 if has_alpha else self._dataset.count


def area_digest(inside: np.ndarray) -> str | None:
    """SHA-256 (hex) of a tile's wanted pixels; None where all are, so that such tiles need no area."""
    return None if inside.all() else hashlib.sha256(np.packbits(inside).tobytes()).hexdigest()


def _read_polygons(path: str, grid: Grid) -> bytes:
    if not storage.exists(path):
        raise DltsError(f"there is no file {path}: check the path given with --roi")
    try:
        frame = gpd.read_file(storage.gdal_path(path))
    except (DataSourceError, DataLayerError) as error:
        raise DltsError(f"cannot read {path} as a vector file: {error}") from error
    if frame.crs is None:
        raise DltsError(f"{path} has no CRS: give it one, so that its place on the map is known")
    shapes = frame.geometry.dropna()
    shapes = shapes[shapes.geom_type.isin(("Polygon", "MultiPolygon"))]
    if not len(shapes):
        raise DltsError(f"{path} holds no polygons: --roi needs the outline of an area")
    try:
        shapes = shapes.to_crs(CRS.from_user_input(grid.crs).to_wkt())
    except CRSError as error:
        raise DltsError(f"cannot bring {path} onto the grid of the series: {error}") from error
    return shapely.to_wkb(shapely.union_all(shapely.make_valid(np.asarray(shapes.values))))
