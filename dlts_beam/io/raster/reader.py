"""Windows of a series, read from the source images themselves (never through the VRTs)."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from dlts_beam import storage
from dlts_beam.grid import Window
from dlts_beam.io.raster.calls import ReadCall, masks_of, plan_calls
from dlts_beam.io.raster.handles import HandlePool, UnreadableSourceError, alpha_band, gdal_env, read_alpha
from dlts_beam.spec.series import MaskRule, SeriesSpec, Source
from dlts_beam.tensors.preparation import band_positions
from dlts_beam.tensors.reading import apply_reading_to, dilate, holds, stored_valid

__all__ = ["SeriesReader", "UnreadableSourceError"]


class SeriesReader:
    """Reads windows of a series: every file that touches a window is read once, all bands in one call.

    A reader may be pickled (it then travels without its handles) and belongs to one thread at a time.

    Attributes:
        bands: the bands that are read, in order.
        dtype: common data type of their stored values.
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
        self.bands = tuple(spec.bands[position] for position in self._positions)
        self.dtype = np.result_type(*(np.dtype(band.dtype) for band in self.bands))
        self._handle_limit = handle_limit
        self._remote = any(storage.is_remote(file.path) for file in spec.files)
        self._pool = HandlePool(spec.grid, handle_limit)
        self._plans: dict[int, list[ReadCall]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pool": HandlePool(self.spec.grid, self._handle_limit), "_plans": {}}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; the reader opens them again when it is used again."""
        self._pool.close()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return values float32 (T, H, W, B) after scale and offset, and valid bool of the same shape.

        Args:
            window: inside the grid.

        Raises:
            UnreadableSourceError: a file that touches the window cannot be read.
            DltsError: such a file changed after the series was made.
        """
        shape = self._shape(window)
        values, valid = np.empty(shape, np.float32), np.zeros(shape, bool)
        # One time step is scaled while it is in the processor's cache.
        stored = np.empty(shape[1:], self.dtype)
        with gdal_env(self._remote):
            for step in range(shape[0]):
                zeroed = self._read_step(step, window, stored, valid[step])
                apply_reading_to(stored, values[step], valid[step], self.bands, self.spec.reading, zeroed)
        return values, valid

    def read_stored(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return stored values (T, H, W, B) in ``dtype``, 0 where not valid, and valid bool.

        ``valid`` is the same as that of ``read``, and so are the errors.
        """
        shape = self._shape(window)
        stored, valid = np.empty(shape, self.dtype), np.zeros(shape, bool)
        values = np.empty(shape[1:], np.float32)
        with gdal_env(self._remote):
            for step in range(shape[0]):
                self._read_step(step, window, stored[step], valid[step])
                apply_reading_to(stored[step], values, valid[step], self.bands, self.spec.reading)
                np.copyto(stored[step], 0, where=~valid[step], casting="unsafe")
        return stored, valid

    def _shape(self, window: Window) -> tuple[int, int, int, int]:
        if window.intersect(self.spec.grid.window) != window:
            raise ValueError(f"{window} reaches outside the grid {self.spec.grid.window}")
        return len(self.spec.steps), window.height, window.width, len(self._positions)

    def _read_step(self, step: int, window: Window, stored: np.ndarray, covered: np.ndarray) -> bool:
        """Read one time step in place, (H, W, B); files are taken in the order of the sources.

        Args:
            stored: may hold anything, and does so afterwards where nothing covers it.
            covered: all False; becomes True where some source has a valid stored value.

        Returns:
            True where ``stored`` is known to be 0 wherever it is not covered.
        """
        begun: set[int] = set()
        zeros = 0
        for call in self._calls(step):
            part = self.spec.files[call.file].window.intersect(window)
            if part is None:
                continue
            rows, cols = part.within(window).slices
            first = begun.isdisjoint(call.outs)
            begun.update(call.outs)
            if not first and all(covered[rows, cols, out].all() for out in call.outs):
                continue
            bands = slice(call.outs[0], call.outs[-1] + 1)
            if first and call.dtype == stored.dtype and bands.stop - bands.start == len(call.outs):
                # Straight into the cube: no other source has given anything there yet.
                place = rows, cols, bands
                zeroed = self._read_call(call, step, part, stored[place], covered[place])
                zeros += len(call.outs) if zeroed and part == window else 0
                continue
            data = np.empty((part.height, part.width, len(call.outs)), call.dtype)
            usable = np.empty(data.shape, bool)
            self._read_call(call, step, part, data, usable)
            for layer, out in enumerate(call.outs):
                new = usable[..., layer] & ~covered[rows, cols, out]
                np.copyto(stored[rows, cols, out], data[..., layer], where=new, casting="same_kind")
                covered[rows, cols, out] |= new
        return zeros == covered.shape[2]

    def _read_call(
        self, call: ReadCall, step: int, part: Window, data: np.ndarray, usable: np.ndarray
    ) -> bool:
        """Fill ``data`` and ``usable``, both (h, w, n); return True where all that is not usable is 0."""
        inside = self._read_file(call, step, part, data)
        nodata = [self.bands[out].nodata for out in call.outs]
        if len(set(nodata)) == 1:
            stored_valid(data, nodata[0], usable)
        else:
            for layer, value in enumerate(nodata):
                stored_valid(data[..., layer], value, usable[..., layer])
        masks = [mask for mask in (inside, self._kept(call, step, part)) if mask is not None]
        for mask in masks:
            usable &= mask[..., None]
        plain = call.dtype.kind != "f" and all(not holds(call.dtype, n) or n == 0 for n in nodata)
        return plain and not masks

    def _calls(self, step: int) -> list[ReadCall]:
        """The read calls of a time step, planned once."""
        calls = self._plans.get(step)
        if calls is None:
            layers = [self.spec.sources[step][position] for position in self._positions]
            calls = self._plans[step] = plan_calls(layers, self.bands, self.spec.files)
        return calls

    def _kept(self, call: ReadCall, step: int, part: Window) -> np.ndarray | None:
        """Bool (h, w): False where the mask band drops pixels of this file; None without a mask."""
        rule = self.spec.reading.mask
        if rule is None:
            return None
        dropped = np.zeros((part.height, part.width), bool)
        for source in masks_of(self.spec, step, call.file):
            dropped |= self._dropped_by(rule, source, part, step)
        return ~dropped

    def _dropped_by(self, rule: MaskRule, source: Source, part: Window, step: int) -> np.ndarray:
        dropped = np.zeros((part.height, part.width), bool)
        halo = part.grow(rule.dilate)
        wide = halo.intersect(self.spec.files[source.file].window)
        # A resampled file is seen through a view that ends at the grid.
        if wide is not None and self.spec.files[source.file].warp is not None:
            wide = wide.intersect(self.spec.grid.window)
        if wide is None:
            return dropped
        dtype = np.dtype(self.spec.mask_dtype)
        data = np.empty((wide.height, wide.width, 1), dtype)
        call = ReadCall(source.file, (0,), (source.index,), dtype, None)
        inside = self._read_file(call, step, wide, data)
        found = np.isin(data[..., 0], np.array(rule.drop))
        mask = np.zeros((halo.height, halo.width), bool)
        mask[wide.within(halo).slices] = found if inside is None else found & inside
        return dilate(mask, rule.dilate)[part.within(halo).slices]

    def _read_file(self, call: ReadCall, step: int, part: Window, data: np.ndarray) -> np.ndarray | None:
        """Read stored values of a part of the grid into ``data`` (h, w, n).

        Returns:
            Bool (h, w), inside the file by its mask or alpha band; None where that is everywhere, or
            nodata says it.
        """
        file = self.spec.files[call.file]
        box = _raster_window(part.within(file.window) if file.warp is None else part)
        try:
            dataset = self._pool.get(file, call.nodata)
            # The bands of a pixel lie side by side in the cube: GDAL puts them there in one pass.
            dataset.read(list(call.indexes), window=box, out=data.transpose(2, 0, 1))
            if file.warp is None:
                return None if file.alpha is None else read_alpha(dataset, file.alpha, box)
            if call.nodata is not None:
                return None
            return read_alpha(dataset, alpha_band(dataset), box)
        except (RasterioError, CPLE_BaseError, IndexError, UnreadableSourceError) as error:
            self._pool.discard(file, call.nodata)
            names = ", ".join(str(index) for index in call.indexes)
            raise UnreadableSourceError(
                f"cannot read image {file.path}, band {names}, time step {step}"
                f" ({self.spec.steps[step].label}), window row {part.row} col {part.col}"
                f" {part.height} x {part.width}: {error.__cause__ or error};"
                " replace the file and run generate-img-series again",
                file.path,
            ) from error


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.col, window.row, window.width, window.height)
