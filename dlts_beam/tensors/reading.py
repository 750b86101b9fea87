"""From stored values to values and validity: the first of the two pure functions (see the specs)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from dlts_beam.spec.series import Band, Reading

# Values that go through all passes before the next ones: they are then still in the processor's cache.
READING_PIECE = 131_072
SCALE_PIECE = 32_768


def stored_valid(stored: np.ndarray, nodata: float | None, out: np.ndarray | None = None) -> np.ndarray:
    """Bool, same shape: True where a stored value is neither nodata nor NaN (any shape and dtype).

    The answer is written to ``out`` where that is given. A nodata value that the dtype cannot hold
    marks nothing; a float32 band compares its nodata as float32, so that -3.4e38 written with too few
    digits still matches.
    """
    valid = np.empty(stored.shape, bool) if out is None else out
    if stored.dtype.kind == "f":
        np.equal(stored, stored, out=valid)
        if nodata is not None:
            # A huge float64 nodata overflows to infinity in float32: then it marks infinities.
            with np.errstate(over="ignore"):
                valid &= stored != stored.dtype.type(nodata)
        return valid
    if nodata is not None and holds(stored.dtype, nodata):
        return np.not_equal(stored, stored.dtype.type(int(nodata)), out=valid)
    valid.fill(True)
    return valid


def holds(dtype: np.dtype, nodata: float | None) -> bool:
    """True where a nodata value is given and pixels of the type can have it; a rounded float counts."""
    if nodata is None or dtype.kind == "f":
        return nodata is not None
    low, high = _range(dtype)
    return low <= nodata <= high and nodata == int(nodata)


@functools.cache
def _range(dtype: np.dtype) -> tuple[int, int]:
    """Smallest and largest value of an integer type; asking numpy takes as long as a small window."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


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
    rows = len(stored)
    if stored.ndim > 1 and stored.size > READING_PIECE:
        rows = max(1, READING_PIECE * rows // stored.size)
    # What is not valid may hold anything; it becomes 0 in the end.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(stored), rows):
            part = slice(start, start + rows)
            _apply_to_piece(stored[part], values[part], valid[part], bands, reading, zeroed)


def _apply_to_piece(
    stored: np.ndarray,
    values: np.ndarray,
    valid: np.ndarray,
    bands: Sequence[Band],
    reading: Reading,
    zeroed: bool,
) -> None:
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
    same = len(scales) == len(offsets) == 1
    scale = np.tile(np.array([band.scale for band in bands], np.float64), 1 if same else pixels)
    offset = np.tile(np.array([band.offset for band in bands], np.float64), 1 if same else pixels)
    source, target = stored.reshape(-1), values.reshape(-1)
    piece = np.empty(pixels * len(bands), np.float64)
    for start in range(0, len(source), len(piece)):
        part = source[start : start + len(piece)]
        product = np.multiply(part, scale[0] if same else scale[: len(part)], out=piece[: len(part)])
        product += offset[0] if same else offset[: len(part)]
        target[start : start + len(part)] = product


def _stays_finite(dtype: np.dtype, bands: Sequence[Band]) -> bool:
    """True where no value of an integer type can leave the range of float32."""
    largest = max(map(abs, _range(dtype)))
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
