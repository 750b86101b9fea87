"""Open source files of a series: a capped pool of handles, warped onto the grid where asked for."""

from __future__ import annotations

import contextlib
import resource
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from dlts_beam import storage
from dlts_beam.acquisitions.lattice import box_in
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.spec.series import SourceFile, Warp

GDAL_CACHE_BYTES = 128 * 2**20  # rasterio takes a number here as bytes, whatever GDAL does with small ones
RESERVED_HANDLES = 96  # files that Python, Beam and the engines keep open themselves
MAX_HANDLES = 512
# An approximated transformer would make pixels depend on how the raster is cut. Zero tolerance would say
# so, but rasterio 1.4 makes no view with it; GDAL never accepts an approximation this exact.
EXACT = 1e-30


class UnreadableSourceError(DltsError):
    """Pixels of a source could not be read; the reader's message names file, band, time step and window.

    Attributes:
        image: path of the source where the reader raises it; else empty.
    """

    def __init__(self, message: str, image: str = "") -> None:
        super().__init__(message)
        self.image = image


def default_handle_limit() -> int:
    """How many source files one reader keeps open: a quarter of what the process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_HANDLES
    return max(4, min(MAX_HANDLES, (soft - RESERVED_HANDLES) // 4))


@contextlib.contextmanager
def gdal_env(remote: bool) -> Iterator[None]:
    """GDAL settings for reading many files: a capped block cache, no folder listings on gs://."""
    options: dict[str, Any] = {"GDAL_CACHEMAX": GDAL_CACHE_BYTES, "GDAL_NUM_THREADS": "1"}
    if remote:
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    with rasterio.Env(**options):
        yield


class HandlePool:
    """Datasets of source files, opened when first used; the least recently used one is closed first.

    A pool belongs to one thread at a time: GDAL datasets are not thread-safe.
    """

    def __init__(self, grid: Grid, limit: int | None = None) -> None:
        self._grid = grid
        self._limit = limit
        self._open: OrderedDict[tuple[str, Warp | None, float | None], Any] = OrderedDict()

    def get(self, file: SourceFile, nodata: float | None) -> Any:
        """Return the open dataset of a file (for a warped one: a view on the grid with that nodata).

        Raises:
            UnreadableSourceError: the file, or its mask, is gone, or it cannot be opened.
            DltsError: it is not the one that step 1 saw.
        """
        key = self._key(file, nodata)
        dataset = self._open.get(key)
        if dataset is not None:
            self._open.move_to_end(key)
            return dataset
        if self._limit is None:
            self._limit = default_handle_limit()
        while self._open and len(self._open) >= self._limit:
            self._close(self._open.popitem(last=False)[1])
        dataset = self._open[key] = self._open_file(file, nodata)
        return dataset

    def discard(self, file: SourceFile, nodata: float | None) -> None:
        """Close the handle of a file that failed, so that another try opens it anew."""
        dataset = self._open.pop(self._key(file, nodata), None)
        if dataset is not None:
            self._close(dataset)

    def close(self) -> None:
        """Close every handle."""
        while self._open:
            self._close(self._open.popitem()[1])

    def _open_file(self, file: SourceFile, nodata: float | None) -> Any:
        check_unchanged(file)
        try:
            dataset = rasterio.open(storage.gdal_path(file.path))
        except RasterioIOError as error:
            raise UnreadableSourceError(f"cannot open image {file.path}: {error}") from error
        if file.alpha == 0 and MaskFlags.per_dataset not in dataset.mask_flag_enums[0]:
            dataset.close()
            raise UnreadableSourceError(f"the mask that image {file.path} had in step 1 is gone")
        if file.warp is None:
            return dataset
        try:
            return open_warped(dataset, self._grid, file, nodata)
        except (RasterioError, CPLE_BaseError) as error:
            dataset.close()
            raise UnreadableSourceError(f"cannot resample image {file.path}: {error}") from error

    @staticmethod
    def _key(file: SourceFile, nodata: float | None) -> tuple[str, Warp | None, float | None]:
        return file.path, file.warp, nodata if file.warp is not None else None

    @staticmethod
    def _close(dataset: Any) -> None:
        dataset.close()
        if isinstance(dataset, WarpedVRT):
            dataset.src_dataset.close()


def open_warped(dataset: Any, grid: Grid, file: SourceFile, nodata: float | None) -> WarpedVRT:
    """Return a view of an open image on the grid, resampled as ``file.warp`` says when it is read.

    An image that lies on the lattice (``file.warp`` is None) keeps its pixels. Without a nodata value an
    alpha band marks what the image covers: see ``alpha_band``.
    """
    target = CRS.from_user_input(grid.crs)
    # On the lattice the CRS is the grid's, however the file spells it, or whether it has one at all.
    source, resampling, (x_scale, y_scale) = target, Resampling.nearest, (1.0, 1.0)
    if file.warp is not None:
        source, resampling = dataset.crs, Resampling[file.warp.resampling]
        x_scale, y_scale = _warp_scales(dataset, grid)
    return WarpedVRT(
        dataset,
        src_crs=source,
        crs=target,
        transform=Affine(*grid.transform),
        height=grid.height,
        width=grid.width,
        resampling=resampling,
        tolerance=EXACT,
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None and ColorInterp.alpha not in dataset.colorinterp,
        # Each band for itself: else nodata of one band counts as a value where another band has one.
        UNIFIED_SRC_NODATA="NO",
        # Else GDAL sizes its kernel anew for every piece that it warps, and pixels depend on the cut.
        XSCALE=x_scale,
        YSCALE=y_scale,
    )


def alpha_band(view: WarpedVRT) -> int:
    """Number of the band of a view without nodata that is 0 where the image does not reach."""
    return view.colorinterp.index(ColorInterp.alpha) + 1


def read_alpha(dataset: Any, alpha: int, window: Any) -> np.ndarray:
    """Bool (h, w): True where an image has a pixel, by its alpha band, or its mask where ``alpha`` is 0."""
    told = dataset.read(alpha, window=window) if alpha else dataset.read_masks(1, window=window)
    return np.asarray(told > 0)


def _warp_scales(dataset: Any, grid: Grid) -> tuple[float, float]:
    """Pixels of the grid per pixel of an image along columns and rows, over the whole image."""
    left, bottom, right, top = transform_bounds(dataset.crs, CRS.from_user_input(grid.crs), *dataset.bounds)
    box = box_in(grid, [(x, y) for x in (left, right) for y in (bottom, top)])
    return (box.right - box.left) / dataset.width, (box.bottom - box.top) / dataset.height


def check_unchanged(file: SourceFile) -> None:
    """Compare a file with its fingerprint in the series.

    Raises:
        UnreadableSourceError: it is gone.
        DltsError: its size (or, where no content hash is kept, its time) differs.
    """
    try:
        found = storage.stat(file.path)
    except DltsError as error:
        raise UnreadableSourceError(str(error)) from error
    same = found.size == file.size and (file.sha256 is not None or found.stamp == file.stamp)
    if not same:
        raise DltsError(f"image {file.path} changed after the series was made: run generate-img-series again")
