"""Patches, halos and strips: how pixels with neighbours are laid out for a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dlts_beam.grid import Window


class Strip(NamedTuple):
    """One input of a serving model and where its outputs go.

    Attributes:
        cube: float32 (T, 1 + 2h, N + 2h, B).
        outputs: int64 (n,): which of the N outputs are wanted.
        pixels: int64 (n,): their flat positions (row * width + col) in the window.
    """

    cube: np.ndarray
    outputs: np.ndarray
    pixels: np.ndarray


def replicate_edges(cube: np.ndarray, read: Window, wanted: Window) -> np.ndarray:
    """Widen (T, H, W, B) from the window that was read to the one wanted, repeating the edge pixels.

    ``read`` is the part of ``wanted`` inside the grid.
    """
    top, left = read.row - wanted.row, read.col - wanted.col
    bottom = wanted.height - read.height - top
    right = wanted.width - read.width - left
    if top == left == bottom == right == 0:
        return cube
    return np.pad(cube, ((0, 0), (top, bottom), (left, right), (0, 0)), mode="edge")


def extract_patches(cube: np.ndarray, rows: np.ndarray, cols: np.ndarray, patch: int) -> np.ndarray:
    """Cut (N, T, P, P, B) out of a cube (T, H, W, B); (rows, cols) are upper left corners of patches."""
    steps = np.arange(patch)
    at_rows = rows[:, None, None] + steps[None, :, None]
    at_cols = cols[:, None, None] + steps[None, None, :]
    return np.moveaxis(cube[:, at_rows, at_cols], 1, 0)


def replicate_patch_edges(
    patches: np.ndarray, rows: np.ndarray, cols: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Repeat the grid's edge pixels in patch positions outside the grid: the twin of ``replicate_edges``.

    Args:
        patches: (N, T, P, P, B), centred on pixel (rows[n], cols[n]) of a height x width grid.

    Returns:
        The same array where every patch lies inside, else a new one.
    """
    half = patches.shape[2] // 2
    inside = (rows >= half) & (rows < height - half) & (cols >= half) & (cols < width - half)
    if inside.all():
        return patches
    out = patches.copy()
    steps = np.arange(-half, half + 1)
    for n in np.flatnonzero(~inside):
        at_row = np.clip(rows[n] + steps, 0, height - 1) - rows[n] + half
        at_col = np.clip(cols[n] + steps, 0, width - 1) - cols[n] + half
        out[n] = patches[n][:, at_row][:, :, at_col]
    return out


def iter_strips(cube: np.ndarray, halo: int, batch: int, wanted: np.ndarray) -> Iterator[Strip]:
    """Lay a window out as strips of ``batch`` outputs, without building a patch per pixel.

    The rows of the padded window are laid side by side along the columns, so one strip may hold the
    end of one row and the start of the next; outputs whose patch would straddle two rows are not
    wanted. A pixel model (halo 0) gets the wanted pixels only. The last strip is padded with zeros.

    Args:
        cube: float32 (T, H + 2 * halo, W + 2 * halo, B).
        halo: half the patch side.
        batch: N outputs per strip.
        wanted: bool (H, W); strips without a wanted pixel are left out.
    """
    steps, padded_height, padded_width, bands = cube.shape
    height, width = padded_height - 2 * halo, padded_width - 2 * halo
    if wanted.shape != (height, width):
        raise ValueError(f"wanted must be {height} x {width}; got {wanted.shape}")
    targets = np.flatnonzero(wanted)
    if halo == 0:
        flat = cube.reshape(steps, height * width, bands)
        for start in range(0, len(targets), batch):
            pixels = targets[start : start + batch]
            strip = np.zeros((steps, 1, batch, bands), np.float32)
            first, last = int(pixels[0]), int(pixels[-1]) + 1
            # Pixels in one piece, the usual case, are copied ten times faster than chosen ones.
            part = slice(first, last) if last - first == len(pixels) else pixels
            strip[:, 0, : len(pixels)] = flat[:, part]
            yield Strip(strip, np.arange(len(pixels)), pixels)
        return
    outputs = targets // width * padded_width + targets % width
    for start in range(0, height * padded_width, batch):
        low, high = np.searchsorted(outputs, (start, start + batch))
        if low == high:
            continue
        strip = np.zeros((steps, 1 + 2 * halo, batch + 2 * halo, bands), np.float32)
        for shift in range(1 + 2 * halo):
            rows = cube[:, shift : shift + height].reshape(steps, height * padded_width, bands)
            columns = rows[:, start : start + batch + 2 * halo]
            strip[:, shift, : columns.shape[1]] = columns
        yield Strip(strip, outputs[low:high] - start, targets[low:high])
