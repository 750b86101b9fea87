"""What a model is fed: one definition for the trainer (samples) and for step 4 (windows).

The two sides arrange pixels differently, and fill the patch positions outside the grid on their own side, but
every pixel goes through the same reading and the same preparation, so both get the same bits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlts_beam.grid import Grid, Window
from dlts_beam.spec.model import PreparationSpec
from dlts_beam.spec.series import Band, Reading
from dlts_beam.tensors.patches import replicate_edges, replicate_patch_edges
from dlts_beam.tensors.preparation import band_positions, prepare
from dlts_beam.tensors.reading import apply_reading


def sample_values(
    stored: np.ndarray,
    valid: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    grid: Grid,
    bands: Sequence[Band],
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Values of the named bands of stored samples; positions outside the grid repeat its edge.

    Args:
        stored: (N, T, P, P, B) in the samples' dtype.
        valid: bool, same shape: final, the series' reading rules are already in it.
        rows, cols: int (N,), the centres on the grid.
        grid: grid of the samples.
        bands: the B bands of ``stored``.
        names: bands wanted, in order.

    Returns:
        values float32 (N, T, P, P, len(names)), 0 where not valid, and valid bool.

    Raises:
        DltsError: a band is missing.
    """
    columns = band_positions([band.name for band in bands], names)
    if columns != list(range(len(bands))):
        stored, valid = stored[..., columns], valid[..., columns]
    values, valid = apply_reading(stored, valid, [bands[column] for column in columns], Reading())
    where = rows, cols, grid.height, grid.width
    return replicate_patch_edges(values, *where), replicate_patch_edges(valid, *where)


def prepare_patches(
    values: np.ndarray, valid: np.ndarray, days: np.ndarray, spec: PreparationSpec
) -> np.ndarray:
    """Prepare patches that ``sample_values`` made with ``spec.bands``.

    Args:
        values: float32 (N, T, P, P, B).
        valid: bool, same shape.
        days: float64 (T,), or (N, T) where every sample has its own.
        spec: preparation of the model.

    Returns:
        float32 (N, T', P, P, B').
    """
    count, steps, patch, _, bands = values.shape
    if days.ndim == 2:
        # Where all samples share their days, one vector serves all pixels.
        days = days[0] if count and (days == days[0]).all() else np.repeat(days.T, patch * patch, axis=1)
    flat = np.moveaxis(values, 0, 1).reshape(steps, count * patch * patch, bands)
    flat_valid = np.moveaxis(valid, 0, 1).reshape(flat.shape)
    prepared = prepare(flat, flat_valid, days, spec)
    return np.moveaxis(prepared.reshape(len(prepared), count, patch, patch, -1), 1, 0)


def prepare_samples(
    stored: np.ndarray,
    valid: np.ndarray,
    days: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    spec: PreparationSpec,
    grid: Grid,
    bands: Sequence[Band],
) -> np.ndarray:
    """From stored samples to the model's input: ``sample_values``, then ``prepare_patches``.

    Returns:
        float32 (N, T', P, P, B').
    """
    values, valid = sample_values(stored, valid, rows, cols, grid, bands, spec.bands)
    return prepare_patches(values, valid, days, spec)


def prepare_window(
    values: np.ndarray,
    valid: np.ndarray,
    days: np.ndarray,
    spec: PreparationSpec,
    read: Window,
    wanted: Window,
) -> np.ndarray:
    """From a window that was read to the halo-padded cube that ``patches.iter_strips`` takes.

    Args:
        values: float32 (T, h, w, B), the bands of ``spec.bands`` in that order.
        valid: bool, same shape.
        days: float64 (T,).
        spec: preparation of the model.
        read: the window of ``values``: ``wanted`` clipped to the grid.
        wanted: the window to label, grown by the halo.

    Returns:
        float32 (T', H, W, B'), H and W those of ``wanted``; the grid's edge pixels are repeated.
    """
    steps, height, width, bands = values.shape
    if (height, width) != (read.height, read.width):
        raise ValueError(f"values must be {read.height} x {read.width} pixels; got {height} x {width}")
    pixels = height * width
    prepared = prepare(values.reshape(steps, pixels, bands), valid.reshape(steps, pixels, bands), days, spec)
    cube = prepared.reshape(len(prepared), height, width, -1)
    return replicate_edges(cube, read, wanted)
