"""What step 1 knows of an image file: its header, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from dlts_beam.dates import parse_time
from dlts_beam.grid import Grid

_LAST_RESORT = "tifftag_datetime"
# Metadata items that tell when an image was acquired, best first: (date, time of day or None). Names are
# compared without case and without what stands before the last '#', ':' or '.'.
_TIME_TAGS: tuple[tuple[str, str | None], ...] = (
    ("acquisitiondatetime", None),
    ("acquisition_datetime", None),
    ("acquired", None),
    ("sensing_time", None),
    ("datatake_sensing_start", None),
    ("datatake_1_datatake_sensing_start", None),
    ("product_start_time", None),
    ("time_coverage_start", None),
    ("datetime", None),
    ("date_acquired", "scene_center_time"),
    ("acquisition_date", "acquisition_time"),
    ("rangebeginningdate", "rangebeginningtime"),
    # The day the file was written, in many files; so the last resort.
    (_LAST_RESORT, None),
)


@dataclass(frozen=True)
class BandHeader:
    """One raster band of a file, as its header tells it."""

    dtype: str
    nodata: float | None
    scale: float
    offset: float
    description: str | None


@dataclass(frozen=True)
class Header:
    """One image file that was opened and whose data are all there.

    Attributes:
        path: absolute local path or gs:// URI.
        crs: WKT, or None where the file has none.
        transform: of pixel (row, col), rasterio's order (see `Grid`).
        height, width: pixels.
        bands: one entry per raster band.
        block: (height, width) of the storage blocks.
        acquired: ISO acquisition time from the metadata, where they tell one.
        sensed: the same, save where only the time that a TIFF keeps of itself tells it.
        size, stamp: the file's fingerprint.
        sha256: content hash where it was asked for.
        alpha: number of its alpha band, or 0 for a mask of the whole file; None where it has neither.
    """

    path: str
    crs: str | None
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int
    bands: tuple[BandHeader, ...]
    block: tuple[int, int]
    acquired: str | None
    size: int
    stamp: str
    sha256: str | None = None
    sensed: str | None = None
    alpha: int | None = None

    def with_crs(self, crs: str) -> Self:
        """The same header with another spelling of its CRS, or with the one it lacks."""
        return replace(self, crs=crs)

    @property
    def grid(self) -> Grid:
        """The image's own grid; it must have a CRS."""
        assert self.crs is not None
        return Grid(self.crs, self.transform, self.height, self.width)


@dataclass(frozen=True)
class Unusable:
    """A file that gave no header.

    ``is_image`` tells an image that is broken (an error) from a file that is no image (left out).
    """

    path: str
    reason: str
    is_image: bool


def acquisition_time(tags: dict[str, str], last_resort: bool = True) -> str | None:
    """Return the ISO acquisition time that metadata items tell, or None.

    Args:
        tags: name -> text.
        last_resort: take the time of the TIFF itself, often that of writing, where nothing else tells one.
    """
    plain = {
        name.casefold().rpartition("#")[2].replace("system:", "system_"): text for name, text in tags.items()
    }
    for name, time_name in _TIME_TAGS:
        text = plain.get(name)
        if text is None or (name == _LAST_RESORT and not last_resort):
            continue
        if time_name is not None and time_name in plain:
            whole = parse_time(f"{text.strip()}T{plain[time_name].strip()}")
            if whole is not None:
                return whole
        time = parse_time(text)
        if time is not None:
            return time
    return None
