"""Small images for tests, and the check of step 1 without its pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from dlts_beam import storage
from dlts_beam.acquisitions.settings import SeriesSettings
from dlts_beam.io.raster.headers import image_files, read_header
from dlts_beam.io.raster.plan import plan_series
from dlts_beam.spec.series import SeriesSpec

CRS = "EPSG:32720"


def write_image(
    path: Path,
    values: Any,
    row: float = 0,
    col: float = 0,
    pixel: float = 10.0,
    crs: str | None = CRS,
    descriptions: Sequence[str] = (),
    tags: dict[str, str] | None = None,
    mask: Any = None,
    mask_inside: bool = True,
    **profile: Any,
) -> Path:
    """Write ``values`` (row, col) or (band, row, col); (row, col) its place on a lattice of 10 m pixels.

    ``mask`` (row, col) becomes the file's own, not 0 where it has a pixel: in the file, or in one beside it.
    """
    values = np.asarray(values)
    values = values[np.newaxis] if values.ndim == 2 else values
    transform = rasterio.Affine(pixel, 0, 500000 + 10 * col, 0, -pixel, 9000000 - 10 * row)
    count, height, width = values.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": values.dtype, **profile}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=mask_inside),
        rasterio.open(
            path, "w", height=height, width=width, count=count, crs=crs, transform=transform, **profile
        ) as dataset,
    ):
        dataset.write(values)
        if mask is not None:
            dataset.write_mask(np.asarray(mask, np.uint8) * 255)
        for number, description in enumerate(descriptions, start=1):
            dataset.set_band_description(number, description)
        dataset.update_tags(**(tags or {}))
    return path


def plan(folder: Path, like: Path | None = None, **settings: Any) -> SeriesSpec:
    """The spec that step 1 makes of a folder."""
    entries = image_files(storage.list_files(folder, recursive=True))
    reference = None
    if like is not None:
        reference = read_header(storage.FileEntry(str(like), *storage.stat(like)))
    records = [read_header(entry) for entry in entries]
    return plan_series(records, SeriesSettings(root=str(folder), **settings), reference)


def times(spec: SeriesSpec) -> list[str | None]:
    """The times of the steps."""
    return [step.time for step in spec.steps]


def files_of(spec: SeriesSpec, step: int, band: int = 0) -> list[str]:
    """File names of the sources of one layer, in order."""
    return [storage.name(spec.files[source.file].path) for source in spec.sources[step][band]]
