"""``series.json``: the images of a series on one grid, and how their pixels are read."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from dlts_beam.grid import Grid, Window
from dlts_beam.spec.codec import JsonSpec, digest_of

EPOCH = dt.datetime(1970, 1, 1)


@dataclass(frozen=True)
class TimeStep:
    """One time step: its number from 0, and the acquisition time (ISO, no zone) where known."""

    number: int
    time: str | None = None

    def __post_init__(self) -> None:
        if self.time is not None:
            try:
                parsed = dt.datetime.fromisoformat(self.time)
            except ValueError as error:
                raise ValueError(f"time must be an ISO date or time; got {self.time!r}") from error
            if parsed.tzinfo is not None:
                raise ValueError(f"time must have no zone (it is taken as UTC); got {self.time!r}")

    @property
    def day(self) -> float:
        """Days since 1970-01-01, or the number where the time is not known."""
        if self.time is None:
            return float(self.number)
        return (dt.datetime.fromisoformat(self.time) - EPOCH).total_seconds() / 86400.0

    @property
    def label(self) -> str:
        """The date (or time) for people, or 'step 7'."""
        return self.time if self.time is not None else f"step {self.number}"


@dataclass(frozen=True)
class Band:
    """One band: its number in the source images (from 1), name, data type and how to read it.

    ``nodata`` is None where the files set none (NaN is never valid, so a NaN nodata is None too).
    A pixel's value is stored value x ``scale`` + ``offset``.
    """

    number: int
    name: str
    dtype: str
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"band number must be 1 or more; got {self.number}")
        try:
            kind = np.dtype(self.dtype).kind
        except TypeError as error:
            raise ValueError(f"dtype of band {self.name!r} is not known: {self.dtype!r}") from error
        if kind not in "iuf":
            raise ValueError(f"dtype of band {self.name!r} must be integer or floating; got {self.dtype!r}")
        if self.nodata is not None and not math.isfinite(self.nodata):
            raise ValueError(
                f"nodata of band {self.name!r} must be finite or none (NaN and infinity are never valid);"
                f" got {self.nodata}"
            )
        if self.scale == 0 or not math.isfinite(self.scale) or not math.isfinite(self.offset):
            raise ValueError(
                f"scale of band {self.name!r} must not be 0, and scale and offset must be finite;"
                f" got {self.scale} and {self.offset}"
            )


@dataclass(frozen=True)
class MaskRule:
    """A mask band: pixels whose mask value is in ``drop`` are not valid in any band.

    Attributes:
        band: number of the mask band in the source images.
        drop: values that mean cloud, shadow, fill ….
        dilate: also drop pixels up to this many pixels away (square neighbourhood).
    """

    band: int
    drop: tuple[int, ...]
    dilate: int = 0

    def __post_init__(self) -> None:
        if self.dilate < 0:
            raise ValueError(f"dilate must be 0 or more; got {self.dilate}")


@dataclass(frozen=True)
class Reading:
    """Rules from stored values to (values, valid), beside each band's own nodata, scale and offset.

    ``valid_min`` and ``valid_max`` hold for values after scale and offset, ends included.
    """

    valid_min: float | None = None
    valid_max: float | None = None
    mask: MaskRule | None = None

    def __post_init__(self) -> None:
        if self.valid_min is not None and self.valid_max is not None and self.valid_min > self.valid_max:
            raise ValueError(f"valid range must not be empty; got {self.valid_min}..{self.valid_max}")


@dataclass(frozen=True)
class Warp:
    """How a file off the lattice is resampled onto the grid when it is read."""

    resampling: str


@dataclass(frozen=True)
class SourceFile:
    """One image file: where it lies on the grid and the fingerprint of its content.

    Attributes:
        path: absolute local path or gs:// URI.
        row, col, height, width: its pixels on the grid (row and col may be negative where the
            extent was cut); for a warped file the box it may touch.
        size: bytes.
        stamp: modification time (ns) locally, generation on gs://.
        sha256: content hash where ``--hash-content`` asked for it.
        warp: resampling where the file is off the lattice.
        block: (height, width) of its storage blocks.
        alpha: number of its alpha band, 0 for a mask of the whole file (GDAL's), None where it has neither;
            a pixel is not valid in any band where that is 0.
    """

    path: str
    row: int
    col: int
    height: int
    width: int
    size: int
    stamp: str
    sha256: str | None = None
    warp: Warp | None = None
    block: tuple[int, int] = (1, 1)
    alpha: int | None = None

    @property
    def window(self) -> Window:
        """The file's pixels on the grid."""
        return Window(self.row, self.col, self.height, self.width)

    @property
    def fingerprint(self) -> str:
        """What must not change between two runs: content hash, or size and stamp."""
        return self.sha256 if self.sha256 is not None else f"{self.size}:{self.stamp}"

    @property
    def identity(self) -> tuple[str | int | Warp | None, ...]:
        """All that decides the file's pixels on the grid, for digests."""
        told = (self.fingerprint, self.row, self.col, self.height, self.width, self.warp)
        # Files that have neither keep the digests that they had before masks and alpha bands were read.
        return told if self.alpha is None else (*told, self.alpha)


@dataclass(frozen=True)
class Source:
    """One raster band of one file: ``file`` indexes ``SeriesSpec.files``, ``index`` counts from 1."""

    file: int
    index: int


@dataclass(frozen=True)
class SeriesSpec(JsonSpec):
    """All that is needed to read the series: ``series.json``.

    ``sources[time step][band]`` lists the sources of one layer, first valid wins; an empty list
    means never valid there. ``mask_sources[time step]`` does the same for the mask band of
    ``reading.mask`` (empty where there is none).
    """

    KIND: ClassVar[str] = "series manifest"
    VERSION: ClassVar[int] = 1

    grid: Grid
    steps: tuple[TimeStep, ...]
    bands: tuple[Band, ...]
    files: tuple[SourceFile, ...]
    sources: tuple[tuple[tuple[Source, ...], ...], ...]
    mask_sources: tuple[tuple[Source, ...], ...] = ()
    mask_dtype: str = "uint8"
    reading: Reading = field(default_factory=Reading)
    version: int = 1

    def __post_init__(self) -> None:
        if not self.steps or not self.bands:
            raise ValueError(f"need time steps and bands; got {len(self.steps)} and {len(self.bands)}")
        if [step.number for step in self.steps] != list(range(len(self.steps))):
            raise ValueError("time steps must be numbered 0, 1, 2, …")
        if len({step.time is None for step in self.steps}) > 1:
            raise ValueError("either all time steps have a time or none has")
        if (np.diff(self.days) < 0).any():
            raise ValueError("time steps must be in chronological order")
        if len({band.name for band in self.bands}) != len(self.bands):
            raise ValueError(f"band names must differ; got {[band.name for band in self.bands]}")
        if len(self.sources) != len(self.steps) or any(len(row) != len(self.bands) for row in self.sources):
            raise ValueError("sources must have one list per time step and band")
        if (self.reading.mask is not None) != bool(self.mask_sources):
            raise ValueError("mask_sources and reading.mask must be given together")
        if self.mask_sources and len(self.mask_sources) != len(self.steps):
            raise ValueError("mask_sources must have one list per time step")
        for source in self.all_sources():
            if not 0 <= source.file < len(self.files):
                raise ValueError(f"a source names file {source.file} of {len(self.files)}")

    def all_sources(self) -> list[Source]:
        """Every source, mask sources too, in the order of time steps."""
        layers = [layer for step in self.sources for layer in step] + list(self.mask_sources)
        return [source for layer in layers for source in layer]

    def used_files(self, bands: Sequence[str]) -> list[int]:
        """Sorted numbers of the files that the bands of these names are read from, those of the mask too.

        Where every band has files of its own, those of other bands are not among them.
        """
        used = [number for number, band in enumerate(self.bands) if band.name in bands]
        layers = [step[number] for step in self.sources for number in used] + list(self.mask_sources)
        return sorted({source.file for layer in layers for source in layer})

    @property
    def days(self) -> np.ndarray:
        """float64 (T,): days since 1970-01-01, or step numbers where times are not known."""
        return np.array([step.day for step in self.steps], np.float64)

    @property
    def dated(self) -> bool:
        """True where every time step has a time."""
        return all(step.time is not None for step in self.steps)

    def fingerprint(self) -> str:
        """SHA-256 of all that decides the pixel values: paths do not count, contents do."""
        spec = self.canonical()
        return digest_of(
            {
                "grid": spec.grid,
                "steps": spec.steps,
                "bands": spec.bands,
                "files": [file.identity for file in spec.files],
                "sources": spec.sources,
                "mask_sources": spec.mask_sources,
                "reading": spec.reading,
            }
        )
