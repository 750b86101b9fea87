"""What a user may ask of step 1."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlts_beam.spec.series import Reading

EXTENTS = ("union", "intersection", "first", "like")
SAME_DAY = ("merge", "separate")
RESAMPLING = ("nearest", "bilinear", "cubic")


@dataclass(frozen=True)
class SeriesSettings:
    """How images become a series.

    Attributes:
        root: folder of the images; names are told relative to it.
        bands: band numbers to take, None for all.
        band_names: names of the bands taken, None for those of the files.
        pattern: form of the file names, with ``{date}`` and ``{band}``; None to find out.
        dates: (file name or empty, ISO time) rows of a table; None to read names and metadata.
        undated: number the time steps in natural order of the names.
        stacked: every file is one band, every layer one time step.
        same_day: what overlapping images of one day without times, or of one time, become: merge, separate,
            None to refuse.
        extent: union, intersection, first, or like (the grid of the reference file).
        align: resample images that are off the lattice.
        resampling: for images that are resampled.
        crs: WKT for images that have none.
        nodata: the nodata value of all bands in place of the files' own.
        scale, offset: likewise.
        mask_band: number or name of the mask band; it belongs to ``reading.mask``.
        reading: valid range, and the mask rule (its band number is set once the bands are known).
    """

    root: str
    bands: tuple[int, ...] | None = None
    band_names: tuple[str, ...] | None = None
    pattern: str | None = None
    dates: tuple[tuple[str, str], ...] | None = None
    undated: bool = False
    stacked: bool = False
    same_day: str | None = None
    extent: str = "union"
    align: bool = False
    resampling: str = "nearest"
    crs: str | None = None
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    mask_band: str | None = None
    reading: Reading = field(default_factory=Reading)
