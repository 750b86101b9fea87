"""The area of interest: which pixels of the grid are to be classified."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyproj
import rasterio
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
from dlts_beam.io.outline import Outline, turns
from dlts_beam.io.raster.handles import EXACT


class Area:
    """Pixels whose centre lies in a polygon of a file and whose value in a mask raster is a number but 0.

    The answer for a pixel depends on its own centre only, so it is the same however the grid is cut. An
    area may be pickled; it belongs to one thread at a time.
    """

    def __init__(self, grid: Grid, polygons: Outline | None = None, mask: str | None = None) -> None:
        """Open nothing yet.

        Args:
            polygons: of the same grid.
            mask: a raster of any grid; nearest pixel of its first band. 0, NaN, nodata, what an alpha band
                makes transparent, and its outside are not wanted.
        """
        self._grid = grid
        self._polygons = polygons
        self._mask = mask
        self._views: list[WarpedVRT] = []
        self._alpha = 0

    @classmethod
    def load(cls, grid: Grid, roi: str | None, mask: str | None, layer: str | None = None) -> Area | None:
        """The area that the user's files describe; None where they give none.

        Args:
            roi: a vector file of polygons; their edges are straight in its own CRS.
            mask: a raster.
            layer: of a vector file that holds several.

        Raises:
            DltsError: a file cannot be read, holds no polygons or has no CRS that leads to the grid's.
        """
        if roi is None and mask is None:
            return None
        area = cls(grid, None if roi is None else Outline.load(roi, grid, layer), mask)
        if mask is not None:
            area._open_mask()
            area.close()
        return area

    @property
    def mask(self) -> str | None:
        """Path of the mask raster."""
        return self._mask

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": []}

    def inside(self, window: Window) -> np.ndarray:
        """Bool (h, w): the wanted pixels of a window inside the grid.

        Raises:
            DltsError: the mask raster cannot be read.
        """
        out = np.ones((window.height, window.width), bool)
        if self._polygons is not None:
            out &= self._polygons.inside(window)
        if self._mask is not None and out.any():
            out &= self._in_mask(window)
        return out

    def close(self) -> None:
        """Close the mask raster."""
        for view in self._views:
            view.close()
            view.src_dataset.close()
        self._views = []

    def _in_mask(self, window: Window) -> np.ndarray:
        self._open_mask()
        box = RasterWindow(window.col, window.row, window.width, window.height)
        wanted = np.zeros((window.height, window.width), bool)
        try:
            for view in self._views:
                values, alpha = view.read([1, self._alpha], window=box)
                found = (values != 0) & ~np.isnan(values) & (alpha > 0)
                nodata = view.src_dataset.nodata  # of the first band
                if nodata is not None:  # where a file has both, GDAL fills the alpha band too with nodata
                    found &= values != nodata
                wanted |= found
        except RasterioError as error:
            raise DltsError(f"cannot read the mask {self._mask}: {error.__cause__ or error}") from error
        return wanted

    def _open_mask(self) -> None:
        if self._views:
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
        target = CRS.from_user_input(self._grid.crs)
        left, _, right, _ = source.bounds
        moves = turns(pyproj.CRS.from_wkt(source.crs.to_wkt()), left, right, self._grid)
        try:
            # An environment keeps GDAL from printing what it also raises.
            with rasterio.Env():
                self._views = [self._view(source, target, by, not has_alpha) for by in moves]
        except (CRSError, CPLE_BaseError) as error:
            source.close()
            raise DltsError(
                f"cannot bring the mask {self._mask} onto the grid of the series: no transformation is known"
                " between their coordinate systems; give --mask a file in that of the series"
            ) from error
        except RasterioError as error:
            source.close()
            raise DltsError(f"cannot bring the mask {self._mask} onto the series' grid: {error}") from error
        bands = self._views[0].colorinterp
        self._alpha = bands.index(ColorInterp.alpha) + 1 if has_alpha else self._views[0].count

    def _view(self, source: Any, target: CRS, by: float, add_alpha: bool) -> WarpedVRT:
        """The mask, moved by ``by`` along its x, on the grid."""
        a, b, c, d, e, f = tuple(source.transform)[:6]
        return WarpedVRT(
            source,
            crs=target,
            src_transform=Affine(a, b, c + by, d, e, f) if by else None,
            transform=Affine(*self._grid.transform),
            height=self._grid.height,
            width=self._grid.width,
            resampling=Resampling.nearest,
            tolerance=EXACT,
            add_alpha=add_alpha,
            # Else nodata of the first band counts as a value where another band has one.
            UNIFIED_SRC_NODATA="NO",
        )


def area_digest(inside: np.ndarray) -> str | None:
    """SHA-256 (hex) of a tile's wanted pixels; None where all are, so that such tiles need no area."""
    return None if inside.all() else hashlib.sha256(np.packbits(inside).tobytes()).hexdigest()
