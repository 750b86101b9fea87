"""From places to shards: points to pixels, duplicates and conflicts, windows, contiguous shard ranges.

Everything here is integer arithmetic on small arrays: no pixel is read. Order and contents depend on the
input alone, never on workers or chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlts_beam.grid import Grid, Window
from dlts_beam.spec.series import Band, SeriesSpec

WINDOW = 256
WINDOW_BYTES = 192 << 20  # stored values and validity of one window, were all of its pixels wanted
SHARD_BYTES = 128 << 20  # series of one shard before compression
WINDOW_ROWS = 4  # of one shard: a seam between two shards is decoded by both


@dataclass(frozen=True)
class Candidates:
    """N pixels that may become samples; all arrays int64 (N,).

    Attributes:
        feature: number of the feature in the vector file.
        row, col: pixel.
        class_id: class.
        cut: which of the time cuts (see `dlts_beam.intervals`) is its series.
    """

    feature: np.ndarray
    row: np.ndarray
    col: np.ndarray
    class_id: np.ndarray
    cut: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> Candidates:
        """Those at the given positions (or where a bool array is True)."""
        parts = (self.feature, self.row, self.col, self.class_id, self.cut)
        return Candidates(*(part[index] for part in parts))


class Resolved(NamedTuple):
    """Positions (int64, ascending) of candidates by what became of them; together they are all of them."""

    kept: np.ndarray
    duplicate: np.ndarray
    conflict: np.ndarray


class Touched(NamedTuple):
    """A window and the candidates of a shard whose patches touch it.

    Attributes:
        window: pixels.
        members: int64 (n,), ascending positions in the shard's candidates.
        start, stop: those of the members, next to each other, for which this window is the last one.
    """

    window: Window
    members: np.ndarray
    start: int
    stop: int


@dataclass(frozen=True)
class ShardPlan:
    """One output file: its candidates in the order in which they are written, and their kept attributes."""

    shard: int
    shards: int
    points: Candidates
    kept: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Tiling:
    """Windows of one shape over a grid, numbered row by row, for patches of one size.

    A patch is complete when the last window that it touches has been read: the one that holds its lower
    right pixel, or the part of it inside the grid.
    """

    grid: Grid
    height: int
    width: int
    patch: int

    @property
    def across(self) -> int:
        """Number of windows in a row."""
        return -(-self.grid.width // self.width)

    def window(self, number: int) -> Window:
        """The window of a number."""
        row, col = number // self.across * self.height, number % self.across * self.width
        height, width = min(self.height, self.grid.height - row), min(self.width, self.grid.width - col)
        return Window(row, col, height, width)

    def reach(self, points: Candidates) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """First and last row, first and last column of windows that each patch touches; int64 (N,) each."""
        half = self.patch // 2
        return (
            np.maximum(points.row - half, 0) // self.height,
            np.minimum(points.row + half, self.grid.height - 1) // self.height,
            np.maximum(points.col - half, 0) // self.width,
            np.minimum(points.col + half, self.grid.width - 1) // self.width,
        )

    def last(self, points: Candidates) -> np.ndarray:
        """int64 (N,): number of the window in which each patch is complete."""
        _, last_row, _, last_col = self.reach(points)
        return last_row * self.across + last_col

    def touched(self, points: Candidates) -> Iterator[Touched]:
        """Every window that a patch touches, once, in order; ``points`` are in the order of `last`."""
        first_row, last_row, first_col, last_col = self.reach(points)
        numbers, members = [], []
        for down in range(int((last_row - first_row).max()) + 1):
            for right in range(int((last_col - first_col).max()) + 1):
                row, col = first_row + down, first_col + right
                member = np.flatnonzero((row <= last_row) & (col <= last_col))
                numbers.append((row * self.across + col)[member])
                members.append(member)
        number, member = np.concatenate(numbers), np.concatenate(members)
        order = np.lexsort((member, number))
        number, member = number[order], member[order]
        ends = np.append(np.flatnonzero(np.diff(number)) + 1, len(number))
        complete, begin = last_row * self.across + last_col, 0
        for end in ends.tolist():
            here = int(number[begin])
            start, stop = np.searchsorted(complete, (here, here + 1))
            yield Touched(self.window(here), member[begin:end], int(start), int(stop))
            begin = end


def pixels_of(grid: Grid, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns int64 (N,) of the pixels that hold map coordinates float64 (N,): `Grid.rowcol`'s twin.

    By floor, never by truncation: a place just left of or above the grid gets row or column -1. A place
    without finite coordinates gets (-1, -1).
    """
    finite = np.isfinite(x) & np.isfinite(y)
    left, top = grid.transform[2], grid.transform[5]
    with np.errstate(invalid="ignore"):  # a place beyond all integers is outside, whatever it becomes
        rows, cols = grid.rowcols(np.where(finite, x, left), np.where(finite, y, top))
    return np.where(finite, rows, -1), np.where(finite, cols, -1)


