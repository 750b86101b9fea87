"""From stored values to values and validity: the first of the two pure functions (see the specs)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlts_beam.spec.series import Band, Reading


def stored_valid(stored: np.ndarray, nodata: float | None) -> np.ndarray:
    """Bool, same shape: True where a stored value is neither nodata nor NaN (any shape and dtype).

    A nodata value that the dtype cannot hold marks nothing; a float32 band compares its nodata
    as float32, so that -3.4e38 written with too few digits still matches.
    """
    if stored.dtype.kind == "f":
        valid = ~np.isnan(stored)
        if nodata is not None:
            # A huge float64 nodata overflows to infinity in float32: then it marks infinities.
            with np.errstate(over="ignore"):
                valid &= stored != stored.dtype.type(nodata)
        return valid
    info = np.iinfo(stored.dtype)
    if nodata is None or nodata != int(nodata) or not info.min <= nodata <= info.max:
        return np.ones(stored.shape, bool)
    return stored != int(nodata)


def apply_reading(
    stored: np.ndarray, covered: np.ndarray, bands: Sequence[Band], reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Apply scale, offset and valid range to stored values.

    Args:
        stored: (..., B) in the common source dtype.
        covered: bool (..., B), True where some source gave a valid stored value (nodata, NaN and
            the mask band are already out of it).
        bands: B bands.

    Returns:
        values float32 (..., B), 0 where not valid, and valid bool (..., B).
    """
    scale = np.array([band.scale for band in bands], np.float64)
    offset = np.array([band.offset for band in bands], np.float64)
    if (scale == 1).all() and (offset == 0).all():
        values = stored.astype(np.float32)
    else:
        values = (stored * scale + offset).astype(np.float32)
    valid = covered & np.isfinite(values)
    if reading.valid_min is not None:
        valid &= values >= np.float32(reading.valid_min)
    if reading.valid_max is not None:
        valid &= values <= np.float32(reading.valid_max)
    if not valid.all():
        values[~valid] = 0
    return values, valid


def dilate(drop: np.ndarray, reach: int) -> np.ndarray:
    """Bool (row, col): True up to ``reach`` pixels away from a True one (square neighbourhood).

    The caller reads with a halo of ``reach`` pixels and crops the result, so that the answer does
    not depend on how the raster is cut into windows.
    """
    if reach == 0:
        return drop
    height, width = drop.shape
    padded = np.pad(drop, reach)
    # A square neighbourhood is separable: first along rows, then along columns.
    rows = np.zeros((height, width + 2 * reach), bool)
    for shift in range(2 * reach + 1):
        rows |= padded[shift : shift + height]
    out = np.zeros(drop.shape, bool)
    for shift in range(2 * reach + 1):
        out |= rows[:, shift : shift + width]
    return out
