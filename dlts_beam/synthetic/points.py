"""Labelled points of a scene, as a field campaign would collect them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlts_beam.synthetic.scene import Scene


@dataclass(frozen=True)
class Points:
    """Labelled points, all arrays of (N,).

    Attributes:
        row, col: int, the pixel.
        x, y: float64, map coordinates inside the pixel (not its centre).
        value: uint8, the class value.
    """

    row: np.ndarray
    col: np.ndarray
    x: np.ndarray
    y: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def sample_points(scene: Scene, per_class: int = 300, seed: int = 11) -> Points:
    """Draw up to ``per_class`` points of each class, spread over the scene; no pixel twice.

    The scene is cut into 16 x 16 squares. Each class takes one pixel from every square that holds
    it, then a second one, and so on.
    """
    rng = np.random.default_rng(seed)
    height, width = scene.truth.shape
    chosen = []
    for value in scene.classes.values:
        row, col = np.nonzero(scene.truth == value)
        order = rng.permutation(len(row))
        row, col = row[order], col[order]
        square = row * 16 // height * 16 + col * 16 // width
        by_square = np.argsort(square, kind="stable")
        ordered = square[by_square]
        start = np.searchsorted(ordered, ordered)
        turn = np.empty(len(row), np.int64)
        turn[by_square] = np.arange(len(row)) - start
        take = np.argsort(turn, kind="stable")[:per_class]
        chosen.append((row[take], col[take], np.full(len(take), value, np.uint8)))
    row, col, label = (np.concatenate(part) for part in zip(*chosen, strict=True))
    order = rng.permutation(len(row))
    row, col, label = row[order], col[order], label[order]
    inside = rng.uniform(0.1, 0.9, (2, len(row)))
    a, b, c, d, e, f = scene.grid.transform
    x = a * (col + inside[0]) + b * (row + inside[1]) + c
    y = d * (col + inside[0]) + e * (row + inside[1]) + f
    return Points(row, col, x, y, label)
