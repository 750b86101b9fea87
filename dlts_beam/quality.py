"""How well a sample's label agrees with those of similar series: a score in 0..1 for each sample.

Series are compared at the centre pixel, gaps filled, in z-scores per band; bands and time steps that tell the
classes apart count more. A sample is judged by its nearest neighbours alone, never by itself nor by others of
its own feature (which share its label, right or wrong). Where a class is one feature, as in a file of one
multipoint for each class, its samples judge each other.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlts_beam.centres import Centres
from dlts_beam.grid import Grid
from dlts_beam.sampling import centres as map_centres
from dlts_beam.statistics import Moments
from dlts_beam.tensors.preparation import fill_gaps

QUALITY_CSV = "quality.csv"
HEADER = ("id", "quality", "x", "y", "label", "neighbours")
NEIGHBOURS = 15
# Samples that can be neighbours: all in most sets, else an even draw; their numbers take 12 bits.
REFERENCES = 4096
_NUMBER_BITS = REFERENCES - 1
BLOCK = 512  # samples compared at once: a block of distances takes 8 MiB
DIGITS = 4
LEAST_WITHIN = 0.1  # share of the variance that lies within classes, at least, when values are weighted


class Scores(NamedTuple):
    """float32 (N,) in 0..1, and int64 (N,), the class that most neighbours have (-1 without neighbours)."""

    quality: np.ndarray
    majority: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """Scores samples against references.

    Attributes:
        mean, sd: float64 (B,), of all samples.
        weight: float64 (T, B), see `separation`.
        factors: float32 (T x B + 2, R): -2 r, |r|^2 and 1 for the z-scores r of each reference, so that one
            matrix product with (x, 1, |x|^2) gives all squared distances.
        class_id, feature: int64 (R,), of the references, features ascending.
        ids: bytes (R,), of the references.
        single: bool (K,), classes that are one feature.
    """

    mean: np.ndarray
    sd: np.ndarray
    weight: np.ndarray
    factors: np.ndarray
    class_id: np.ndarray
    feature: np.ndarray
    ids: np.ndarray
    single: np.ndarray

    @classmethod
    def of(cls, references: Centres, moments: Moments) -> Scorer:
        """Of at most ``REFERENCES`` samples, and the moments (K, T, B) of all."""
        if len(references) > REFERENCES:
            raise ValueError(f"there can be {REFERENCES} references; got {len(references)}")
        bands = moments.over(0, 1)
        ordered = references.take(np.lexsort((references.ids, references.feature)))
        weight = separation(moments)
        series = normalised(ordered, bands.mean, bands.sd, weight)
        ones = np.ones((len(series), 1), np.float32)
        factors = np.ascontiguousarray(np.hstack([-2 * series, _squares(series), ones]).T)
        pairs = np.unique(np.stack([ordered.feature, ordered.class_id]), axis=1)
        single = np.bincount(pairs[1], minlength=len(moments.count)) == 1
        own = ordered.class_id, ordered.feature, ordered.ids
        return cls(bands.mean, bands.sd, weight, factors, *own, single)

    def score(self, centres: Centres) -> Scores:
        """The score of each sample.

        The share of the nearest neighbours with the sample's own class; the neighbour of rank r counts
        1 / sqrt(r). There are 15, or as many as the class has references that may judge it: a class of six
        can be good.
        A sample without any neighbour scores 1: nothing speaks against it.
        """
        quality = np.empty(len(centres), np.float32)
        majority = np.empty(len(centres), np.int64)
        series = normalised(centres, self.mean, self.sd, self.weight)
        for start in range(0, len(centres), BLOCK):
            part = slice(start, start + BLOCK)
            own = centres.take(np.arange(len(centres))[part])
            near, judges = self._nearest(series[part], own)
            quality[part], majority[part] = self._agreement(near, judges, own.class_id)
        return Scores(quality, majority)

    def _nearest(self, series: np.ndarray, own: Centres) -> tuple[np.ndarray, np.ndarray]:
        """Numbers int64 (n, k) of the nearest references in order, -1 where there are no more.

        Second, int64 (n,), how many references of its own class may judge each sample.
        """
        count, width = series.shape
        # Always a full block, so that a sample's distances do not depend on how many stand beside it.
        block = np.ones((BLOCK, width + 2), np.float32)
        block[:count, :width] = series
        block[:count, width + 1 :] = _squares(series)
        squares = (block @ self.factors)[:count]
        np.maximum(squares, 0, out=squares)
        rows, columns = _members(self.feature, own.feature)
        barred = ~self.single[own.class_id[rows]] | (self.ids[columns] == own.ids[rows])
        rows, columns = rows[barred], columns[barred]
        squares[rows, columns] = np.inf
        # A feature has one class: all that are barred are of the sample's own.
        judges = np.bincount(self.class_id, minlength=len(self.single))[own.class_id]
        judges = judges - np.bincount(rows, minlength=count)
        # The lowest bits of a distance make room for the reference's number: one partition finds both, and
        # ties have one order. Floats that are not negative compare like their bits.
        keys = squares.view(np.int32)
        keys &= ~np.int32(_NUMBER_BITS)
        keys |= np.arange(len(self.feature), dtype=np.int32)
        wanted = min(NEIGHBOURS, len(self.feature))
        nearest = np.sort(np.partition(keys, wanted - 1, axis=1)[:, :wanted], axis=1)
        gone = np.float32(np.inf).view(np.int32)
        return np.where(nearest >= gone, -1, nearest & _NUMBER_BITS).astype(np.int64), judges

    def _agreement(
        self, near: np.ndarray, judges: np.ndarray, class_id: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        rank = np.arange(near.shape[1])
        there = near >= 0
        judged = there & (rank < np.maximum(judges, 1)[:, None])
        weights = (1 / np.sqrt(rank + 1)).astype(np.float32)
        votes = self.class_id[near]
        total = (judged * weights).sum(axis=1)
        agree = ((votes == class_id[:, None]) & judged) @ weights
        quality = np.where(total > 0, agree / np.where(total > 0, total, 1), 1)
        ballots = np.zeros((len(near), len(self.single)), np.float32)
        for column in range(near.shape[1]):
            ballots[np.arange(len(near)), votes[:, column]] += weights[column] * there[:, column]
        return quality, np.where(there.any(axis=1), ballots.argmax(axis=1), -1)


def _squares(series: np.ndarray) -> np.ndarray:
    """float32 (N, 1), squared lengths."""
    return np.einsum("ij,ij->i", series, series)[:, None]


def _members(ascending: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where wanted numbers stand among ascending ones: rows (of ``wanted``) and columns, pair by pair."""
    first = np.searchsorted(ascending, wanted, "left")
    counts = np.searchsorted(ascending, wanted, "right") - first
    rows = np.repeat(np.arange(len(wanted)), counts)
    before = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - np.repeat(before - first, counts)


