"""From stored values to values and validity: the first of the two pure functions (see the specs)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlts_beam.spec.series import Band, Reading

SCALE_PIECE = 16384  # values scaled at once


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
    if not holds(stored.dtype, nodata):
        return np.ones(stored.shape, bool)
    assert nodata is not None
    return stored != stored.dtype.type(int(nodata))


def holds(dtype: np.dtype, nodata: float | None) -> bool:
    """True where a nodata value is given and pixels of the type can have it; a rounded float counts."""
    if nodata is None or dtype.kind == "f":
        return nodata is not None
    info = np.iinfo(dtype)
    return info.min <= nodata <= info.max and nodata == int(nodata)


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
    values = np.empty(stored.shape, np.float32)
    valid = np.array(covered, bool, order="C")
    apply_reading_to(stored, values, valid, bands, reading)
    return values, valid


def apply_reading_to(
    stored: np.ndarray,
    values: np.ndarray,
    valid: np.ndarray,
    bands: Sequence[Band],
    reading: Reading,
    zeroed: bool = False,
) -> None:
    """``apply_reading`` in place: ``values`` is filled, ``valid`` (``covered`` before) is narrowed.

    Args:
        stored, values, valid: (..., B) of one shape; ``values`` and ``valid`` are C-contiguous.
        zeroed: True promises that ``stored`` is 0 wherever it is not covered.
    """
    # What is not valid may hold anything; it becomes 0 below.
    with np.errstate(over="ignore", invalid="ignore"):
        _scale(stored, values, bands)
    narrowed = stored.dtype.kind == "f" or not _stays_finite(stored.dtype, bands)
    if narrowed:
        valid &= np.isfinite(values)
    if reading.valid_min is not None:
        valid &= values >= np.float32(reading.valid_min)
    if reading.valid_max is not None:
        valid &= values <= np.float32(reading.valid_max)
    plain = all(band.scale > 0 and band.offset == 0 for band in bands)
    if zeroed and plain and not narrowed and reading.valid_min is None and reading.valid_max is None:
        return
    if not valid.all():
        np.copyto(values, np.float32(0), where=~valid)


def _scale(stored: np.ndarray, values: np.ndarray, bands: Sequence[Band]) -> None:
    """Values = stored x scale + offset, computed as float64 and rounded once."""
    scales, offsets = {band.scale for band in bands}, {band.offset for band in bands}
    if offsets == {0.0} and scales == {1.0}:
        np.copyto(values, stored, casting="unsafe")
        return
    if offsets == {0.0} and len(scales) == 1:
        np.multiply(stored, scales.pop(), out=values, dtype=np.float64, casting="unsafe")
        return
    # In pieces that stay in the cache: a float64 copy of the whole would cost more than the sums.
    pixels = max(1, SCALE_PIECE // len(bands))
    scale = np.tile(np.array([band.scale for band in bands], np.float64), pixels)
    offset = np.tile(np.array([band.offset for band in bands], np.float64), pixels)
    source, target = stored.reshape(-1), values.reshape(-1)
    piece = np.empty(len(scale), np.float64)
    for start in range(0, len(source), len(scale)):
        part = source[start : start + len(scale)]
        product = np.multiply(part, scale[: len(part)], out=piece[: len(part)])
        product += offset[: len(part)]
        target[start : start + len(part)] = product


def _stays_finite(dtype: np.dtype, bands: Sequence[Band]) -> bool:
    """True where no value of an integer type can leave the range of float32."""
    info = np.iinfo(dtype)
    largest = max(abs(int(info.min)), int(info.max))
    return all(largest * abs(band.scale) + abs(band.offset) < 1e38 for band in bands)


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