def inside(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Bool (N,): True where (row, col) is a pixel of the grid."""
    return (rows >= 0) & (rows < grid.height) & (cols >= 0) & (cols < grid.width)


def centres(grid: Grid, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates float64 (N,) of pixel centres: x and y."""
    a, b, c, d, e, f = grid.transform
    at_row, at_col = rows + 0.5, cols + 0.5
    return a * at_col + b * at_row + c, d * at_col + e * at_row + f


def resolve(candidates: Candidates) -> Resolved:
    """Settle pixels that are named more than once with the same time cut.

    Same class: the first is kept, the others are duplicates. Different classes: all are conflicts.
    """
    if not len(candidates):
        nothing = np.zeros(0, np.int64)
        return Resolved(nothing, nothing, nothing)
    order = np.lexsort((candidates.col, candidates.row, candidates.cut))  # stable: first stays first
    keys = np.stack([candidates.cut, candidates.row, candidates.col])[:, order]
    new = np.concatenate([[True], (np.diff(keys) != 0).any(axis=0)])
    starts, group = np.flatnonzero(new), np.cumsum(new) - 1
    classes = candidates.class_id[order]
    mixed = np.minimum.reduceat(classes, starts) != np.maximum.reduceat(classes, starts)
    conflict = mixed[group]
    return Resolved(
        np.sort(order[new & ~conflict]), np.sort(order[~new & ~conflict]), np.sort(order[conflict])
    )


def common_dtype(bands: Sequence[Band]) -> np.dtype:
    """The data type that holds the stored values of all bands."""
    return np.result_type(*(np.dtype(band.dtype) for band in bands))


def make_tiling(series: SeriesSpec, patch: int) -> Tiling:
    """Windows on the block grid of the sources, about 256 pixels a side, wide ones where blocks are strips.

    No block is then decoded for two windows, unless one block's series alone passes the budget.
    """
    grid = series.grid
    block_height = max(file.block[0] for file in series.files)
    block_width = max(file.block[1] for file in series.files)
    width = grid.width if block_width >= grid.width else _multiple(WINDOW, block_width)
    height = _multiple(max(1, WINDOW * WINDOW // width), block_height)
    per_pixel = len(series.steps) * len(series.bands) * (common_dtype(series.bands).itemsize + 1)
    pixels = WINDOW_BYTES // per_pixel
    height, width = min(height, grid.height), min(width, grid.width)
    while height * width > pixels and max(height, width) > 16:
        height, width = (-(-height // 2), width) if height >= width else (height, -(-width // 2))
    return Tiling(grid, height, width, patch)


def _multiple(size: int, block: int) -> int:
    """The smallest multiple of ``block`` that is at least ``size``."""
    return -(-size // block) * block


def shard_count(window_rows: int, samples: int, bytes_per_sample: int) -> int:
    """How many shards to write: a function of the data alone, so that every machine gives the same files."""
    return max(1, math.ceil(samples * bytes_per_sample / SHARD_BYTES), round(window_rows / WINDOW_ROWS))


def plan_shards(
    candidates: Candidates,
    kept: Sequence[Sequence[str]],
    tiling: Tiling,
    bytes_per_sample: int,
    shards: int | None = None,
) -> Iterator[ShardPlan]:
    """Order candidates by window and cut them into contiguous ranges of windows, one per shard.

    Every candidate is in exactly one plan, in the order of windows, rows, columns and cuts.

    Args:
        candidates: what is to be cut out, each pixel and cut once.
        kept: per kept attribute one text per feature of the vector file.
        tiling: the windows.
        bytes_per_sample: of the stored series.
        shards: how many to make, at most one per window; None decides by `shard_count`.
    """
    last = tiling.last(candidates)
    order = np.lexsort((candidates.cut, candidates.col, candidates.row, last))
    ordered, last = candidates.take(order), last[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(last) != 0]))
    stops = np.append(starts[1:], len(ordered))
    if shards is None:
        rows = len(np.unique(last // tiling.across))
        shards = shard_count(rows, len(ordered), bytes_per_sample)
    bounds = _balanced(stops - starts, min(shards, len(starts)), tiling.height * tiling.width)
    for shard, (first, end) in enumerate(bounds):
        points = ordered.take(np.arange(starts[first], stops[end - 1]))
        features = points.feature.tolist()
        texts = tuple(tuple(column[feature] for feature in features) for column in kept)
        yield ShardPlan(shard, len(bounds), points, texts)


def _balanced(counts: np.ndarray, shards: int, window_cost: int) -> list[tuple[int, int]]:
    """Cut windows into ``shards`` contiguous, non-empty ranges of about equal work.

    A window costs its pixels, a sample about as much as 20 pixels.
    """
    total = np.cumsum(window_cost + 20 * counts)
    ends: list[int] = []
    for shard in range(1, shards + 1):
        end = int(np.searchsorted(total, total[-1] * shard / shards)) + 1
        low, high = (ends[-1] if ends else 0) + 1, len(counts) - (shards - shard)
        ends.append(min(max(end, low), high))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def block_ids(x: np.ndarray, y: np.ndarray, size: float) -> list[str]:
    """Name of the square block of ``size`` map units that holds each place."""
    across, down = np.floor(x / size).astype(np.int64), np.floor(y / size).astype(np.int64)
    return [f"{column}_{row}" for column, row in zip(across.tolist(), down.tolist(), strict=True)]


def default_block_size(grid: Grid) -> float:
    """Side of the spatial blocks in map units: a 20th of the grid's longer side, at least 10 pixels."""
    left, bottom, right, top = grid.bounds()
    a, b, _, d, e, _ = grid.transform
    pixel = math.sqrt(abs(a * e - b * d))
    return max(10 * pixel, max(right - left, top - bottom) / 20)
