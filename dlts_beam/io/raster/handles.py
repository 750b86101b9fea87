"""Open source files of a series: a capped pool of handles, warped onto the grid where asked for."""

from __future__ import annotations

import contextlib
import resource
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioIOError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Grid
from dlts_beam.spec.series import SourceFile, Warp

GDAL_CACHE_BYTES = 128 * 2**20  # rasterio takes a number here as bytes, whatever GDAL does with small ones
RESERVED_HANDLES = 96  # files that Python, Beam and the engines keep open themselves
MAX_HANDLES = 512


def default_handle_limit() -> int:
    """How many source files one reader keeps open: a quarter of what the process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
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
            DltsError: the file is gone, cannot be opened, or is not the one that step 1 saw.
        """
        key = (file.path, file.warp, nodata if file.warp is not None else None)
        dataset = self._open.get(key)
        if dataset is not None:
            self._open.move_to_end(key)
            return dataset
        if self._limit is None:
            self._limit = default_handle_limit()
        while len(self._open) >= self._limit:
            self._close(self._open.popitem(last=False)[1])
        dataset = self._open[key] = self._open_file(file, nodata)
        return dataset

    def close(self) -> None:
        """Close every handle."""
        while self._open:
            self._close(self._open.popitem()[1])

    def _open_file(self, file: SourceFile, nodata: float | None) -> Any:
        check_unchanged(file)
        try:
            dataset = rasterio.open(storage.gdal_path(file.path))
        except RasterioIOError as error:
            raise DltsError(f"cannot open image {file.path}: {error}") from error
        if file.warp is None:
            return dataset
        return open_warped(dataset, self._grid, file, nodata)

    @staticmethod
    def _close(dataset: Any) -> None:
        dataset.close()
        if isinstance(dataset, WarpedVRT):
            dataset.src_dataset.close()


def open_warped(dataset: Any, grid: Grid, file: SourceFile, nodata: float | None) -> WarpedVRT:
    """Return a view of an open image on the grid, resampled as ``file.warp`` says when it is read.

    Without a nodata value its last band is an alpha band that marks what the image covers.
    """
    assert file.warp is not None
    return WarpedVRT(
        dataset,
        crs=CRS.from_user_input(grid.crs),
        transform=Affine(*grid.transform),
        height=grid.height,
        width=grid.width,
        resampling=Resampling[file.warp.resampling],
        # An approximated transformer would make pixels depend on how the raster is cut.
        tolerance=0.0,
        src_nodata=nodata,
        nodata=nodata,
        add_alpha=nodata is None,
    )


def check_unchanged(file: SourceFile) -> None:
    """Compare a file with its fingerprint in the series.

    Raises:
        DltsError: it is gone, or its size (or, where no content hash is kept, its time) differs.
    """
    found = storage.stat(file.path)
    same = found.size == file.size and (file.sha256 is not None or found.stamp == file.stamp)
    if not same:
        raise DltsError(f"image {file.path} changed after the series was made: run generate-img-series again")
