"""Smooth random fields in plain numpy, the same whatever the number of pixels."""

from __future__ import annotations

import numpy as np

# Standard deviation that a cubic B-spline leaves of unit white noise, over both axes.
_SPLINE_SD = 151 / 315


def smooth_noise(
    rng: np.random.Generator, size: int, cells: int, octaves: int = 1, roughness: float = 0.5
) -> np.ndarray:
    """Return a random field of about zero mean and unit variance, float32 (size, size).

    A lattice of ``cells`` x ``cells`` random numbers is interpolated with cubic B-splines; each
    further octave doubles the cells and adds ``roughness`` times the last one's amplitude. A
    generator in the same state gives the same landscape at any size, only finer.
    """
    total = np.zeros((size, size), np.float32)
    power = 0.0
    for octave in range(octaves):
        amplitude = roughness**octave
        count = cells << octave
        basis = _spline_basis(size, count)
        lattice = rng.standard_normal((count + 3, count + 3)).astype(np.float32)
        total += amplitude * (basis @ lattice @ basis.T)
        power += amplitude**2
    return total / np.float32(_SPLINE_SD * np.sqrt(power))


def box_mean(image: np.ndarray) -> np.ndarray:
    """Return the mean of each pixel's 3 x 3 neighbourhood over the first two axes, edges replicated."""
    padded = np.pad(image, [(1, 1), (1, 1)] + [(0, 0)] * (image.ndim - 2), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _spline_basis(size: int, cells: int) -> np.ndarray:
    """Weights (size, cells + 3) of the lattice's knots at the centres of ``size`` pixels."""
    place = (np.arange(size) + 0.5) / size * cells
    knot = np.floor(place).astype(int)
    t = place - knot
    basis = np.zeros((size, cells + 3), np.float32)
    row = np.arange(size)
    basis[row, knot] = (1 - t) ** 3 / 6
    basis[row, knot + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    basis[row, knot + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    basis[row, knot + 3] = t**3 / 6
    return basis
