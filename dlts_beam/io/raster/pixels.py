"""Some pixels of a window: what step 2 needs of it."""

from __future__ import annotations

import numpy as np

from dlts_beam.grid import Window
from dlts_beam.io.raster.handles import gdal_env
from dlts_beam.io.raster.reader import SeriesReader
from dlts_beam.tensors.reading import READING_PIECE, apply_reading_to


class PixelReader(SeriesReader):
    """Decodes whole windows but keeps and checks the wanted pixels only: one time step at a time.

    Memory is that of the wanted pixels and of one time step of the window.
    """

    def read_pixels(self, window: Window, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Stored values (M, T, B) in ``dtype``, 0 where not valid, and valid bool: as of ``read_stored``.

        Args:
            window: inside the grid.
            pixels: int64 (M,), flat positions in the window, row by row.

        Raises:
            UnreadableSourceError: a file that touches the window cannot be read.
            DltsError: such a file changed after the series was made.
        """
        steps, height, width, bands = self._shape(window)
        stored = np.empty((len(pixels), steps, bands), self.dtype)
        valid = np.empty(stored.shape, bool)
        image, covered = np.empty((height, width, bands), self.dtype), np.empty((height, width, bands), bool)
        with gdal_env(self._remote):
            for step in range(steps):
                covered[:] = False
                self._read_step(step, window, image, covered)
                stored[:, step] = np.take(image.reshape(-1, bands), pixels, axis=0)
                valid[:, step] = np.take(covered.reshape(-1, bands), pixels, axis=0)
        # In parts that stay in the processor's cache.
        rows = max(1, READING_PIECE // (steps * bands))
        values = np.empty((min(rows, len(pixels)), steps, bands), np.float32)
        for start in range(0, len(pixels), rows):
            part, usable = stored[start : start + rows], valid[start : start + rows]
            apply_reading_to(part, values[: len(part)], usable, self.bands, self.spec.reading)
            np.copyto(part, 0, where=~usable, casting="unsafe")
        return stored, valid
