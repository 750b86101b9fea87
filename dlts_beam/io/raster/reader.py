"""Windows of a series, read from the source images themselves (never through the VRTs)."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.grid import Window
from dlts_beam.io.raster.handles import HandlePool, gdal_env
from dlts_beam.spec.series import Band, SeriesSpec, Source, SourceFile
from dlts_beam.tensors.preparation import band_positions
from dlts_beam.tensors.reading import apply_reading, dilate, stored_valid


class UnreadableSourceError(DltsError):
    """Pixels of a source could not be read; the message names file, band, time step and window."""


class SeriesReader:
    """Reads windows of a series: every file that touches a window is read once, all bands in one call.

    A reader may be pickled (it then travels without its handles) and belongs to one thread at a time.
    """

    def __init__(
        self, spec: SeriesSpec, bands: Sequence[str] | None = None, handle_limit: int | None = None
    ) -> None:
        """Open nothing yet.

        Args:
            spec: the series.
            bands: names of the bands to read, in the order wanted; None reads all.
            handle_limit: files kept open at once; None takes a share of what the process may open.

        Raises:
            DltsError: the series has no such band.
        """
        self.spec = spec
        names = [band.name for band in spec.bands]
        self._positions = band_positions(names, names if bands is None else bands)
        self._handle_limit = handle_limit
        self._remote = any(storage.is_remote(file.path) for file in spec.files)
        self._pool = HandlePool(spec.grid, handle_limit)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pool": HandlePool(self.spec.grid, self._handle_limit)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that are read, in order."""
        return tuple(self.spec.bands[position] for position in self._positions)

    @property
    def dtype(self) -> np.dtype:
        """Common data type of the stored values of these bands."""
        return np.result_type(*(np.dtype(band.dtype) for band in self.bands))

    def close(self) -> None:
        """Close all files; the reader opens them again when it is used again."""
        self._pool.close()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return values float32 (T, H, W, B) after scale and offset, and valid bool of the same shape.

        Args:
            window: inside the grid.

        Raises:
            UnreadableSourceError: a file that touches the window cannot be read.
        """
        stored, covered = self._read_layers(window)
        return apply_reading(stored, covered, self.bands, self.spec.reading)

    def read_stored(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return stored values (T, H, W, B) in ``dtype``, 0 where not valid, and valid bool.

        ``valid`` is the same as that of ``read``.
        """
        stored, covered = self._read_layers(window)
        _, valid = apply_reading(stored, covered, self.bands, self.spec.reading)
        if not valid.all():
            stored[~valid] = 0
        return stored, valid

    def _read_layers(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        if window.intersect(self.spec.grid.window) != window:
            raise ValueError(f"{window} reaches outside the grid {self.spec.grid.window}")
        shape = (len(self.spec.steps), window.height, window.width, len(self._positions))
        stored, covered = np.zeros(shape, self.dtype), np.zeros(shape, bool)
        with gdal_env(self._remote):
            for step in range(shape[0]):
                self._read_step(step, window, stored[step], covered[step])
        return stored, covered

    def _read_step(self, step: int, window: Window, stored: np.ndarray, covered: np.ndarray) -> None:
        """Read one time step in place: (H, W, B). Files are taken in the order of the sources."""
        for file_number, wanted in self._files_of(step).items():
            file = self.spec.files[file_number]
            part = file.window.intersect(window)
            if part is None:
                continue
            rows, cols = part.within(window).slices
            outs = [out for out, _ in wanted]
            if covered[rows, cols][..., outs].all():
                continue
            dropped = self._dropped(step, file_number, part)
            for chosen in _by_nodata(wanted, self.bands, file):
                columns = [out for out, _ in chosen]
                nodata = self.bands[columns[0]].nodata
                data, inside = self._read_file(file, [i for _, i in chosen], nodata, part, step)
                for layer, out in enumerate(columns):
                    usable = stored_valid(data[layer], self.bands[out].nodata) & inside
                    if dropped is not None:
                        usable &= ~dropped
                    usable &= ~covered[rows, cols, out]
                    np.copyto(stored[rows, cols, out], data[layer], where=usable, casting="same_kind")
                    covered[rows, cols, out] |= usable

    def _files_of(self, step: int) -> dict[int, list[tuple[int, int]]]:
        """Files of a time step in source order: file number -> [(band position out, band index in it)]."""
        files: dict[int, list[tuple[int, int]]] = {}
        layers = [self.spec.sources[step][position] for position in self._positions]
        for depth in range(max((len(layer) for layer in layers), default=0)):
            for out, layer in enumerate(layers):
                if depth < len(layer):
                    files.setdefault(layer[depth].file, []).append((out, layer[depth].index))
        return files

    def _dropped(self, step: int, file_number: int, part: Window) -> np.ndarray | None:
        """Bool (h, w): True where the mask band drops pixels of this file; None without a mask.

        A mask belongs to the file that holds it, or to the file of the same extent; where it can be
        matched to neither, all masks of the time step count: a pixel is dropped if any of them says so.
        """
        rule = self.spec.reading.mask
        if rule is None:
            return None
        file, layer = self.spec.files[file_number], self.spec.mask_sources[step]
        own = [source for source in layer if source.file == file_number]
        same = [source for source in layer if self.spec.files[source.file].window == file.window]
        dropped = np.zeros((part.height, part.width), bool)
        for source in own or same or layer:
            dropped |= self._dropped_by(source, part, step)
        return dropped

    def _dropped_by(self, source: Source, part: Window, step: int) -> np.ndarray:
        rule = self.spec.reading.mask
        assert rule is not None
        file = self.spec.files[source.file]
        dropped = np.zeros((part.height, part.width), bool)
        wide = part.grow(rule.dilate).intersect(file.window)
        wide = wide.intersect(self.spec.grid.window) if wide is not None else None
        if wide is None:
            return dropped
        data, inside = self._read_file(file, [source.index], None, wide, step)
        mask = np.zeros((part.height + 2 * rule.dilate, part.width + 2 * rule.dilate), bool)
        rows, cols = wide.within(part.grow(rule.dilate)).slices
        mask[rows, cols] = np.isin(data[0], np.array(rule.drop)) & inside
        grown = dilate(mask, rule.dilate)
        return grown[rule.dilate : rule.dilate + part.height, rule.dilate : rule.dilate + part.width]

    def _read_file(
        self, file: SourceFile, indexes: list[int], nodata: float | None, part: Window, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stored values (len(indexes), h, w) of a part of the grid, and bool (h, w): inside the file."""
        inside = np.ones((part.height, part.width), bool)
        try:
            dataset = self._pool.get(file, nodata)
            if file.warp is None:
                box = part.within(file.window)
                return dataset.read(indexes, window=_raster_window(box)), inside
            box = _raster_window(part)
            if nodata is None:
                # Without a nodata value the warped view marks what it covers in an alpha band.
                inside = dataset.read(dataset.count, window=box) > 0
            return dataset.read(indexes, window=box), inside
        except (RasterioError, IndexError) as error:
            names = ", ".join(str(index) for index in indexes)
            detail = str(error.__cause__ or error)
            raise UnreadableSourceError(
                f"cannot read image {file.path}, band {names}, time step {step}"
                f" ({self.spec.steps[step].label}), window row {part.row} col {part.col}"
                f" {part.height} x {part.width}: {detail}; replace the file and run generate-img-series again"
            ) from error


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.col, window.row, window.width, window.height)


def _by_nodata(
    wanted: list[tuple[int, int]], bands: Sequence[Band], file: SourceFile
) -> list[list[tuple[int, int]]]:
    """Group the bands to read in one call: all of them, by nodata value where the file is warped."""
    if file.warp is None:
        return [wanted]
    groups: dict[float | None, list[tuple[int, int]]] = {}
    for out, index in wanted:
        groups.setdefault(bands[out].nodata, []).append((out, index))
    return list(groups.values())