def separation(moments: Moments) -> np.ndarray:
    """float64 (T, B): how well each value tells classes apart, from the moments (K, T, B) of all samples.

    The variance between the classes over that within them; 1 where no value tells anything. One
    label in many hardly moves it, so that it can serve to judge that very label.
    """
    within = moments.squares.sum(axis=0)
    whole = moments.over(0).squares
    between = np.maximum(whole - within, 0)
    # Where classes have hardly any spread, the ratio says no more than that they are apart.
    ratio = between / np.maximum(np.maximum(within, LEAST_WITHIN * whole), np.finfo(float).tiny)
    return ratio if ratio.any() else np.ones_like(ratio)


def normalised(centres: Centres, mean: np.ndarray, sd: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float32 (N, T x B): weighted z-scores per band, gaps filled over days.

    The mean stands where nothing was observed.
    """
    scale = np.where(sd > 0, sd, 1)
    values = ((centres.values - mean) / scale).astype(np.float32)
    values[~centres.valid] = 0
    filled = fill_gaps(
        np.ascontiguousarray(np.moveaxis(values, 0, 1)),
        np.ascontiguousarray(np.moveaxis(centres.valid, 0, 1)),
        np.ascontiguousarray(centres.days.T),
        np.zeros(len(mean), np.float32),
    )
    weighted = np.moveaxis(filled, 1, 0) * weight.astype(np.float32)
    return np.ascontiguousarray(weighted).reshape(len(centres), -1)


class Row(NamedTuple):
    """One line of ``quality.csv``."""

    id: str
    quality: float
    x: float
    y: float
    label: str
    neighbours: str


def csv_lines(centres: Centres, scores: Scores, grid: Grid, names: tuple[str, ...]) -> str:
    """Lines of ``quality.csv``, one for each sample in order; ``neighbours`` is the neighbours' class."""
    x, y = map_centres(grid, centres.row, centres.col)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (centres.ids, scores.quality, x, y, centres.class_id, scores.majority)
    for name, quality, at_x, at_y, own, other in zip(*(c.tolist() for c in columns), strict=True):
        majority = "" if other < 0 else names[other]
        writer.writerow((name.decode(), f"{quality:.{DIGITS}f}", at_x, at_y, names[own], majority))
    return text.getvalue()


def header_line() -> str:
    """The first line of ``quality.csv``."""
    return ",".join(HEADER) + "\n"


def read_rows(lines: Iterable[str]) -> Iterator[Row]:
    """The rows of ``quality.csv``, its header included in ``lines``."""
    for row in csv.DictReader(lines):
        quality, x, y = (float(row[name]) for name in ("quality", "x", "y"))
        yield Row(row["id"], quality, x, y, row["label"], row["neighbours"])
