"""Tiny images at any place of a small grid, and the series over them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

from dlts_beam import storage
from dlts_beam.grid import Grid, Window
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.spec import Band, Reading, SeriesSpec, Source, SourceFile, TimeStep, Warp

PIXEL = 10.0
WEST, NORTH = 500_000.0, 8_000_000.0


@dataclass
class Scene:
    """Images on a grid of ``height`` x ``width`` pixels; files are numbered as they are added."""

    folder: Path
    height: int = 6
    width: int = 7
    files: list[SourceFile] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        transform = (PIXEL, 0.0, WEST, 0.0, -PIXEL, NORTH)
        return Grid("EPSG:32721", transform, self.height, self.width)

    def add(
        self,
        values: Any,
        row: float = 0,
        col: float = 0,
        *,
        nodata: float | None = None,
        warp: str | None = None,
        crs: str = "EPSG:32721",
        pixel: float = PIXEL,
        **profile: Any,
    ) -> int:
        """Write (h, w) or (h, w, bands) with its corner at (row, col); give the file's number.

        A warped image may lie anywhere (fractions of a pixel); its box is then the whole grid.
        """
        values = np.asarray(values)
        values = values[..., None] if values.ndim == 2 else values
        height, width, count = values.shape
        path = self.folder / f"image{len(self.files)}.tif"
        transform = Affine(pixel, 0, WEST + col * PIXEL, 0, -pixel, NORTH - row * PIXEL)
        profile = {"driver": "GTiff", **profile}
        with rasterio.open(
            path, "w", height=height, width=width, count=count, dtype=values.dtype,
            crs=crs, transform=transform, nodata=nodata, **profile,
        ) as image:  # fmt: skip
            image.write(np.moveaxis(values, -1, 0))
        self.register(path, row, col, height, width, warp)
        return len(self.files) - 1

    def register(
        self, path: Path, row: float, col: float, height: int, width: int, warp: str | None = None
    ) -> None:
        """Note a file that is there."""
        found = storage.stat(path)
        box = (0, 0, self.height, self.width) if warp else (int(row), int(col), height, width)
        self.files.append(
            SourceFile(str(path), *box, found.size, found.stamp, warp=Warp(warp) if warp else None)
        )

    def series(
        self,
        steps: Sequence[Sequence[Sequence[tuple[int, int]]]],
        bands: Sequence[Band] = (),
        *,
        masks: Sequence[Sequence[tuple[int, int]]] = (),
        reading: Reading | None = None,
        mask_dtype: str = "uint8",
    ) -> SeriesSpec:
        """The spec; ``steps[time][band]`` and ``masks[time]`` list (file, index)."""
        if not bands:
            with rasterio.open(self.files[0].path) as image:
                dtype, nodata = image.dtypes[0], image.nodata
            bands = [Band(k + 1, f"b{k + 1}", dtype, nodata) for k in range(len(steps[0]))]
        return SeriesSpec(
            grid=self.grid,
            steps=tuple(TimeStep(k, f"2020-01-{k + 1:02d}") for k in range(len(steps))),
            bands=tuple(bands),
            files=tuple(self.files),
            sources=tuple(
                tuple(tuple(Source(*one) for one in layer) for layer in layers) for layers in steps
            ),
            mask_sources=tuple(tuple(Source(*one) for one in layer) for layer in masks),
            mask_dtype=mask_dtype,
            reading=reading or Reading(),
        )


def numbers(height: int, width: int, bands: int = 1, start: int = 1, dtype: str = "uint16") -> np.ndarray:
    """(H, W, B) of different values."""
    return np.arange(start, start + height * width * bands).reshape(height, width, bands).astype(dtype)


def read_all(spec: SeriesSpec, bands: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    with SeriesReader(spec, bands) as reader:
        return reader.read(spec.grid.window)


def check_every_window(spec: SeriesSpec, bands: Sequence[str] | None = None) -> None:
    """Reading a window at any place gives the crop of reading all, values and stored values alike."""
    with SeriesReader(spec, bands) as reader:
        values, valid = reader.read(spec.grid.window)
        stored, stored_valid = reader.read_stored(spec.grid.window)
        assert (stored_valid == valid).all()
        assert (stored[~valid] == 0).all()
        assert (values[~valid] == 0).all()
        for row, col in itertools.product(range(spec.grid.height), range(spec.grid.width)):
            window = Window(row, col, 1 + col % 3, 1 + row % 3).intersect(spec.grid.window)
            assert window is not None
            at = (slice(None), *window.slices)
            got, got_valid = reader.read(window)
            np.testing.assert_array_equal(got, values[at])
            np.testing.assert_array_equal(got_valid, valid[at])
            if (row + col) % 3 == 0:
                got, got_valid = reader.read_stored(window)
                assert got.dtype == stored.dtype
                np.testing.assert_array_equal(got, stored[at])
                np.testing.assert_array_equal(got_valid, valid[at])
